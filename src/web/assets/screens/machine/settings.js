// @ts-check
// How a machine is set up: shown for all, changed and removed where a command or this page has added it.
import { html, useEffect, useState } from '../../ui/html.js'
import { Button, Card, Dialog } from '../../ui/parts.js'
import { channelText, number, sourceText } from '../../lib/format.js'
import { can, isBusy, knows, send } from '../../lib/commands.js'
import { link } from '../../lib/route.js'
import { Form } from './settings-form.js'

/** @typedef {import('../../lib/store.js').Machine} Machine */

/** @param {{ machine: Machine }} props */
export function Settings ({ machine }) {
  const { agent, id } = machine
  const [entry, setEntry] = useState(/** @type {any} */ (null))
  const [open, setOpen] = useState('')
  const ready = can(agent, 'machine.list')
  const news = machine.events.find(event => event.event === 'machine_changed')?.ts
  useEffect(() => {
    let gone = false
    if (ready) {
      send(agent, 'machine.list', {}, { quiet: true, named: false }).then(reply => {
        if (!gone && reply.ok) setEntry(reply.data.machines.find((/** @type {any} */ one) => one.machine === id) ?? null)
      })
    }
    return () => { gone = true }
  }, [agent, id, ready, news])
  if (!knows(agent, 'machine.list')) return null
  const own = entry?.from === 'command'
  const saved = (/** @type {any} */ changed) => { setEntry(changed); setOpen('') }
  return html`<${Card} title="Settings" name="settings" aside=${entry ? (own ? 'added while the agent runs' : 'from the configuration file') : ''}>
    ${!entry && html`<p class="note">${ready ? 'Asking the agent …' : 'The agent has to be online to say how the machine is set up.'}</p>`}
    ${entry && open === 'form' ? html`<${Form} agent=${agent} entry=${entry} onSaved=${saved} onCancel=${() => setOpen('')} />` : entry && html`<${Facts} entry=${entry} />`}
    ${entry && !own && html`<p class="note" data-of="file">This machine stands in the agent’s configuration file. It is changed and removed there, and counts from the agent’s next start on.</p>`}
    ${own && open !== 'form' && html`<div class="row-of"><${Button} data-do="change" disabled=${!can(agent, 'machine.set')} onClick=${() => setOpen('form')}>Change<//>
      <${Button} data-do="remove" disabled=${!can(agent, 'machine.remove')} busy=${isBusy(agent, 'machine.remove', id)} onClick=${() => setOpen('remove')}>Remove …<//></div>`}
    ${open === 'remove' && html`<${Remove} machine=${machine} name=${entry.name ?? id} onClose=${() => setOpen('')} />`}<//>`
}

/** @param {{ entry: any }} props */
function Facts ({ entry }) {
  const { alarm = {}, gate = {}, source } = entry
  const pairs = (/** @type {any} */ keys) => Object.entries(keys).map(([key, value]) => `${key} ${value}`).join(', ')
  return html`<dl class="facts">
    <dt>Name</dt><dd>${entry.name ?? entry.machine}</dd>
    ${entry.notes && html`<dt>Notes</dt><dd class="notes-text">${entry.notes}</dd>`}
    <dt>Sound from</dt><dd>${sourceText(source)}</dd><dt>Channel</dt><dd>${channelText(source.channel)}</dd>
    <dt>A window each</dt><dd>${number(entry.hop_s)} s</dd>
    <dt>Decides</dt><dd>${entry.judge ?? 'as the baseline allows'}</dd>
    ${entry.model && html`<dt>In the bundle</dt><dd>${entry.model}</dd>`}
    ${entry.baseline && html`<dt>Learns</dt><dd>${entry.baseline === 'auto' ? `by itself, ${number(entry.baseline_minutes)} min` : 'on command'}</dd>`}
    ${entry.adapt && html`<dt>Lets in</dt><dd>what recurs daily</dd>`}
    <dt>Alarm</dt><dd>${Object.keys(alarm).length ? pairs(alarm) : 'as for all machines'}</dd>
    ${Object.keys(gate).length > 0 && html`<dt>Gate</dt><dd>${pairs(gate)}</dd>`}</dl>`
}

/** @param {{ machine: Machine, name: string, onClose: () => void }} props */
function Remove ({ machine, name, onClose }) {
  const { agent, id } = machine
  const go = async () => {
    onClose()
    const reply = await send(agent, 'machine.remove', { machine: id })
    if (reply.ok) location.hash = link('machines')
  }
  return html`<${Dialog} title=${`Remove ${name}?`} onClose=${onClose}><p>Its threshold, its baseline, its alarm and its history go with it, and the broker forgets it. There is no way back but an export.</p>
    <div class="ends"><${Button} onClick=${onClose}>Keep it<//><${Button} kind="danger" data-do="machine.remove" onClick=${go}>Remove it<//></div><//>`
}
