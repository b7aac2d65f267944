// @ts-check
// What a person does about a machine: acknowledge, shelve, maintenance. The same on its screen and in the list of alarms.
import { html, useState } from './html.js'
import { Button, Choice, Dialog } from './parts.js'
import { can, inHours, isBusy, send } from '../lib/commands.js'

/** @typedef {import('../lib/store.js').Machine} Machine */

const SHELVE = [{ value: 1, label: '1 h' }, { value: 8, label: '8 h' }, { value: 24, label: '1 day' }, { value: 72, label: '3 days' }]
const SERVICE = [{ value: 1, label: '1 h' }, { value: 4, label: '4 h' }, { value: 8, label: '8 h' }, { value: 0, label: 'Until I end it' }]

/** @param {{ machine: Machine, maintenance?: boolean }} props */
export function Acts ({ machine, maintenance = false }) {
  const [open, setOpen] = useState(null)
  const { agent, id, alarm, settings } = machine
  const command = (/** @type {string} */ name, args = {}) => send(agent, name, { machine: id, ...args })
  const act = (/** @type {string} */ name) => ({ disabled: !can(agent, name), busy: isBusy(agent, name, id), 'data-do': name })
  const close = () => setOpen(null)
  const serviced = settings?.maintenance
  const shelved = alarm?.state === 'shelved' && !serviced
  return html`<div class="acts">
    ${alarm?.state === 'active' && html`<${Button} kind="main" symbol="acknowledged" ...${act('alarm.acknowledge')} onClick=${() => setOpen('acknowledge')}>Acknowledge<//>`}
    ${shelved ? html`<${Button} symbol="bell" ...${act('alarm.unshelve')} onClick=${() => command('alarm.unshelve')}>End shelving<//>`
      : !serviced && alarm && (maintenance || alarm.kind) && html`<${Button} symbol="shelved" ...${act('alarm.shelve')} onClick=${() => setOpen('shelve')}>Shelve<//>`}
    ${maintenance && (serviced
      ? html`<${Button} symbol="maintenance" ...${act('maintenance.set')} onClick=${() => command('maintenance.set', { on: false })}>End maintenance<//>`
      : html`<${Button} symbol="maintenance" ...${act('maintenance.set')} onClick=${() => setOpen('service')}>Maintenance<//>`)}
    ${open === 'acknowledge' && html`<${Ask} title=${`Acknowledge ${id}`} text="You take care of it. The alarm stays listed until the machine sounds normal again." go="Acknowledge" onClose=${close}
      onGo=${(/** @type {any} */ { comment }) => command('alarm.acknowledge', { comment })} />`}
    ${open === 'shelve' && html`<${Ask} title=${`Shelve ${id}`} text="The alarm is hidden for a time. Listening goes on." spans=${SHELVE} first=${8} go="Shelve" onClose=${close}
      onGo=${(/** @type {any} */ { comment, hours }) => command('alarm.shelve', { comment, until: inHours(hours) })} />`}
    ${open === 'service' && html`<${Ask} title=${`Maintenance of ${id}`} text="While somebody works on the machine its windows are not judged and raise no alarm." spans=${SERVICE} first=${4} go="Begin maintenance" onClose=${close}
      onGo=${(/** @type {any} */ { comment, hours }) => command('maintenance.set', { on: true, reason: comment, until: hours ? inHours(hours) : undefined })} />`}
  </div>`
}

/** @param {{ title: string, text: string, go: string, spans?: any[], first?: number, onClose: () => void, onGo: (values: any) => void }} props */
function Ask ({ title, text, go, spans, first, onClose, onGo }) {
  const [comment, setComment] = useState('')
  const [hours, setHours] = useState(first)
  const submit = (/** @type {Event} */ event) => { event.preventDefault(); onClose(); onGo({ comment: comment.trim() || undefined, hours }) }
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}><p>${text}</p>
    ${spans && html`<${Choice} label="For how long" value=${hours} options=${spans} onChange=${setHours} />`}
    <label class="field">Comment (optional)<input maxlength="200" autofocus value=${comment} onInput=${(/** @type {any} */ event) => setComment(event.target.value)} /></label>
    <div class="ends"><${Button} onClick=${onClose}>Cancel<//><button class="button main" type="submit">${go}</button></div></form><//>`
}
