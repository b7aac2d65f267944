// What every script here needs: a real Chromium, a page whose faults are noted, looks at it, a line for each step that is done.
import { strict as assert } from 'node:assert'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../target/page/package.json', import.meta.url))
const { chromium } = require('playwright-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
export const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: flags })
/** Errors of all pages. */
export const faults = []
export const step = what => console.log('ok', what)

/** A page of its own at an address; `expected` says which lines of the browser's log are no faults. */
export async function open (address, options, expected = () => false) {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  page.setDefaultTimeout(60000)
  page.on('pageerror', error => faults.push(error.stack))
  page.on('console', message => { if (message.type() === 'error' && !expected(message.text())) faults.push(message.text()) })
  for (let tries = 0; ; tries++) { // who serves it may still be starting
    try { await page.goto(address); break } catch (error) { if (tries > 120) throw error }
    await page.waitForTimeout(500)
  }
  return page
}

/** A picture into `file`; nothing is wider than the screen, and axe has no serious finding. `name` is what is looked at. */
export async function picture (page, name, file, options) {
  // What changes its look with the screen's does so in the next frames.
  await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))))
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => globalThis.axe.run())
  const serious = violations.filter(found => ['serious', 'critical'].includes(found.impact))
  assert.deepEqual(serious.map(found => `${name} ${found.id}: ${found.nodes[0].html}`), [])
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  assert(over <= 0, `${name} is wider than the screen`)
  await page.screenshot({ path: file, ...options })
}

/** What a page is looked at in: width, height, colours. */
export const LOOKS = [[390, 844, 'light'], [390, 844, 'dark'], [1280, 900, 'light'], [1280, 900, 'dark']]

/** Whole pictures, `path`-WIDTH-COLOURS.png, in all looks. */
export async function look (page, path) {
  for (const [width, height, colorScheme] of LOOKS) {
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme })
    await picture(page, `${path} ${width} ${colorScheme}`, `${path}-${width}-${colorScheme}.png`, { fullPage: true })
  }
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize({ width: 1280, height: 900 })
}
