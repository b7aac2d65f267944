// One alarm, from the list to the baseline: heard, answered, applied, counted. In a real Chromium, on an agent's own page.
// Arguments: the page's address, a folder for pictures.
import { strict as assert } from 'node:assert'
import { browser, faults, look, open, step } from './chromium.mjs'

const [address, shots] = process.argv.slice(2)
const until = (page, what, found, argument) =>
  page.waitForFunction(found, argument).catch(error => { throw new Error(`${what}: ${error.message}`) })
const go = (page, place) => page.evaluate(place => { location.hash = '#/' + place }, place)
/** A command as the page sends it. */
const send = (page, command, args) => page.evaluate(async ([command, args]) =>
  (await import('/assets/lib/commands.js')).send('pi-1', command, args, { quiet: true, named: false }), [command, args])

try {
  const page = await open(address, { viewport: { width: 1280, height: 900 } })
  await page.waitForSelector('[data-machine="pi-1/fan-1"]')
  for (;;) {
    const state = await send(page, 'state.get', {})
    if (state.data?.machines[0].baseline.in_use) break
    await page.waitForTimeout(500)
  }
  // A threshold that nothing stays below raises an alarm; then one that nothing exceeds ends it.
  await send(page, 'threshold.set', { machine: 'fan-1', threshold: 1e-6 })
  await go(page, 'alarms')
  await page.click('[data-alarm="pi-1/fan-1"] [data-evidence]')
  await page.waitForSelector('[data-entry]')
  await send(page, 'threshold.set', { machine: 'fan-1', threshold: 900 })
  step('the alarm has a screen of its own')

  // The clip is there 20 s after the alarm.
  await page.waitForSelector('[data-picture]', { timeout: 90000 })
  await until(page, 'the picture', () => document.querySelector('[data-picture]').naturalWidth > 500)
  await until(page, 'the normal windows beside it', () => document.querySelector('[data-normal]')?.naturalWidth > 500)
  await page.waitForSelector('.curves svg path')
  await page.click('[data-do=hear]')
  await page.waitForSelector('[data-player]')
  await until(page, 'the sound', () => document.querySelector('[data-player]').readyState >= 2)
  const seconds = await page.evaluate(() => document.querySelector('[data-player]').duration)
  assert(seconds > 20 && seconds < 61, `${seconds} s of sound`)
  await until(page, 'it plays', () => document.querySelector('[data-player]').currentTime > 0)
  step('it is seen and heard')

  await page.click('[data-outcome=normal]')
  await page.fill('dialog input', 'the hammer next door')
  await page.click('dialog .main')
  await page.fill('dialog input', 'ana')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[data-answer=normal]')
  assert.match(await page.textContent('[data-answer]'), /said by ana.*the hammer next door/s)
  await page.waitForSelector('[data-proposal]')
  assert.equal(await page.getAttribute('[data-gone]', 'data-gone'), '1')
  await look(page, `${shots}/alarm`)
  await page.click('[data-do="baseline.apply"]')
  await page.waitForSelector('[data-note] >> text=Applied')
  const state = await send(page, 'state.get', {})
  assert.equal(state.data.machines[0].baseline.in_use.changes.gone.length, 1)
  step('it is answered, the change is shown and applied')

  await go(page, 'alarms')
  await until(page, 'the statistics', () => document.querySelector('[data-figure=answered] b')?.textContent === '1')
  await page.waitForSelector('[data-past] >> text=normal')
  await look(page, `${shots}/alarms-past`)
  await page.click('[data-past] a')
  await page.click('[data-outcome=fault]')
  await page.fill('dialog [list=faults]', 'bearing')
  await page.click('dialog .main')
  await page.waitForSelector('[data-answer=fault] >> text=bearing')
  await page.waitForSelector('[data-note] >> text=baseline.rollback')
  await go(page, 'alarms')
  await until(page, 'the statistics', () => document.querySelector('[data-figure=fault_share] b')?.textContent === '100 %')
  step('the statistics have changed')
  assert.deepEqual(faults, [])
} finally {
  await browser.close()
}
