// @ts-check
// The guide's later steps: the broker, and how to be told of an alarm. Both can be left for later.
import { html, useEffect, useRef, useState } from '../ui/html.js'
import { Button } from '../ui/parts.js'
import { dropBroker, findBrokers, isBrokerOfFile, setBroker, setNotify } from '../lib/first-start.js'

/** @typedef {import('./setup.js').Step} Step */

/** @param {Step} props */
export function BrokerStep ({ agent, done }) {
  const [form, setForm] = useState({ url: '', username: '', password: '' })
  const [found, setFound] = useState([])
  const [test, setTest] = useState({ busy: false, good: false, text: '' })
  const [ofFile, setOfFile] = useState(false)
  /** The agent does one of both at a time. */
  const search = useRef(Promise.resolve())
  useEffect(() => { isBrokerOfFile(agent).then(setOfFile); search.current = findBrokers(agent).then(setFound) }, [agent])
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => { setForm({ ...form, [name]: event.target.value }); setTest({ busy: false, good: false, text: '' }) }
  const ask = async (/** @type {boolean} */ keep) => {
    setTest({ busy: true, good: false, text: '' })
    await search.current
    const reply = await setBroker(agent, form, keep)
    const good = reply.ok && reply.data?.connected !== false
    setTest({ busy: false, good, text: good ? 'Connected, logged in, and allowed to publish.' : reply.data?.problem ?? reply.text })
    if (keep && good) done({})
  }
  const without = async () => { await dropBroker(agent); done({}) }
  if (ofFile) return html`<div class="guide"><h1>The broker is set</h1><p>This agent's configuration file names its broker; there it can be changed.</p><div class="ends"><span></span><${Button} kind="main" onClick=${() => done({})}>Next<//></div></div>`
  return html`<form class="guide" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); ask(true) }}><h1>Is there an MQTT broker?</h1>
    <p>This page works without one. With a broker, Home Assistant, Node-RED and the fleet console see the machines too.</p>
    ${found.length > 0 && html`<div class="row-of">${found.map((/** @type {any} */ one) => html`<${Button} key=${one.url} onClick=${() => setForm({ ...form, url: one.url })}>${one.name ?? one.url}<//>`)}</div>`}
    <label class="field">Address<input value=${form.url} placeholder="mqtt://broker:1883" autocapitalize="off" spellcheck="false" onInput=${set('url')} /></label>
    <div class="row-of"><label class="field grow">User name (if any)<input value=${form.username} autocomplete="off" onInput=${set('username')} /></label><label class="field grow">Password<input type="password" value=${form.password} autocomplete="off" onInput=${set('password')} /></label></div>
    <div role="status">${test.text && html`<p class=${`say ${test.good ? 'good' : 'bad'}`}>${test.text}</p>`}</div>
    <div class="ends"><${Button} onClick=${without}>Without a broker<//><span class="row-of"><${Button} busy=${test.busy} disabled=${!form.url} onClick=${() => ask(false)}>Test<//><button type="submit" class="button main" disabled=${!form.url || test.busy}>Use it</button></span></div></form>`
}

/** @param {Step} props */
export function NotifyStep ({ agent, done }) {
  const [url, setUrl] = useState('')
  const [test, setTest] = useState({ busy: false, good: false, text: '' })
  const ask = async (/** @type {boolean} */ keep) => {
    setTest({ busy: true, good: false, text: '' })
    const reply = await setNotify(agent, url, keep)
    setTest({ busy: false, good: reply.ok, text: reply.ok ? 'Sent. Did it arrive?' : reply.text })
    if (keep && reply.ok) done({})
  }
  return html`<form class="guide" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); ask(true) }}><h1>How do you want to be told?</h1>
    <p>The agent itself sends a message when an alarm is raised or cleared, also without a broker.</p>
    <label class="field">Address of an ntfy topic or a webhook<input type="url" value=${url} placeholder="https://ntfy.sh/my-machines" onInput=${(/** @type {any} */ event) => setUrl(event.target.value)} /></label>
    <div role="status">${test.text && html`<p class=${`say ${test.good ? 'good' : 'bad'}`}>${test.text}</p>`}</div>
    <div class="ends"><${Button} onClick=${() => done({})}>Later<//><span class="row-of"><${Button} busy=${test.busy} disabled=${!url} onClick=${() => ask(false)}>Send a test<//><button type="submit" class="button main" disabled=${!url || test.busy}>Use it</button></span></div></form>`
}
