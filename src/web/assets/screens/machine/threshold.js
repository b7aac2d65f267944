// @ts-check
// The threshold: tried on the last day before it is set.
import { html, useEffect, useState } from '../../ui/html.js'
import { Button, Card, Choice } from '../../ui/parts.js'
import { clock, number, percent, plural } from '../../lib/format.js'
import { can, inHours, isBusy, knows, send } from '../../lib/commands.js'

const STAY = [{ value: 0, label: 'For good' }, { value: 2, label: '2 h' }, { value: 24, label: '1 day' }]
const RATES = [{ value: 0.001, label: '1 in 1000' }, { value: 0.01, label: '1 in 100' }, { value: 0.05, label: '1 in 20' }]
const SETTLE_MS = 350
/** New windows come: the same question has another answer. */
const AGAIN_MS = 30000

/** @param {{ machine: import('../../lib/store.js').Machine, draft: number | null, setDraft: (draft: number | null) => void, state: any }} props */
export function Threshold ({ machine, draft, setDraft, state }) {
  const { agent, id, settings } = machine
  const current = settings?.threshold ?? machine.verdict?.threshold ?? null
  const [hours, setHours] = useState(0)
  const [typed, setTyped] = useState(/** @type {string | null} */ (null))
  const [asked, setAsked] = useState({ at: 0, answer: null, problem: '' })
  const value = draft ?? current ?? 0
  const top = ceiling(current, machine.track)
  const changed = draft !== null && draft > 0 && draft !== current
  const shown = changed ? draft : current
  usePreview(agent, id, shown, setAsked)
  if (current === null) return html`<${Card} title="Threshold" name="threshold"><p class="note">There is no threshold before a bundle or a learned baseline gives one.</p><//>`
  // What is being typed stays as it is, whatever arrives meanwhile.
  const type = (/** @type {any} */ event) => { setTyped(event.target.value); set(event) }
  const set = (/** @type {any} */ event) => { const next = Number(event.target.value); if (next > 0 && next < 1000) setDraft(Number(next.toPrecision(4))) }
  const apply = async () => {
    const reply = await send(agent, 'threshold.set', { machine: id, threshold: draft, until: hours ? inHours(hours) : undefined })
    if (reply.ok) setDraft(null)
  }
  const override = settings?.source === 'override'
  return html`<${Card} title="Threshold" name="threshold" aside=${origin(settings)}>
    <div class="slider"><input type="range" min=${top / 400} max=${top} step=${top / 400} value=${value} aria-label="Threshold" aria-valuetext=${number(value, 4)} disabled=${!can(agent, 'threshold.set')} onInput=${set} />
      <input type="number" inputmode="decimal" min="0" max="999" step="any" value=${typed ?? number(value, 4)} aria-label="Threshold as a number" disabled=${!can(agent, 'threshold.set')} onInput=${type} onBlur=${() => setTyped(null)} /></div>
    <div class="ask" role="status">${preview(asked, shown, changed)}</div>
    ${changed && html`<div class="row-of"><${Choice} label="How long it holds" value=${hours} options=${STAY} onChange=${setHours} />
      <${Button} kind="main" data-do="set" disabled=${!can(agent, 'threshold.set')} busy=${isBusy(agent, 'threshold.set', id)} onClick=${apply}>Set ${number(draft, 4)}<//>
      <${Button} onClick=${() => setDraft(null)}>Keep ${number(current, 4)}<//></div>`}
    <${Judge} machine=${machine} override=${override} changed=${changed} state=${state} setDraft=${setDraft} />
    ${settings?.made_for && html`<p class="say warn">This override was set under ${settings.made_for}. The same distance means something else under another bundle: check it.</p>`}<//>`
}

/** Room to the right of the threshold, rounded so that it does not move with every window.
 * @param {number | null} current @param {import('../../lib/track.js').Track} track */
function ceiling (current, track) {
  const peak = Math.max((current ?? 0.1) * 2, ...track.points.slice(-300).map(point => (point[1] ?? 0) * 1.1))
  const size = 10 ** Math.floor(Math.log10(peak))
  return Number((Math.ceil(peak / size * 2) / 2 * size).toPrecision(3))
}

