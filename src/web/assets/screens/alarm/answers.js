// @ts-check
// What the alarm was, said by whoever has looked; after "normal", what that would change, to be applied or not.
import { html, useEffect, useState } from '../../ui/html.js'
import { At, Button, Card, Dialog, Twice } from '../../ui/parts.js'
import { number, plural } from '../../lib/format.js'
import { can, isBusy, send } from '../../lib/commands.js'
import { answered, readProposal } from '../../lib/journal.js'

/** @typedef {import('../../lib/journal.js').Entry} Entry */
const NAMES = ['bearing', 'belt', 'blade', 'clogging', 'imbalance', 'leak', 'loose part', 'misalignment', 'rub']
const ASKED = [{ outcome: 'fault', word: 'A fault', text: 'Something was wrong with the machine. The clip is kept for good, and later alarms say when they sound like it.' },
  { outcome: 'normal', word: 'Normal', text: 'The machine may sound like that. The agent works out what it would mean to add this to what it knows as normal; nothing changes before you apply it.' },
  { outcome: 'disturbance', word: 'A disturbance', text: 'Something beside the machine: hammering, a truck. It is counted, and changes nothing.' }]
const EVERY_MS = 1000

/** @param {{ agent: string, entry: Entry, onDone: () => void }} props */
export function Answers ({ agent, entry, onDone }) {
  const [open, setOpen] = useState(/** @type {string | null} */ (null))
  const [note, setNote] = useState('')
  const [proposal, setProposal] = useState(/** @type {any} */ (null))
  const [awaited, setAwaited] = useState(false)
  const { alarm, machine, answer } = entry
  const look = () => readProposal(agent, machine).then(setProposal)
  useEffect(() => { look() }, [alarm])
  useEffect(() => {
    if (!awaited) return undefined
    const timer = setInterval(async () => {
      const found = await readProposal(agent, machine)
      if (found?.changes.alarm === alarm) { setProposal(found); setAwaited(false) }
    }, EVERY_MS)
    return () => clearInterval(timer)
  }, [awaited])
  const say = async (/** @type {any} */ values) => {
    setOpen(null)
    const reply = await send(agent, 'alarm.confirm', { alarm, ...values })
    setNote(reply.data?.note ?? '')
    setAwaited(reply.ok && reply.data?.proposal === true)
    if (reply.ok) onDone()
  }
  const decide = async (/** @type {string} */ command) => {
    const reply = await send(agent, command, { machine })
    if (reply.ok) { setProposal(null); setNote(command === 'baseline.apply' ? 'Applied. baseline.rollback goes back to the one before.' : 'Dropped: the baseline stays as it is.') }
  }
  const asked = ASKED.find(one => one.outcome === open)
  return html`<${Card} title="What was it?" name="answer">
    ${answer ? html`<p data-answer=${answer.outcome}><b>${answered(answer)}</b>${answer.by ? `, said by ${answer.by}` : ''}, <${At} at=${answer.at} />${answer.comment ? html`<br />“${answer.comment}”` : ''}</p>`
      : html`<p class="note">Nobody has said yet. Every answer makes the next alarm better.</p>`}
    <div class="row-of">${ASKED.map(({ outcome, word }) => html`<${Button} key=${outcome} data-outcome=${outcome} disabled=${!can(agent, 'alarm.confirm')} busy=${isBusy(agent, 'alarm.confirm')} onClick=${() => setOpen(outcome)}>${word}<//>`)}</div>
    <div role="status">${note && html`<p class="say" data-note>${note}</p>`}${awaited && html`<p class="note">Working out what that would change …</p>`}</div>
    ${proposal && html`<${Proposal} agent=${agent} proposal=${proposal} onDecide=${decide} />`}
    ${asked && html`<${Ask} asked=${asked} onClose=${() => setOpen(null)} onGo=${say} />`}<//>`
}

/** @param {{ agent: string, proposal: any, onDecide: (command: string) => void }} props */
function Proposal ({ agent, proposal, onDecide }) {
  const { added, previous_threshold: before, gone, still, found, missed } = proposal.changes
  const act = (/** @type {string} */ command) => ({ disabled: !can(agent, command), busy: isBusy(agent, command), 'data-do': command })
  return html`<div class="say" data-proposal><h3>What it would change</h3><ul class="plain-list">
      <li>${plural(added, 'window')} more ${added === 1 ? 'is' : 'are'} normal; threshold ${number(before, 4)} → ${number(proposal.threshold, 4)}</li>
      <li data-gone=${gone.length}>${gone.length + still.length === 0 ? 'No alarm with a clip to try it on' : `${gone.length} of ${plural(gone.length + still.length, 'alarm')} with a clip would not have come`}</li>
      <li class=${missed.length ? 'anomalous' : ''}>${found.length + missed.length === 0 ? 'No known fault to try it on' : `${found.length} of ${plural(found.length + missed.length, 'known fault')} would still be found`}</li></ul>
    <div class="row-of"><${Button} kind="main" ...${act('baseline.apply')} onClick=${() => onDecide('baseline.apply')}>Apply<//>
      <${Twice} ask="Drop it" ...${act('baseline.discard')} onClick=${() => onDecide('baseline.discard')}>Discard<//></div></div>`
}

/** @param {{ asked: any, onClose: () => void, onGo: (values: any) => void }} props */
function Ask ({ asked, onClose, onGo }) {
  const [comment, setComment] = useState('')
  const [name, setName] = useState('')
  const isFault = asked.outcome === 'fault'
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault()
    onGo({ outcome: asked.outcome, name: isFault ? name.trim() : undefined, comment: comment.trim() || undefined })
  }
  return html`<${Dialog} title=${`It was ${asked.word.toLowerCase()}`} onClose=${onClose}><form onSubmit=${submit}><p>${asked.text}</p>
    ${isFault && html`<label class="field">Which<input list="faults" maxlength="64" required autofocus value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
      <datalist id="faults">${NAMES.map(one => html`<option key=${one} value=${one}></option>`)}</datalist>`}
    <label class="field">What was found (optional)<input maxlength="200" autofocus=${!isFault} value=${comment} onInput=${(/** @type {any} */ event) => setComment(event.target.value)} /></label>
    <div class="ends"><${Button} onClick=${onClose}>Cancel<//><button class="button main" type="submit" disabled=${isFault && !name.trim()}>Say so</button></div></form><//>`
}
