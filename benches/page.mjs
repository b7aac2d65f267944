// Opens the page in a real Chromium, measures, and prints one JSON object. Arguments: fleet ADDRESS MACHINES | agent ADDRESS SECONDS.
import { createRequire } from 'node:module'

const require = createRequire(new URL('../target/page/package.json', import.meta.url))
const { chromium } = require('playwright-core')
const [what, address, number] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] })
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } })
page.setDefaultTimeout(60000)

if (what === 'agent') {
  await page.goto(address)
  await page.waitForSelector('.row')
  await page.click('.row a')
  await page.waitForSelector('[data-machine-detail], .machine-head')
  console.log('open')
  await page.waitForTimeout(Number(number) * 1000)
} else {
  const begun = Date.now()
  await page.goto(address)
  await page.waitForFunction(wanted => document.querySelector('[data-filter=all] b')?.textContent === wanted, Number(number).toLocaleString('en'))
  const whole = Date.now() - begun
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime)
  const bytes = await page.evaluate(() => [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
    .reduce((sum, one) => sum + one.transferSize, 0))
  // From a key to the list that fits it, drawn.
  const search = await page.evaluate(async () => {
    const input = document.querySelector('input[type=search]')
    const times = []
    for (const words of ['sim-0', 'sim-04', 'sim-049', 'sim-0499', '', 'sim-01']) {
      const from = performance.now()
      input.value = words
      input.dispatchEvent(new Event('input', { bubbles: true }))
      await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)))
      times.push(performance.now() - from)
    }
    return Math.max(...times)
  })
  // How long the browser is busy at once while the fleet reports.
  const blocked = await page.evaluate(() => new Promise(resolve => {
    let longest = 0
    new PerformanceObserver(list => { for (const one of list.getEntries()) longest = Math.max(longest, one.duration) }).observe({ entryTypes: ['longtask'] })
    setTimeout(() => resolve(longest), 10000)
  }))
  const heap = await page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0)
  console.log(JSON.stringify({ first_paint_ms: Math.round(paint), all_machines_ms: whole, transferred_kb: Math.round(bytes / 1000),
    search_ms: Math.round(search), longest_task_ms: Math.round(blocked), browser_heap_mb: Math.round(heap / 1e6) }))
}
await browser.close()