/** Asks the agent once the slider rests. @param {string} agent @param {string} machine @param {number | null} threshold @param {(asked: any) => void} done */
function usePreview (agent, machine, threshold, done) {
  const ready = can(agent, 'threshold.preview')
  const turn = Math.floor(Date.now() / AGAIN_MS)
  useEffect(() => {
    if (threshold === null || !ready) return undefined
    let gone = false
    const timer = setTimeout(async () => {
      const reply = await send(agent, 'threshold.preview', { machine, threshold }, { quiet: true, named: false })
      if (!gone) done({ at: threshold, answer: reply.ok ? reply.data.machines[0] : null, problem: reply.ok ? '' : reply.text })
    }, SETTLE_MS)
    return () => { gone = true; clearTimeout(timer) }
  }, [agent, machine, threshold, ready, turn])
}

/** @param {{ at: number, answer: any, problem: string }} asked @param {number | null} shown @param {boolean} changed */
function preview ({ at, answer, problem }, shown, changed) {
  if (problem && at === shown) return html`<p class="say bad">No preview: ${problem}</p>`
  if (!answer || at !== shown) return html`<p class="note">Asking what ${number(shown, 4)} would have meant …</p>`
  if (!answer.windows) return html`<p class="note">No window of the last day has a distance, so nothing can be tried yet.</p>`
  const alarms = (/** @type {any} */ one) => (one.alarms_per_day === null ? plural(one.alarms, 'alarm') : `${number(one.alarms_per_day, 2)} alarms a day`)
  const hours = answer.hours >= 1 ? `${number(answer.hours, 2)} h` : `${Math.max(1, Math.round(answer.hours * 60))} min`
  return html`<p>In the last ${hours}, <b>${number(shown, 4)}</b> ${changed ? 'would have called' : 'calls'} <b>${plural(answer.preview.anomalous, 'window')}</b> anomalous
    (${percent(answer.preview.share)} of ${answer.windows.toLocaleString('en')}) and ${changed ? 'raised' : 'raises'} <b>${alarms(answer.preview)}</b>.</p>
    ${changed && answer.now && html`<p class="note">The present one: ${plural(answer.now.anomalous, 'window')} (${percent(answer.now.share)}), ${alarms(answer.now)}.</p>`}`
}

/** @param {SettingsMsg | null} settings */
function origin (settings) {
  if (!settings) return ''
  if (settings.source !== 'override') return `from the ${settings.source === 'config' ? 'configuration' : settings.source}`
  return `set by ${settings.by ?? 'hand'}${settings.until ? ` until ${clock(settings.until)}` : ''}${settings.reason ? `: ${settings.reason}` : ''}`
}

/** What decides, and what a threshold of one's own costs.
 * @param {{ machine: import('../../lib/store.js').Machine, override: boolean, changed: boolean, state: any, setDraft: (draft: number | null) => void }} props */
function Judge ({ machine, override, changed, state, setDraft }) {
  const { agent, id, settings } = machine
  const rate = settings?.false_alarm_rate ?? state?.baseline?.in_use?.false_alarm_rate
  const move = async (/** @type {number} */ to) => { const reply = await send(agent, 'rate.set', { machine: id, false_alarm_rate: to }); if (reply.ok) setDraft(null) }
  const back = async () => { const reply = await send(agent, 'threshold.reset', { machine: id }); if (reply.ok) setDraft(null) }
  if (override) {
    return html`<div class="say warn"><p>${settings?.baseline ? 'A threshold set by hand decides by the distance alone: all other lanes are switched off.' : 'This threshold was set by hand.'}</p>
      <div class="row-of"><${Button} kind="small" data-do="reset" disabled=${!can(agent, 'threshold.reset')} busy=${isBusy(agent, 'threshold.reset', id)} onClick=${back}>${settings?.baseline ? 'Use all lanes again' : 'Reset the threshold'}<//></div></div>`
  }
  if (settings?.judge !== 'combined') return null
  return html`<div class=${`say${changed ? ' warn' : ''}`}><p>${changed ? 'Setting a threshold switches to the distance alone; the other lanes then no longer decide. ' : 'All lanes decide together; the threshold is that of the distance lane. '}
      ${rate ? `${percent(rate)} of normal windows may be called anomalous.` : ''}${changed ? ' To be alarmed less or more often with all lanes, move that rate instead:' : ''}</p>
    ${knows(agent, 'rate.set') && html`<div class="row-of" data-do="rate"><${Choice} label="Normal windows that may be called anomalous" value=${rate} options=${RATES} onChange=${move} /></div>`}</div>`
}
