// Uses the dashboard as a person would, in a real Chromium, and looks at what it shows. What the agents make of it is
// checked on the broker by tests/mqtt/node_red.rs. Arguments: the dashboard's address, a folder for the screenshots, and
// what is looked at: `fleet`, `forgotten` (an agent that was cleared at the broker) or `lost` (the broker is gone).
import { strict as assert } from 'node:assert'
import { createRequire } from 'node:module'

const [address, shots, what] = process.argv.slice(2)
const { chromium } = createRequire(new URL('../../target/node-red/package.json', import.meta.url))('playwright-core')
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: flags })
const faults = []

async function open (viewport, scale) {
  const page = await browser.newPage({ viewport, deviceScaleFactor: scale })
  page.setDefaultTimeout(60000)
  page.on('pageerror', error => faults.push(error.message))
  page.on('console', message => { if (message.type() === 'error') faults.push(message.text()) })
  // Node-RED may still be starting.
  for (let tries = 0; ; tries++) {
    try { await page.goto(address); break } catch (error) { if (tries > 120) throw error }
    await page.waitForTimeout(500)
  }
  return page
}
const step = what => console.log('ok', what)
// Waits until what a function finds in the page is so.
const until = (page, what, found, argument) =>
  page.waitForFunction(found, argument).catch(error => { throw new Error(`${what}: ${error.message}`) })

try {
  if (what === 'forgotten') await forgotten()
  else if (what === 'lost') await lost()
  else await fleet()
  assert.deepEqual(faults, [])
} finally {
  await browser.close()
}

async function forgotten () {
  const page = await open({ width: 1280, height: 900 }, 1)
  await page.waitForSelector('[data-machine="pi-1/fan-a"]')
  await until(page, 'no agent offline', () => document.querySelector('[data-filter=offline] b').textContent === '0')
  assert.equal(await page.locator('[data-machine="pi-3/fan-d"]').count(), 0)
  step('an agent that was cleared at the broker is forgotten')
}

// Nothing is green, nothing is online, nothing can be pressed.
async function lost () {
  const page = await open({ width: 1280, height: 900 }, 1)
  await page.waitForSelector('[data-lost]')
  assert.match(await page.textContent('[data-lost]'), /^No broker since .*What stands here is what was known then/)
  await page.waitForSelector('[data-machine="pi-1/fan-a"].is-stale')
  for (const machine of await page.locator('[data-machine]').all()) {
    assert.match(await machine.locator('.au-state').textContent(), /no broker/)
    assert.match(await machine.getAttribute('class'), /is-stale/)
  }
  assert.equal(await page.textContent('[data-filter=online] b'), '0')
  assert.equal(await page.textContent('[data-filter=calm] b'), '0')
  assert.match(await page.textContent('[data-agent="pi-1"] .au-state'), /was online/)
  assert(await page.isDisabled('[data-agent="pi-1"] button'))
  await page.screenshot({ path: shots + '/lost.png' })
  await page.click('[data-machine="pi-2/fan-b"]')
  for (const button of await page.locator('[data-detail] [data-do]').all()) assert(await button.isDisabled())
  step('without a broker all is grey, and nothing can be commanded')
}

