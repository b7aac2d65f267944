// What every script here needs: a real Chromium, a page whose faults are noted, axe, a line for each step that is done.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../target/page/package.json', import.meta.url))
const { chromium } = require('playwright-core')
export const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
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
