// @ts-check
// Everything that was set and learned, as one file: to a new SD card and back. Shown where the agent has the commands.
import { html } from '../ui/html.js'
import { Button, Card } from '../ui/parts.js'
import { can, isBusy, knows, send } from '../lib/commands.js'

/** @param {{ id: string }} props */
export function Keeping ({ id }) {
  if (!knows(id, 'state.export')) return null
  const save = async () => {
    const reply = await send(id, 'state.export', {}, { timeout: 60000 })
    if (reply.ok && reply.data?.data) download(reply.data.name ?? `${id}.tar.gz`, reply.data.data)
  }
  const load = async (/** @type {File | undefined} */ file) => {
    if (!file) return
    const bytes = new Uint8Array(await file.arrayBuffer())
    let text = ''
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000))
    await send(id, 'state.import', { data: btoa(text) }, { timeout: 60000 })
  }
  return html`<${Card} title="Save and restore" name="keeping"><p class="note">One file holds all that was set and learned here. A new SD card goes on where the old one stopped.</p>
    <div class="row-of"><${Button} symbol="download" disabled=${!can(id, 'state.export')} busy=${isBusy(id, 'state.export')} onClick=${save}>Export<//>
      ${knows(id, 'state.import') && html`<label class="button">Import<input class="hidden" type="file" disabled=${!can(id, 'state.import')} onChange=${(/** @type {any} */ event) => { load(event.target.files[0]); event.target.value = '' }} /></label>`}</div><//>`
}

/** @param {string} name @param {string} base64 */
function download (name, base64) {
  const bytes = Uint8Array.from(atob(base64), char => char.charCodeAt(0))
  const address = URL.createObjectURL(new Blob([bytes]))
  const anchor = Object.assign(document.createElement('a'), { href: address, download: name })
  anchor.click()
  URL.revokeObjectURL(address)
}
