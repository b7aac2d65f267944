// What is set on a machine, and all of it to a new card and back; who may do that and who may not. In a real Chromium, on
// an agent's own page. What the agents make of it is checked by tests/cli/page.rs, which does what a line `please ...` asks for.
// Arguments: the page's address, a folder for pictures and the export, the operator's and the viewer's password, the
// address of a page behind TLS.
import { strict as assert } from 'node:assert'
import { browser, faults, look, open as openAt, step } from './chromium.mjs'

const [address, shots, operator, viewer, tls] = process.argv.slice(2)
const WRONG = /status of (401|429|403)/
let expected = WRONG

const open = (options = {}, at = address) => openAt(at, { viewport: { width: 1280, height: 900 }, ...options }, text => expected.test(text))
const until = (page, what, found, argument) =>
  page.waitForFunction(found, argument).catch(error => { throw new Error(`${what}: ${error.message}`) })
const go = (page, place) => page.evaluate(place => { location.hash = '#/' + place }, place)
const done = (page, command, outcome = 'ok') => page.waitForSelector(`[data-reply="${command}"][data-outcome=${outcome}]`)
async function login (page, password) {
  await page.fill('input[type=password]', password)
  await page.keyboard.press('Enter')
  await page.waitForSelector('.side')
}

/** What the page's stream answers to a command that a script sends by itself. */
const command = (page, payload) => page.evaluate(payload => new Promise((resolve, reject) => {
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/stream')
  socket.onerror = () => reject(new Error('no stream'))
  socket.onmessage = event => {
    for (const message of JSON.parse(event.data)) {
      if (message.ready) socket.send(JSON.stringify({ topic: 'auscult/pi-1/control', payload }))
      if (message.refused?.id === payload.id) resolve(message.refused.reason)
      if (message.payload?.id === payload.id && message.payload.status) resolve(message.payload)
    }
  }
}), payload)

