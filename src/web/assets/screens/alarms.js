// @ts-check
// The alarms that stand: open ones first, then those that somebody takes care of, then the hidden ones.
import { html } from '../ui/html.js'
import { Acts } from '../ui/acts.js'
import { At, Empty, State } from '../ui/parts.js'
import { Spark } from '../ui/spark.js'
import { History } from './history.js'
import { moment, span } from '../lib/format.js'
import { byUrgency, story } from '../lib/look.js'
import { link } from '../lib/route.js'
import { nameOf, store } from '../lib/store.js'

/** @typedef {import('../lib/store.js').Machine} Machine */
const SECTIONS = [{ state: 'active', word: 'Open' }, { state: 'acknowledged', word: 'Acknowledged' }, { state: 'shelved', word: 'Shelved' }]

export function Alarms () {
  const now = Date.now()
  const all = byUrgency(machine => !!machine.alarm && machine.alarm.state !== 'normal', now)
  const part = (/** @type {string} */ state) => all.filter(item => item.machine.alarm?.state === state)
  return html`<div class="screen"><header class="title"><h1>Alarms</h1><p>${part('active').length ? `${part('active').length} open` : 'No open alarm'}</p></header>
    ${all.length === 0 && html`<${Empty} symbol="acknowledged" title="No alarm stands">An alarm appears here when several windows agree that a machine sounds different, or that it cannot be heard.<//>`}
    ${SECTIONS.map(({ state, word }) => part(state).length > 0 && html`<h2 class="section" key=${state}>${word}</h2>
      <div class="alarms" key=${`${state}s`}>${part(state).map(item => alarmCard(item, now))}</div>`)}<${History} /></div>`
}

/** @param {{ machine: Machine, look: import('../lib/look.js').Look }} item @param {number} now */
function alarmCard ({ machine, look }, now) {
  const alarm = /** @type {AlarmMsg} */ (machine.alarm)
  const hand = [alarm.by && `by ${alarm.by}`, alarm.comment && `“${alarm.comment}”`].filter(Boolean).join(', ')
  return html`<article class=${`alarm-card is-${look.name}`} key=${machine.key} data-alarm=${machine.key}>
    <div><h2><a href=${link('machine', machine.agent, machine.id)}>${nameOf(machine)}</a>${store.session?.home === 'fleet' && html`<small>${machine.agent}</small>`}</h2>
      <${State} look=${look} /> <small title=${moment(alarm.since)}>for ${span(now - Date.parse(alarm.since))}</small>
      <p>${story(alarm, machine.verdict) || look.detail}${alarm.journal != null && html` <a href=${link('alarm', machine.agent, String(alarm.journal))} data-evidence>What it sounds like</a>`}</p>
      ${hand && html`<p class="note">${hand}${alarm.until && html`, until <${At} at=${alarm.until} />`}</p>`}</div>
    <div><${Spark} track=${machine.track} faint=${look.stale} /></div>
    <${Acts} machine=${machine} /></article>`
}
