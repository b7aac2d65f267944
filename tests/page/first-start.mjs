// The first start as a person does it, in a real Chromium: from an agent that knows no machine to one that is being
// learned, without a file. What the agent makes of it is checked by tests/cli/page.rs, which does what a line `please ...` asks for.
// Arguments: the page's address, a folder for the screenshots, a broker that works, one that does not.
import { strict as assert } from 'node:assert'
import { browser, faults, look, open, step } from './chromium.mjs'

const [address, shots, good, bad] = process.argv.slice(2)

const page = await open(address, { viewport: { width: 1280, height: 900 }, bypassCSP: true })
const until = (what, found, argument) =>
  page.waitForFunction(found, argument, { timeout: 400000 }).catch(error => { throw new Error(`${what}: ${error.message}`) })

/** Chooses the microphone whose level is by far the highest. */
async function pickTheLoud () {
  await until('one microphone is louder than all others', () => {
    const levels = [...document.querySelectorAll('.pick')].map(pick => parseFloat(pick.querySelector('.meter-text')?.textContent) || -120)
    const [first, second] = [...levels].sort((a, b) => b - a)
    return levels.length > 1 && first > -40 && first - second > 20
  })
  const levels = await page.$$eval('.pick .meter-text', found => found.map(text => parseFloat(text.textContent) || -120))
  const loudest = levels.indexOf(Math.max(...levels))
  const name = await page.textContent(`.pick >> nth=${loudest} >> b`)
  await page.check(`.pick >> nth=${loudest} >> input`)
  return name
}

try {
  await page.waitForSelector('h1 >> text=Which microphone hears the machine?')
  await page.waitForSelector('.pick >> nth=1')
  console.log('please play into the second microphone')
  assert.match(await pickTheLoud(), /1/)
  await look(page, `${shots}/setup-microphone`)
  await page.click('text=Next')
  step('the guide opens by itself; the microphone is found by its level')

  await page.fill('.guide input:not([type=radio])', 'Blower, hall 2')
  await page.waitForSelector('code >> text=blower-hall-2')
  await look(page, `${shots}/setup-machine`)
  await page.click('button[type=submit]')
  await page.waitForSelector('h1 >> text=Is there an MQTT broker?')
  step('a name, and it is added')

  await page.fill('.guide input >> nth=0', bad)
  await page.click('text=Test')
  await page.waitForSelector('.say.bad >> text=nothing listens there')
  await look(page, `${shots}/setup-broker`)
  await page.fill('.guide input >> nth=0', good)
  await page.click('text=Test')
  await page.waitForSelector('.say.good')
  await page.click('button[type=submit]')
  step('a broker that does not answer is refused with the reason, one that does is used')

  if (await page.waitForSelector('.steps [aria-current=step] >> text=/Messages|Done/').then(found => found.textContent()) === 'Messages') {
    await look(page, `${shots}/setup-messages`)
    await page.click('text=Later')
  }
  await page.waitForSelector('h1 >> text=It listens')
  await look(page, `${shots}/setup-done`)
  await page.click('.guide a.main')
  await page.waitForSelector('[data-card=learning] [role=progressbar]')
  await look(page, `${shots}/setup-learning`)
  step('it listens and shows how far it has come')

  // A second one, while the first is being heard.
  console.log('please play into the first microphone')
  await page.evaluate(() => { location.hash = '#/setup' })
  await page.waitForSelector('h1 >> text=Which microphone hears the new machine?')
  await page.waitForSelector('.pick small >> text=used by blower-hall-2')
  await page.check('.pick:not(:has(small:text("used by"))) input')
  await look(page, `${shots}/setup-second`)
  await page.click('text=Next')
  await page.fill('.guide input:not([type=radio])', 'Pump')
  await page.click('button[type=submit]')
  await page.waitForSelector('h1 >> text=It listens')
  await page.click('text=To the machines')
  await page.waitForSelector('[data-machine$="/pump"]')
  await look(page, `${shots}/setup-machines`)
  step('a second machine is added')

  await page.evaluate(() => { location.hash = '#/agents' })
  await page.waitForSelector('[data-card=device] >> text=Free on disk')
  await page.click('[data-card=log] button')
  await page.waitForSelector('[data-card=log] pre >> text=hearing')
  await page.click('[data-card=config] button')
  await page.waitForSelector('[data-card=config] pre >> text=[mqtt]')
  await look(page, `${shots}/setup-agent`)
  step('the agent shows its disk, its log and its configuration')

  await page.click('a[href="#/machines"]')
  await page.click('[data-machine$="/blower-hall-2"] a')
  await until('a hundredth of the baseline', () => Number(document.querySelector('[data-card=learning] [role=progressbar]')?.getAttribute('aria-valuenow')) >= 1)
  await look(page, `${shots}/setup-learned`)
  step('what is learned grows')
  assert.deepEqual(faults, [])
} catch (error) {
  await page.screenshot({ path: `${shots}/setup-failed.png`, fullPage: true })
  throw error
} finally {
  await browser.close()
}