async function fleet () {
  const page = await open({ width: 1280, height: 900 }, 1)
  await page.waitForSelector('[data-machine="pi-1/fan-a"]')
  await page.waitForSelector('[data-machine="pi-2/fan-b"]')
  await until(page, 'both agents online', () => document.querySelector('[data-filter=online] b').textContent === '2')
  await until(page, 'one agent offline', () => document.querySelector('[data-filter=offline] b').textContent === '1')
  step('agents online and offline are counted')

  await until(page, 'the deaf machine', () => document.querySelector('[data-machine="pi-1/deaf"]').className.includes('is-deaf'))
  await until(page, 'an alarm', () => document.querySelector('[data-machine="pi-2/fan-b"]').className.includes('is-alarm'))
  await until(page, 'the alarm of an agent that is away', () =>
    /alarm, agent offline/.test(document.querySelector('[data-machine="pi-3/fan-d"]').textContent) &&
    Number(document.querySelector('[data-filter=alarm] b').textContent) >= 2)
  step('the alarm and the deaf machine are shown, and the alarm of an agent that is away')

  const line = selector => page.getAttribute(selector + ' path.distance', 'd')
  const before = await line('[data-machine="pi-1/fan-a"]')
  await until(page, 'the small chart moves', ([before]) =>
    document.querySelector('[data-machine="pi-1/fan-a"] path.distance').getAttribute('d') !== before, [before])
  await until(page, 'twenty windows', () =>
    (document.querySelector('[data-machine="pi-2/fan-b"] path.distance').getAttribute('d').match(/[ML]/g) || []).length > 20)
  await page.screenshot({ path: shots + '/desktop.png' })
  step('charts move')

  // The threshold: by the slider, from the keyboard; nothing is sent before "Set".
  await page.click('[data-machine="pi-1/fan-a"]')
  const detail = '[data-detail="pi-1/fan-a"]'
  const value = () => page.inputValue(detail + ' .au-number input')
  assert(await page.isDisabled(detail + ' [data-do=set]'), 'nothing is set by nobody')
  await page.fill(detail + ' .au-name input', 'ana')
  const old = Number(await value())
  await page.focus(detail + ' .v-slider-thumb')
  for (let press = 0; press < 40; press++) await page.keyboard.press('ArrowRight')
  const wanted = Number(await value())
  assert(wanted > old, `the slider moves: ${old} -> ${wanted}`)
  await page.click(detail + ' [data-do=set]')
  await page.waitForSelector(detail + ' [data-reply="threshold.set"].ok')
  await until(page, 'the settings tell the new threshold', ([wanted]) =>
    document.querySelector('[data-machine="pi-1/fan-a"] .au-foot small').textContent === `of ${wanted.toFixed(3)}`, [wanted])
  console.log(`threshold ${wanted}`)
  step('the slider sets the threshold and the reply is shown')
  const big = await line(detail)
  await until(page, 'the large chart moves', ([big]) =>
    document.querySelector('[data-detail] path.distance').getAttribute('d') !== big, [big])
  await page.screenshot({ path: shots + '/threshold.png' })

  // What the agent refuses is shown in its own words.
  await page.fill(detail + ' .au-number input', '1500')
  await page.click(detail + ' [data-do=set]')
  await page.waitForSelector(detail + ' [data-reply="threshold.set"].error')
  assert.match(await page.textContent(detail + ' [data-reply="threshold.set"].error'), /1500/)
  step('a refused threshold is shown with its reason')
  await page.click(detail + ' [aria-label=Close]')

  // The alarm.
  await page.click('[data-machine="pi-2/fan-b"]')
  const alarm = '[data-detail="pi-2/fan-b"]'
  assert.equal(await page.inputValue(alarm + ' .au-name input'), 'ana')
  await page.waitForTimeout(500)
  await page.screenshot({ path: shots + '/alarm.png' })
  await page.click(alarm + ' [data-do=acknowledge]')
  await page.waitForSelector(alarm + ' [data-reply="alarm.acknowledge"].ok')
  await until(page, 'the machine is acknowledged', () => document.querySelector('[data-machine="pi-2/fan-b"]').className.includes('is-acknowledged'))
  await until(page, 'who acknowledged', () => /raised .* ago, .* windows?; acknowledged by ana \d+ s ago/.test(document.querySelector('[data-detail] .au-why').textContent))
  step('acknowledging works')
  await page.click(alarm + ' [data-do=disturbance]')
  await page.waitForSelector(alarm + ' [data-reply="alarm.confirm"].ok')
  await page.fill(alarm + ' [data-answers] input', 'bearing')
  await page.keyboard.press('Tab')
  await page.click(alarm + ' [data-do=fault]')
  await until(page, 'two answers', () => document.querySelectorAll('[data-detail] [data-reply="alarm.confirm"].ok').length === 2)
  step('an alarm is answered')
  await page.click(alarm + ' [data-do=shelve]')
  await page.waitForSelector(alarm + ' [data-reply="alarm.shelve"].ok')
  await until(page, 'the machine is shelved', () => document.querySelector('[data-machine="pi-2/fan-b"]').className.includes('is-shelved'))
  step('shelving works')
  await page.click(alarm + ' [aria-label=Close]')

  await page.click('[data-agent="pi-1"] button')
  await until(page, 'the bundle is reloaded', () => !document.querySelector('[data-agent="pi-1"] .v-btn--loading'))
  step('the bundle is reloaded')

  const phone = await open({ width: 390, height: 844 }, 2)
  await phone.waitForSelector('[data-machine="pi-1/fan-a"]')
  const wide = await phone.evaluate(() => document.documentElement.scrollWidth)
  assert(wide <= 390, `the page is ${wide} px wide on a phone of 390`)
  await phone.waitForTimeout(500)
  await phone.screenshot({ path: shots + '/phone.png' })
  await phone.click('[data-machine="pi-1/fan-a"]')
  await phone.waitForSelector('[data-detail="pi-1/fan-a"] [data-do=set]')
  await phone.waitForTimeout(500)
  await phone.screenshot({ path: shots + '/phone-machine.png' })
  const close = await phone.locator('[data-detail="pi-1/fan-a"] [aria-label=Close]').boundingBox()
  assert(close.x + close.width <= 390, `the button that closes is at ${close.x}, outside a phone of 390`)
  await phone.click('[data-detail="pi-1/fan-a"] [aria-label=Close]')
  await phone.waitForSelector('[data-detail="pi-1/fan-a"]', { state: 'hidden' })
  step('it fits a phone')
}
