// @ts-check
// Which model bundle each agent uses, and another one: by a file, by a URL, or back.
import { html, useEffect, useState } from '../ui/html.js'
import { icon } from '../ui/icons.js'
import { Button, Card, Empty, Progress, Twice } from '../ui/parts.js'
import { bytes, percent } from '../lib/format.js'
import { can, isBusy, send } from '../lib/commands.js'
import { link } from '../lib/route.js'
import { store } from '../lib/store.js'
import { upload } from '../lib/upload.js'

const BUNDLE_MS = 300000

export function Bundles () {
  const agents = [...store.world.agents.values()].filter(agent => agent.info).sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }))
  const [picked, setPicked] = useState('')
  if (!agents.length) return html`<div class="screen"><header class="title"><h1>Bundles</h1></header><${Empty} symbol="box" title="No agent has reported" /></div>`
  const agent = agents.find(agent => agent.id === picked) ?? agents.find(agent => agent.status?.state === 'online') ?? agents[0]
  const fleet = store.session?.home === 'fleet'
  return html`<div class="screen"><header class="title"><h1>Bundles</h1><p>A bundle holds the encoder, each machine's normal and its threshold.</p></header>
    ${fleet && html`<${Versions} agents=${agents} /><h2 class="section">One agent</h2>
      <label class="field pick-agent">Agent<select value=${agent.id} onChange=${(/** @type {any} */ event) => setPicked(event.target.value)}>${agents.map(one => html`<option key=${one.id} value=${one.id}>${one.id}${one.status?.state === 'online' ? '' : ` (${one.status?.state ?? 'unknown'})`}</option>`)}</select></label><br />`}
    <div class="cards" key=${agent.id}><${InUse} agent=${agent} /><${Upload} id=${agent.id} /><${ByUrl} id=${agent.id} /></div></div>`
}

/** How many agents use which bundle. @param {{ agents: import('../lib/store.js').Agent[] }} props */
function Versions ({ agents }) {
  /** @type {Map<string, number>} */
  const counts = new Map()
  for (const agent of agents) counts.set(agent.info?.bundle ?? 'none', (counts.get(agent.info?.bundle ?? 'none') ?? 0) + 1)
  return html`<${Card} title="In the fleet" wide=${true}><table><thead><tr><th>Bundle</th><th class="num">Agents</th></tr></thead>
    <tbody>${[...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => html`<tr key=${name}><td>${name}</td><td class="num">${count}</td></tr>`)}</tbody></table><//>`
}

/** @param {{ agent: import('../lib/store.js').Agent }} props */
function InUse ({ agent }) {
  const [state, setState] = useState(null)
  const { id, info } = agent
  const online = agent.status?.state === 'online' && store.link.state === 'open'
  useEffect(() => {
    let gone = false
    if (online && can(id, 'state.get')) send(id, 'state.get', {}, { quiet: true, named: false }).then(reply => { if (!gone && reply.ok) setState(reply.data) })
    return () => { gone = true }
  }, [id, info?.bundle, online])
  const bundle = state?.bundle
  return html`<${Card} title="In use" name="bundle"><dl class="facts">
      <dt>Bundle</dt><dd><b>${info?.bundle ?? 'none'}</b></dd>
      ${bundle && html`<dt>Digest</dt><dd><code>${bundle.digest.slice(0, 16)}</code></dd><dt>Directory</dt><dd><code>${bundle.dir}</code></dd><dt>Engine</dt><dd>${bundle.engine}</dd>`}
      ${bundle?.golden !== undefined && html`<dt>Golden cases</dt><dd>${bundle.golden}</dd>`}
      <dt>Machines</dt><dd>${(state?.machines ?? info?.machines.map(machine => ({ machine }))).map((/** @type {any} */ { machine, model }, /** @type {number} */ i) => html`${i ? ', ' : ''}<a href=${link('machine', id, machine)}>${machine}</a>${model && model !== machine ? ` (as ${model})` : ''}`)}</dd></dl>
    <p class="note">Every bundle is read, checked and run on its golden cases on the agent before it is taken into use. One that fails changes nothing.</p>
    <div class="row-of"><${Twice} ask="Roll back now" symbol="back" disabled=${!can(id, 'bundle.rollback')} busy=${isBusy(id, 'bundle.rollback')} data-do="rollback" onClick=${() => send(id, 'bundle.rollback', {}, { timeout: BUNDLE_MS })}>Roll back<//>
      <${Button} disabled=${!can(id, 'bundle.reload')} busy=${isBusy(id, 'bundle.reload')} data-do="reload" onClick=${() => send(id, 'bundle.reload', {}, { timeout: BUNDLE_MS })}>Reload the configured one<//></div><//>`
}