try {
  // A viewer looks. The buttons are off, and what a script sends past them is refused.
  const looking = await open()
  await login(looking, viewer)
  await go(looking, 'machine/pi-1/pump-1')
  await looking.waitForSelector('[data-card=settings]')
  assert.equal(await looking.locator('.acts button:enabled').count(), 0)
  await go(looking, 'agent/pi-1')
  await looking.waitForSelector('[data-do=export]')
  for (const name of ['export', 'import']) assert(await looking.isDisabled(`[data-do=${name}]`), name)
  for (const name of ['state.export', 'state.import', 'machine.remove', 'threshold.set']) {
    assert.match(await command(looking, { id: `v-${name}`, command: name, machine: 'pump-1', threshold: 1 }), /operator/)
  }
  await look(looking, `${shots}/keeping-viewer`)
  await looking.context().close()
  step('a viewer looks and commands nothing')

  // A page of another site reaches neither the login nor the stream, not even with the operator's cookie.
  const foreign = await open()
  await login(foreign, operator)
  await foreign.context().route('http://elsewhere.test/**', route => route.fulfill({ contentType: 'text/html', body: '<title>Elsewhere</title>' }))
  expected = /./
  await foreign.goto('http://elsewhere.test/')
  const tried = await foreign.evaluate(async address => {
    const post = await fetch(`${address}/logout`, { method: 'POST', mode: 'no-cors', credentials: 'include' }).then(answer => answer.type, error => error.name)
    const stream = await new Promise(resolve => {
      const socket = new WebSocket(address.replace('http', 'ws') + '/stream')
      socket.onopen = () => resolve('open')
      socket.onerror = () => resolve('refused')
    })
    return { post, stream }
  }, address)
  assert.equal(tried.stream, 'refused')
  await foreign.goto(address)
  await foreign.waitForSelector('.side')
  expected = WRONG
  const answer = await foreign.context().request.post(`${address}/login`, { headers: { origin: 'http://elsewhere.test' }, data: { password: operator } })
  assert.equal(answer.status(), 403)
  step('another site can neither log in, nor log out, nor open the stream')

  const page = foreign
  await go(page, 'machines')
  await page.waitForSelector('[data-machine="pi-1/fan-1"]')
  await page.waitForSelector('text=Fan by the door')
  await go(page, 'machine/pi-1/pump-1')
  await page.waitForSelector('[data-of=file]')
  assert.equal(await page.locator('[data-card=settings] button').count(), 0)
  await go(page, 'machine/pi-1/fan-1')
  await page.waitForSelector('[data-do=change]')
  await look(page, `${shots}/keeping-settings`)
  await page.click('[data-do=change]')
  await page.waitForSelector('[data-form=machine]')
  await look(page, `${shots}/keeping-form`)
  await page.fill('[name=notes]', 'call Ana')
  await page.fill('[name=k]', '3')
  await page.selectOption('[name=latching]', 'true')
  await page.click('[data-do="machine.set"]')
  await page.fill('dialog input', 'ana')
  await page.keyboard.press('Enter')
  await done(page, 'machine.set')
  await page.waitForSelector('.notes-text >> text=call Ana')
  assert.match(await page.textContent('[data-card=settings]'), /k 3, latching true/)
  await page.click('[data-do=change]')
  await page.fill('[name=notes]', '')
  await page.fill('[name=k]', '9')
  await page.fill('[name=n]', '4')
  await page.click('[data-do="machine.set"]')
  await page.waitForSelector('[data-form=machine] [role=alert]')
  await page.fill('[name=k]', '')
  await page.fill('[name=n]', '')
  await page.click('[data-do="machine.set"]')
  await until(page, 'the alarm latches alone', () => /latching true/.test(document.querySelector('[data-card=settings]').textContent) && !/k 3/.test(document.querySelector('[data-card=settings]').textContent))
  step('settings of a machine that was added are changed; those of the file are shown')

  // Export, then the machine goes, then it comes back.
  await go(page, 'agent/pi-1')
  await page.waitForSelector('[data-card=notified] li')
  await look(page, `${shots}/keeping-agent`)
  const [file] = await Promise.all([page.waitForEvent('download'), page.click('[data-do=export]')])
  assert.match(file.suggestedFilename(), /^auscult-pi-1-\d{8}-\d{6}\.tar\.gz$/)
  const kept = `${shots}/export.tar.gz`
  await file.saveAs(kept)
  await page.waitForSelector('[data-kept=ok]')
  await go(page, 'machine/pi-1/fan-1')
  await page.click('[data-do=remove]')
  await page.waitForSelector('dialog[open]')
  await look(page, `${shots}/keeping-removal`)
  await page.click('text=Keep it')
  await page.click('[data-do=remove]')
  await page.click('[data-do="machine.remove"]')
  await page.waitForSelector('.machines')
  await page.waitForSelector('[data-machine="pi-1/fan-1"]', { state: 'detached' })
  step('all that was set is with the downloads; the machine is removed')

  expected = /status of (401|429|403)|ERR_CONNECTION|WebSocket|ERR_EMPTY|Failed to load/
  await go(page, 'agent/pi-1')
  await page.setInputFiles('[data-card=keeping] input[type=file]', { name: 'other.tar.gz', mimeType: 'application/gzip', buffer: Buffer.from('no archive') })
  await page.click('[data-do=import-now]')
  await page.waitForSelector('[data-kept=error] >> text=nothing was changed')
  await page.setInputFiles('[data-card=keeping] input[type=file]', kept)
  await page.waitForSelector('dialog[open]')
  await look(page, `${shots}/keeping-import`)
  await page.click('[data-do=import-now]')
  await page.waitForSelector('[data-kept=ok] >> text=The agent starts anew')
  await look(page, `${shots}/keeping-imported`)
  await go(page, 'machines')
  await page.waitForSelector('[data-machine="pi-1/fan-1"]')
  await page.waitForSelector('text=Fan by the door')
  step('what is no export is refused; the export brings the machine back, on the open page')

  console.log('please restart the agent')
  await page.waitForSelector('.cut >> text=No connection since')
  await page.waitForSelector('.cut', { state: 'detached' })
  await until(page, 'a verdict that is news', () => [...document.querySelectorAll('.row .c-age')].some(cell => /now|[0-9] s ago/.test(cell.textContent)))
  assert.equal(await page.locator('[data-machine="pi-1/fan-1"]').count(), 1)
  expected = WRONG
  step('the agent is restarted under the open page, which is right again')

  await page.click('.side [aria-label="Log out"]')
  await page.waitForSelector('input[type=password]')
  for (let times = 0; times < 10 && !await page.locator('text=Too many attempts').count(); times++) {
    await page.fill('input[type=password]', `wrong ${times}`)
    await page.click('button[type=submit]')
    await until(page, 'an answer', () => document.querySelector('input[type=password]').value === '' && document.querySelector('[role=alert]').textContent !== '')
  }
  await page.waitForSelector('text=Too many attempts')
  assert(await page.isDisabled('button[type=submit]'), 'the button waits too')
  const late = await page.context().request.post(`${address}/login`, { headers: { origin: address }, data: { password: operator } })
  assert.equal(late.status(), 429)
  assert(Number(late.headers()['retry-after']) > 0)
  await look(page, `${shots}/keeping-too-many`)
  step('wrong passwords are too many after some, and the right one waits too')

  const safe = await open({ ignoreHTTPSErrors: true }, tls)
  await login(safe, operator)
  const cookies = await safe.context().cookies()
  assert(cookies.length === 1 && cookies[0].secure && cookies[0].httpOnly && cookies[0].sameSite === 'Strict', JSON.stringify(cookies))
  await safe.waitForSelector('.side')
  await safe.click('.side [aria-label="Log out"]')
  await safe.waitForSelector('input[type=password]')
  assert.deepEqual(await safe.context().cookies(), [])
  step('behind TLS the session is for TLS alone, and it ends')
  assert.deepEqual(faults, [])
} finally {
  await browser.close()
}
