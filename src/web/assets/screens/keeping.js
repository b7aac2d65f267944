// @ts-check
// Everything that was set and learned, as one file: to a new SD card and back.
import { html, useRef, useState } from '../ui/html.js'
import { Button, Card, Dialog, Progress } from '../ui/parts.js'
import { bytes, clock, percent } from '../lib/format.js'
import { can, knows } from '../lib/commands.js'
import { download } from '../lib/download.js'
import { upload } from '../lib/upload.js'

/** @typedef {{ step: string, share: number, ok?: boolean, text?: string, left?: string[] }} Work */

/** @param {{ id: string }} props */
export function Keeping ({ id }) {
  const [work, setWork] = useState(/** @type {Work | null} */ (null))
  const [chosen, setChosen] = useState(/** @type {File | null} */ (null))
  const input = useRef(/** @type {any} */ (null))
  if (!knows(id, 'state.export')) return null
  const busy = work !== null && work.ok === undefined
  const progress = (/** @type {string} */ step, /** @type {number} */ share) => setWork({ step, share })
  const save = async () => {
    progress('The agent packs it', 0)
    const { ok, text, name, size, left } = await download(id, progress)
    setWork({ step: '', share: 1, ok, left, text: ok ? `${name}, ${bytes(size)}, is with your downloads.` : text })
  }
  const load = async (/** @type {File} */ file) => {
    setChosen(null)
    progress('Reading', 0)
    const { ok, text, data } = await upload(id, 'state.import', file, progress)
    setWork({ step: '', share: 1, ok, text: ok ? said(data) : text })
  }
  return html`<${Card} title="Save and restore" name="keeping"><p class="note">One file holds all that was set and learned here: thresholds, baselines, added machines and their alarms. A new SD card goes on where the old one stopped. Passwords and the bundle are not in it.</p>
    <div class="row-of"><${Button} symbol="download" data-do="export" disabled=${!can(id, 'state.export') || busy} onClick=${save}>Export<//>
      <${Button} symbol="upload" data-do="import" disabled=${!can(id, 'state.import') || busy} onClick=${() => input.current.click()}>Import …<//>
      <input ref=${input} class="hidden" type="file" tabindex="-1" aria-label="File to import" accept=".gz,.tgz,application/gzip" onChange=${(/** @type {any} */ event) => { setChosen(event.target.files[0] ?? null); event.target.value = '' }} /></div>
    ${busy && html`<div class="steps-line"><span>${work?.step}</span><span>${percent(work?.share ?? 0)}</span></div><${Progress} share=${work?.share ?? 0} label=${work?.step} />`}
    <div role="status">${work?.ok !== undefined && html`<p class=${`say ${work.ok ? 'good' : 'bad'}`} data-kept=${work.ok ? 'ok' : 'error'}>${work.text}</p>
      ${work.left?.length ? html`<p class="say warn">Left out, because it is damaged: ${work.left.join('; ')}</p>` : ''}`}</div>
    ${chosen && html`<${Dialog} title="Import this file?" onClose=${() => setChosen(null)}>
      <p><b>${chosen.name}</b>, ${bytes(chosen.size)}</p><p>It takes the place of all that was set and learned on ${id}, and the agent starts anew. What is there now is kept in its state directory as before-import.tar.gz.</p>
      <div class="ends"><${Button} onClick=${() => setChosen(null)}>Cancel<//><${Button} kind="main" data-do="import-now" onClick=${() => load(chosen)}>Import<//></div><//>`}<//>`
}

/** What an import brought, in words. @param {any} data */
function said (data) {
  const list = (/** @type {string[]} */ ids) => (ids.length ? ids.join(', ') : 'none')
  const parts = [`Imported what ${data.from} exported at ${clock(data.exported)}${data.is_own ? '' : ', another agent'}. Machines: ${list(data.added)}; with what was learned: ${list(data.learned)}. The agent starts anew.`]
  if (data.elsewhere.length) parts.push(`Not machines of this agent, and kept for when they are: ${data.elsewhere.join(', ')}.`)
  if (data.bundle && data.bundle !== data.bundle_here) parts.push(`It ran with the bundle ${data.bundle}; here is ${data.bundle_here ?? 'none'}. Baselines count under the encoder that made them.`)
  if (!data.broker.endsWith('has none')) parts.push(`Broker: ${data.broker}.`)
  return parts.join(' ')
}