/** @param {{ id: string }} props */
function Upload ({ id }) {
  const [over, setOver] = useState(false)
  const [state, setState] = useState(null)
  const ready = can(id, 'bundle.install')
  const start = async (/** @type {File | undefined} */ file) => {
    if (!file || !ready || state?.busy) return
    setState({ busy: true, name: file.name, size: file.size, step: 'Reading', share: 0, outcome: null })
    const outcome = await upload(id, 'bundle.install', file, (step, share) => setState((/** @type {any} */ before) => ({ ...before, step, share })))
    setState((/** @type {any} */ before) => ({ ...before, busy: false, outcome }))
  }
  const drop = (/** @type {DragEvent} */ event) => { event.preventDefault(); setOver(false); start(event.dataTransfer?.files[0]) }
  return html`<${Card} title="Install a file" name="upload">
    <div class=${`drop${over ? ' over' : ''}`} onDragOver=${(/** @type {Event} */ event) => { event.preventDefault(); setOver(true) }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${icon('upload')}<p>Drop a bundle here (<code>.tar.gz</code>, as <code>auscult bundle pack</code> writes it), or <label>choose a file
        <input class="hidden" type="file" accept=".gz,.tgz,application/gzip" disabled=${!ready || state?.busy} onChange=${(/** @type {any} */ event) => { start(event.target.files[0]); event.target.value = '' }} /></label>.</p></div>
    ${state && html`<div class="steps-line"><span>${state.name} · ${bytes(state.size)}</span><span>${state.busy ? `${state.step} ${percent(state.share)}` : ''}</span></div>
      ${state.busy && html`<${Progress} share=${state.share} label="Upload" />`}
      <div role="status">${state.outcome && html`<p class=${`say ${state.outcome.ok ? 'good' : 'bad'}`} data-upload=${state.outcome.ok ? 'ok' : 'error'}>${state.outcome.ok ? `In use: ${state.outcome.data?.bundle ?? 'the new bundle'}.` : state.outcome.text}</p>`}</div>`}<//>`
}

/** @param {{ id: string }} props */
function ByUrl ({ id }) {
  const [form, setForm] = useState({ url: '', sha256: '' })
  const set = (/** @type {string} */ name) => (/** @type {any} */ event) => setForm({ ...form, [name]: event.target.value.trim() })
  const submit = (/** @type {Event} */ event) => { event.preventDefault(); send(id, 'bundle.install', form, { timeout: BUNDLE_MS }) }
  return html`<${Card} title="Install from a web server"><form onSubmit=${submit}><p class="note">The agent downloads it itself. Its configuration names the allowed hosts in <code>bundle.allow_from</code>.</p><br />
    <div class="row-of"><label class="field grow">URL<input type="url" value=${form.url} onInput=${set('url')} /></label>
      <label class="field grow">SHA-256 (pack prints it)<input value=${form.sha256} spellcheck="false" maxlength="64" onInput=${set('sha256')} /></label>
      <button class="button" type="submit" disabled=${!can(id, 'bundle.install') || !form.url || form.sha256.length !== 64 || isBusy(id, 'bundle.install')}>Install</button></div></form><//>`
}
