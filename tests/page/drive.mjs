// Uses the page as a person would, in a real Chromium, and looks at what it shows. What the agents make of it is checked
// on the broker by tests/cli/page.rs, which also does what a line `please ...` asks for.
// Arguments: the page's address, a folder for the screenshots, the password, a bundle's archive, the address of pi-1's own page.
import { strict as assert } from 'node:assert'
import { LOOKS, browser, faults, open as openAt, picture, step } from './chromium.mjs'

const [address, shots, password, archive, own] = process.argv.slice(2)
/** While the server is away the browser says so in its log. */
let expected = /status of 401/

const open = (viewport, more = {}, at = address) => openAt(at, { viewport, ...more }, text => expected.test(text))
const until = (page, what, found, argument) =>
  page.waitForFunction(found, argument).catch(error => { throw new Error(`${what}: ${error.message}`) })
const go = (page, place) => page.evaluate(place => { location.hash = '#/' + place }, place)
const row = name => `[data-machine="${name}"]`
const done = (page, command, outcome = 'ok') => page.waitForSelector(`[data-reply="${command}"][data-outcome=${outcome}]`)
async function login (page) {
  await page.fill('input[type=password]', password)
  await page.keyboard.press('Enter')
  await page.waitForSelector('.row')
}

try {
  const page = await open({ width: 1280, height: 900 })
  await page.fill('input[type=password]', 'wrong')
  await page.keyboard.press('Enter')
  await page.waitForSelector('text=This password is wrong')
  await login(page)
  step('a wrong password is refused, the right one is taken')

  for (const name of ['pi-1/fan-a', 'pi-1/fan-b', 'pi-2/fan-c', 'pi-3/fan-d']) await page.waitForSelector(row(name))
  await page.waitForSelector(row('pi-1/fan-b') + '.is-alarm')
  await page.waitForSelector(row('pi-3/fan-d') + ' [data-state=gone]')
  await page.waitForSelector(row('pi-2/fan-c') + ' [data-state=normal]')
  assert.equal(await page.getAttribute('.row >> nth=0', 'data-machine'), 'pi-1/fan-b', 'the most urgent is first')
  await page.screenshot({ path: shots + '/machines.png' })
  step('the machines are there, the alarm first, the agent that is gone as offline')

  await page.fill('[type=search]', 'pi-2')
  await until(page, 'one machine is left', () => document.querySelectorAll('.row').length === 1)
  await page.fill('[type=search]', '')
  await page.click('[data-filter=alarm]')
  await until(page, 'the alarm alone', () => document.querySelectorAll('.row').length === 1)
  await page.click('[data-filter=all]')
  step('search and filter')

  // From the keyboard alone: to the machine, to the slider, and the name is asked for once.
  await page.focus(row('pi-1/fan-a') + ' a')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[data-detail="pi-1/fan-a"]')
  await until(page, 'a figure', () => document.querySelector('[data-figure=verdict] b')?.textContent === 'normal')
  await page.waitForSelector('.chart canvas')
  // What is typed stays as it is while windows arrive.
  const typed = '[data-card=threshold] input[type=number]'
  await page.focus(typed)
  await page.fill(typed, '')
  for (const key of '1.2345') {
    const before = await page.textContent('[data-figure=distance] b')
    await page.keyboard.press(key)
    await until(page, 'another window', before => document.querySelector('[data-figure=distance] b').textContent !== before, before)
  }
  assert.equal(await page.inputValue(typed), '1.2345')
  await page.click('[data-card=threshold] >> text=Keep')
  const range = '[data-card=threshold] input[type=range]'
  await page.focus(range)
  for (let press = 0; press < 40; press++) await page.keyboard.press('ArrowRight')
  const wanted = Number(await page.inputValue('[data-card=threshold] input[type=number]'))
  assert(wanted > 2, `the slider moves: ${wanted}`)
  await page.waitForSelector('text=would have called')
  await page.click('[data-do=set]')
  await page.fill('dialog input', 'ana')
  await page.keyboard.press('Enter')
  await done(page, 'threshold.set')
  await until(page, 'the new threshold judges', wanted => Number(document.querySelector('[data-figure=threshold] b').textContent) === wanted, Number(wanted.toPrecision(4)))
  console.log('threshold', wanted)
  await page.screenshot({ path: shots + '/machine.png', fullPage: true })
  step('the threshold is previewed and set')

  await go(page, 'machine/pi-1/fan-b')
  await page.click('[data-do="alarm.acknowledge"]')
  await page.fill('dialog input', 'on my way')
  await page.click('dialog .main')
  await done(page, 'alarm.acknowledge')
  await page.waitForSelector('.machine-head [data-state=acknowledged]')
  await go(page, 'alarms')
  await page.waitForSelector('[data-alarm="pi-1/fan-b"]')
  await page.screenshot({ path: shots + '/alarms.png' })
  await page.click('[data-alarm="pi-1/fan-b"] [data-do="alarm.shelve"]')
  await page.click('dialog .main')
  await done(page, 'alarm.shelve')
  await page.waitForSelector('[data-alarm="pi-1/fan-b"] [data-do="alarm.unshelve"]')
  step('the alarm is acknowledged and shelved')

  await go(page, 'machine/pi-1/fan-a')
  await page.click('[data-do=learn]')
  await page.click('[data-do="baseline.learn"]')
  await done(page, 'baseline.learn')
  await page.waitForSelector('[data-card=learning] [role=progressbar]')
  step('learning begins and shows how far it is')

  await go(page, 'bundles')
  await page.waitForSelector('[data-card=bundle]')
  await page.setInputFiles('input[type=file]', archive)
  await page.waitForSelector('[data-upload]')
  assert.match(await page.textContent('[data-upload]'), /^In use: .*2026\.2/)
  await until(page, 'the new bundle', () => document.querySelector('[data-card=bundle]').textContent.includes('2026.2'))
  await page.click('[data-do=rollback]')
  await page.click('[data-do=rollback]')
  await done(page, 'bundle.rollback')
  await until(page, 'the bundle before', () => !document.querySelector('[data-card=bundle]').textContent.includes('2026.2'))
  await page.screenshot({ path: shots + '/bundles.png' })
  step('a bundle is uploaded in chunks and rolled back')

  await go(page, 'agents')
  await page.click('[data-agent="pi-1"] a')
  await page.waitForSelector('[data-card=captures] td')
  await page.screenshot({ path: shots + '/agent.png', fullPage: true })
  step('the agent says how it is')

  const alone = await open({ width: 390, height: 844 }, {}, own + '/#/machine/pi-1/fan-a')
  await until(alone, 'the level', () => /dBFS/.test(document.querySelector('.meter-text')?.textContent))
  await until(alone, 'the spectrogram', () => {
    const canvas = document.querySelector('.roll canvas')
    const { data } = canvas.getContext('2d').getImageData(canvas.width - 4, 0, 1, canvas.height)
    return new Set(data.filter((_, i) => i % 4 === 0)).size > 8
  })
  await alone.screenshot({ path: shots + '/own.png', fullPage: true })
  await alone.context().close()
  step('the agent has its own page: level and spectrogram move')

  await go(page, 'machines')
  console.log('please kill an agent')
  await page.waitForSelector(row('pi-2/fan-c') + ' [data-state=gone]')
  console.log('please take the broker away')
  await page.waitForSelector('.cut >> text=broker')
  console.log('please bring the broker back')
  await page.waitForSelector('.cut', { state: 'detached' })
  await page.waitForSelector(row('pi-1/fan-a') + ' [data-state=normal], ' + row('pi-1/fan-a') + ' [data-state=learning]')
  step('an agent that was killed and a broker that is away are shown, and it is right again')

  expected = /status of 401|ERR_CONNECTION|WebSocket|ERR_EMPTY|Failed to load/
  console.log('please stop the console')
  await page.waitForSelector('.cut >> text=No connection since')
  assert.equal(await page.locator('[data-state=normal]').count(), 0, 'nothing that is stale is called normal')
  await page.screenshot({ path: shots + '/away.png' })
  console.log('please start the console')
  await page.waitForSelector('input[type=password]')
  await login(page)
  await page.waitForSelector(row('pi-1/fan-a'))
  expected = /status of 401/
  step('without the console everything is grey; it comes back by itself')

  for (const [width, height, colorScheme] of LOOKS) {
    const other = await open({ width, height }, { colorScheme, bypassCSP: true, hasTouch: width < 500 })
    await login(other)
    for (const place of ['machines', 'machine/pi-1/fan-a', 'machine/pi-1/fan-b', 'alarms', 'bundles', 'agents', 'agent/pi-1']) {
      await go(other, place)
      await other.waitForSelector('main h1')
      if (place.startsWith('machine/')) await other.waitForSelector('.chart canvas')
      const name = `${place.replaceAll('/', '-')}-${width}-${colorScheme}`
      await picture(other, name, `${shots}/${name}.png`)
    }
    await other.context().close()
  }
  step('two sizes, two themes: no serious finding of axe, nothing wider than the screen')

  await page.click('.side [aria-label="Log out"]')
  await page.waitForSelector('input[type=password]')
  assert.equal((await page.evaluate(() => fetch('/session').then(answer => answer.json()))).role, null)
  step('logged out')
  assert.deepEqual(faults, [])
} finally {
  await browser.close()
}
