// @ts-check
// The settings of a machine as a form. What is left empty is as it is for all machines.
import { html, useEffect, useState } from '../../ui/html.js'
import { Button, Choice } from '../../ui/parts.js'
import { isBusy, send } from '../../lib/commands.js'
import { channelText, sourceText } from '../../lib/format.js'
import { readMicrophones } from '../../lib/first-start.js'

const JUDGES = [{ value: '', label: 'As learned' }, { value: 'distance', label: 'Distance' }, { value: 'combined', label: 'All lanes' }]
/** Keys of the alarm that are asked for: label, and the least that makes sense. */
const ALARM = /** @type {const} */ ([
  ['k', 'Raised at', 1], ['n', 'of the last', 1], ['clear_at_most', 'Cleared at', 0],
  ['raise_after_s', 'Raised after, s', 0], ['clear_after_s', 'Cleared after, s', 0], ['deaf_after_s', 'Deaf after, s', 0]
])

/** @typedef {{ name: string, notes: string, source: string, channel: string, hop_s: string, judge: string, latching: string, alarm: Record<string, string> }} Values */

/** @param {any} entry @returns {Values} */
function valuesOf (entry) {
  const alarm = entry.alarm ?? {}
  return {
    name: entry.name ?? '', notes: entry.notes ?? '', source: '', channel: String(entry.source.channel ?? 'mix'), hop_s: String(entry.hop_s),
    judge: entry.judge ?? '', latching: alarm.latching === undefined ? '' : String(alarm.latching),
    alarm: Object.fromEntries(ALARM.map(([key]) => [key, alarm[key] === undefined ? '' : String(alarm[key])]))
  }
}

/** Only what differs is sent, and what was emptied goes back to its default. @param {any} entry @param {Values} values */
function changesOf (entry, values) {
  const before = valuesOf(entry)
  /** @type {Record<string, any>} */
  const args = {}
  const unset = []
  for (const key of /** @type {const} */ (['name', 'notes', 'judge', 'hop_s'])) {
    const now = values[key].trim()
    if (now === before[key]) continue
    if (now === '') unset.push(key)
    else args[key] = key === 'hop_s' ? Number(now) : now
  }
  if (values.source) args.source = JSON.parse(values.source)
  if (values.channel !== before.channel || values.source) args.channel = values.channel === 'mix' ? 'mix' : Number(values.channel)
  if (values.latching !== before.latching || ALARM.some(([key]) => values.alarm[key] !== before.alarm[key])) {
    const alarm = { ...entry.alarm }
    for (const [key] of ALARM) values.alarm[key] === '' ? delete alarm[key] : alarm[key] = Number(values.alarm[key])
    values.latching === '' ? delete alarm.latching : alarm.latching = values.latching === 'true'
    if (entry.alarm) unset.push('alarm')
    if (Object.keys(alarm).length) args.alarm = alarm
  }
  return { ...args, ...(unset.length ? { unset } : {}) }
}

/** @param {{ agent: string, entry: any, onSaved: (entry: any) => void, onCancel: () => void }} props */
export function Form ({ agent, entry, onSaved, onCancel }) {
  const id = entry.machine
  const [values, setValues] = useState(valuesOf(entry))
  const [microphones, setMicrophones] = useState(null)
  const [problem, setProblem] = useState('')
  useEffect(() => {
    let gone = false
    readMicrophones(agent).then(({ microphones }) => { if (!gone) setMicrophones(microphones) })
    return () => { gone = true }
  }, [agent])
  const set = (/** @type {keyof Values} */ key) => (/** @type {any} */ event) => setValues({ ...values, [key]: event.target.value })
  const setAlarm = (/** @type {string} */ key) => (/** @type {any} */ event) => setValues({ ...values, alarm: { ...values.alarm, [key]: event.target.value } })
  const found = /** @type {import('../../lib/first-start.js').Microphone[]} */ (microphones ?? [])
  const picked = found.find(one => JSON.stringify(one.source) === values.source)
  const channels = Math.max(picked?.channels ?? 0, found.find(one => sourceText(one.source) === sourceText(entry.source))?.channels ?? 0, Number(values.channel) + 1 || 0, 1)
  const changes = changesOf(entry, values)
  const nothing = Object.keys(changes).length === 0
  const heard = 'source' in changes || 'channel' in changes || 'hop_s' in changes
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault()
    const reply = await send(agent, 'machine.set', { machine: id, ...changes })
    if (reply.ok) onSaved(reply.data.machines[0])
    else setProblem(reply.text)
  }
  return html`<form onSubmit=${submit} data-form="machine"><label class="field">Name<input name="name" maxlength="80" value=${values.name} placeholder=${id} onInput=${set('name')} /></label>
    <label class="field">Notes<textarea name="notes" rows="2" maxlength="1000" value=${values.notes} placeholder="Where it stands, whom to call" onInput=${set('notes')}></textarea></label>
    <div class="row-of"><label class="field grow">Sound from<select name="source" value=${values.source} onChange=${set('source')}>
        <option value="">${sourceText(entry.source)}</option>
        ${found.filter(one => sourceText(one.source) !== sourceText(entry.source)).map(one => html`<option key=${one.key} value=${JSON.stringify(one.source)}>${one.name}${one.taken ? ` (also ${one.taken})` : ''}</option>`)}</select></label>
      <label class="field">Channel<select name="channel" value=${values.channel} onChange=${set('channel')}>
        <option value="mix">${channelText('mix')}</option>${Array.from({ length: channels }, (_, i) => html`<option key=${i} value=${String(i)}>${channelText(i)}</option>`)}</select></label>
      <label class="field short">Window each, s<input name="hop_s" type="number" min="0.5" max="86400" step="any" value=${values.hop_s} onInput=${set('hop_s')} /></label></div>
    <div><h3>What decides</h3><${Choice} label="What decides" value=${values.judge} options=${JUDGES} onChange=${(/** @type {string} */ judge) => setValues({ ...values, judge })} /></div>
    <div><h3>Alarm</h3><p class="note">So many anomalous windows raise and clear it. Empty: as for all machines of this agent.</p></div>
    <div class="row-of">${ALARM.map(([key, label, least]) => html`<label class="field short" key=${key}>${label}<input name=${key} type="number" min=${least} step=${key.endsWith('_s') ? 'any' : 1} value=${values.alarm[key]} onInput=${setAlarm(key)} /></label>`)}
      <label class="field">When it is over<select name="latching" value=${values.latching} onChange=${set('latching')}><option value="">as for all</option><option value="false">it clears by itself</option><option value="true">it stays until acknowledged</option></select></label></div>
    ${heard && html`<p class="say warn">It is heard anew: what is being learned begins again. Learn its normal again where the microphone hears something else.</p>`}
    ${problem && html`<p class="say bad" role="alert">${problem}</p>`}
    <div class="row-of"><button class="button main" type="submit" data-do="machine.set" disabled=${nothing || isBusy(agent, 'machine.set', id)}>Save</button><${Button} onClick=${onCancel}>Cancel<//></div></form>`
}
