// @ts-check
// The password: asked for, or made with the code that the log shows once.
import { html, useEffect, useState } from '../ui/html.js'
import { connect } from '../lib/stream.js'

/** @param {string} path @param {object} body */
async function post (path, body) {
  try {
    const answer = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal: AbortSignal.timeout(15000) })
    const text = answer.status === 204 ? '' : (await answer.text()).slice(0, 300)
    return { status: answer.status, text, wait: Number(answer.headers.get('retry-after') ?? 0) }
  } catch { return { status: 0, text: 'There is no connection.', wait: 0 } }
}

/** Seconds that count down. */
function useWait () {
  const [wait, setWait] = useState(0)
  useEffect(() => {
    if (wait <= 0) return undefined
    const timer = setTimeout(() => setWait(wait - 1), 1000)
    return () => clearTimeout(timer)
  }, [wait])
  return [wait, setWait]
}

const Head = () => html`<div class="brand"><img src="/assets/icon.svg" alt="" />auscult</div>`

export function Login () {
  const [password, setPassword] = useState('')
  const [problem, setProblem] = useState('')
  const [busy, setBusy] = useState(false)
  const [wait, setWait] = useWait()
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault()
    setBusy(true)
    const answer = await post('/login', { password })
    setBusy(false)
    if (answer.status === 204) { connect(); return }
    if (answer.status === 429) setWait(answer.wait || 30)
    setProblem(answer.status === 401 ? 'This password is wrong.' : answer.status === 429 ? 'Too many attempts.' : answer.text || `The server answers ${answer.status}.`)
    setPassword('')
  }
  return html`<main class="alone"><${Head} /><form class="card" onSubmit=${submit}><h1>Log in</h1>
    <label class="field">Password<input type="password" autofocus autocomplete="current-password" value=${password} onInput=${(/** @type {any} */ event) => setPassword(event.target.value)} /></label>
    <div role="alert">${problem && html`<p class="say bad">${problem}${wait > 0 ? ` Try again in ${wait} s.` : ''}</p>`}</div>
    <button class="button main" type="submit" disabled=${busy || !password || wait > 0}>Log in</button></form></main>`
}

export function FirstPassword () {
  const [form, setForm] = useState({ code: '', password: '', again: '' })
  const [problem, setProblem] = useState('')
  const [busy, setBusy] = useState(false)
  const [wait, setWait] = useWait()
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setForm({ ...form, [name]: event.target.value })
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault()
    if (form.password !== form.again) { setProblem('The two passwords differ.'); return }
    setBusy(true)
    const answer = await post('/password', { code: form.code.trim(), password: form.password })
    setBusy(false)
    if (answer.status === 204) { connect(); return }
    if (answer.status === 429) setWait(answer.wait || 30)
    setProblem(answer.status === 401 ? 'This code is wrong.' : answer.text || `The server answers ${answer.status}.`)
  }
  return html`<main class="alone"><${Head} /><form class="card" onSubmit=${submit}><h1>Choose a password</h1>
    <p>This page is reachable from other computers and has no password yet. The set-up code stands in the agent's log: <code>journalctl -u auscult</code>.</p>
    <label class="field">Set-up code<input autofocus autocomplete="one-time-code" value=${form.code} onInput=${set('code')} /></label>
    <label class="field">Password<input type="password" autocomplete="new-password" value=${form.password} onInput=${set('password')} /></label>
    <label class="field">Password again<input type="password" autocomplete="new-password" value=${form.again} onInput=${set('again')} /></label>
    <div role="alert">${problem && html`<p class="say bad">${problem}${wait > 0 ? ` Try again in ${wait} s.` : ''}</p>`}</div>
    <button class="button main" type="submit" disabled=${busy || wait > 0 || !form.code || !form.password}>Set the password</button></form></main>`
}
