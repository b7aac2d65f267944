// @ts-check
// What is normal for this machine: being learned, proposed, in use.
import { html, useState } from '../../ui/html.js'
import { Button, Card, Choice, Progress, Twice } from '../../ui/parts.js'
import { clock, level, number, percent, plural, span } from '../../lib/format.js'
import { can, isBusy, send } from '../../lib/commands.js'
import { provisional } from '../../lib/look.js'

const MINUTES = [{ value: 20, label: '20 min' }, { value: 60, label: '1 h' }, { value: 480, label: '8 h' }, { value: 1440, label: '1 day' }]
const RATES = [{ value: 0.001, label: '1 in 1000' }, { value: 0.01, label: '1 in 100' }, { value: 0.05, label: '1 in 20' }]

/** @typedef {import('../../lib/store.js').Machine} Machine */

/** @param {{ machine: Machine, state: any }} props */
export function Learning ({ machine, state }) {
  const baseline = state?.baseline
  // The event comes each time that progress was made, `state.get` every now and then: the newer of the two counts.
  const event = machine.events.find(one => one.event === 'baseline_learning')
  const learning = baseline?.learning && event && Number(event.heard_s) > baseline.learning.heard_s ? event : baseline?.learning
  return html`<${Card} title="Normal" name="learning" aside=${aside(baseline)}>
    ${baseline === undefined && html`<p class="note">${can(machine.agent, 'state.get') ? 'Asking the agent …' : 'The agent has to be online to say what was learned.'}</p>`}
    ${baseline?.problem && html`<p class="say bad">Nothing was learned, or it does not count now: ${baseline.problem}</p>`}
    ${learning ? html`<${Under} machine=${machine} learning=${learning} />`
      : baseline?.proposal ? html`<${Proposal} machine=${machine} proposal=${baseline.proposal} />`
        : baseline && html`<${InUse} machine=${machine} baseline=${baseline.in_use} />`}
    ${machine.settings?.adaptation && html`<${Daily} machine=${machine} adaptation=${machine.settings.adaptation} />`}<//>`
}

/** @param {any} baseline */
const aside = baseline => (baseline?.learning ? 'being learned' : baseline?.proposal ? 'waits for your decision' : baseline?.in_use ? `learned ${clock(baseline.in_use.learned)}` : '')

/** @param {Machine} machine @param {string} command */
const act = ({ agent, id }, command) => ({ disabled: !can(agent, command), busy: isBusy(agent, command, id), 'data-do': command })

/** @param {{ machine: Machine, learning: any }} props */
function Under ({ machine, learning }) {
  const share = Math.min(1, learning.share)
  const left = Math.max(0, learning.wanted_s - learning.heard_s)
  return html`<p>Listening to what is normal: <b>${percent(share)}</b>, about ${span(left * 1000)} of sound to go.</p><${Progress} share=${share} label="Learning" />
    <p class="note">${plural(learning.windows, 'window')} heard${learning.left_out ? `, ${learning.left_out} left out because they could not be judged` : ', none left out'}. Let the machine run through all that is normal: loads, speeds, doors.</p>
    ${provisional(machine.settings) ? html`<p class="say">Judged meanwhile by what was heard until now: <b>${provisional(machine.settings)}</b>. Alarms may be wrong more often, because it knows only the loads of these minutes. While one stands, its windows are left out.</p>`
      : learning.windows < 40 && html`<p class="note">With a baseline that is learned by itself (<code>auto</code>), alarms begin provisionally from 40 windows on.</p>`}
    <${Twice} ask="Stop and drop it" kind="small" ...${act(machine, 'baseline.discard')} onClick=${() => send(machine.agent, 'baseline.discard', { machine: machine.id })}>Stop learning<//>`
}

/** @param {{ machine: Machine, proposal: any }} props */
function Proposal ({ machine, proposal }) {
  const apply = () => send(machine.agent, 'baseline.apply', { machine: machine.id })
  return html`<p>Learned from <b>${plural(proposal.windows, 'window')}</b> (${span(proposal.heard_s * 1000)} of sound)${proposal.left_out ? `; ${proposal.left_out} were left out` : ''}. On these very windows it would have meant:</p>
    <table><thead><tr><th></th><th class="num">anomalous</th><th class="num">alarms</th></tr></thead><tbody>
      ${proposal.combined_share != null && html`<tr><td>all lanes</td><td class="num">${percent(proposal.combined_share)}</td><td class="num">${proposal.combined_alarms ?? '–'}</td></tr>`}
      <tr><td>distance alone, threshold ${number(proposal.threshold, 4)}</td><td class="num">${percent(proposal.distance_share)}</td><td class="num">${proposal.distance_alarms ?? '–'}</td></tr>
      ${proposal.previous_share != null && html`<tr><td>the threshold until now</td><td class="num">${percent(proposal.previous_share)}</td><td class="num">–</td></tr>`}</tbody></table>
    ${proposal.expected_most != null && html`<p class="note">All lanes, in hours that were not heard: ${percent(proposal.false_alarm_rate)} of normal windows anomalous were asked, up to <b>${percent(proposal.expected_most)}</b> are to be expected${proposal.missing_minutes ? `; ${span(proposal.missing_minutes * 60000)} more, over other hours, would bring it below ${percent(2 * proposal.false_alarm_rate)}` : ''}.</p>`}
    <p class="note">Applying it drops a threshold that was set by hand. Was the machine healthy and running normally all the time? What it heard becomes its normal.</p>
    <div class="row-of"><${Button} kind="main" ...${act(machine, 'baseline.apply')} onClick=${apply}>Apply<//>
      <${Begin} machine=${machine} word="Learn longer" /><${Twice} ask="Discard it" ...${act(machine, 'baseline.discard')} onClick=${() => send(machine.agent, 'baseline.discard', { machine: machine.id })}>Discard<//></div>`
}

/** @param {{ machine: Machine, baseline: any }} props */
function InUse ({ machine, baseline }) {
  return html`${baseline ? html`<dl class="facts"><dt>Learned</dt><dd>${clock(baseline.learned)} from ${plural(baseline.windows, 'window')} (${span(baseline.heard_s * 1000)})${baseline.left_out ? `, ${baseline.left_out} left out` : ''}</dd>
      <dt>Threshold</dt><dd>${number(baseline.threshold, 4)}, by ${baseline.threshold_by}</dd><dt>False alarm rate</dt><dd>${percent(baseline.false_alarm_rate)} of normal windows${baseline.expected_most != null && baseline.expected_most > baseline.false_alarm_rate ? `; in hours that were not heard, up to ${percent(baseline.expected_most)} are to be expected` : ''}</dd>
      <dt>Lanes</dt><dd>${baseline.lanes ? 'distance and all others' : 'distance only: too little sound for more'}</dd>
      ${baseline.baseline_dbfs != null && html`<dt>Level</dt><dd>${level(baseline.baseline_dbfs)}; standing still below ${level(baseline.off_below_dbfs)}</dd>`}<${Modes} baseline=${baseline} /></dl>`
    : html`<p class="note">The bundle’s own normal is in use. Learning where the machine stands makes alarms more certain.</p>`}
    <div class="row-of"><${Begin} machine=${machine} word=${baseline ? 'Learn again' : 'Learn its normal'} />
      ${baseline && html`<${Twice} ask="Drop the baseline" ...${act(machine, 'baseline.discard')} onClick=${() => send(machine.agent, 'baseline.discard', { machine: machine.id })}>Discard<//>`}</div>`
}

/** What recurs daily, as far as it was let in. @param {{ machine: Machine, adaptation: any }} props */
function Daily ({ machine, adaptation: { days, hours } }) {
  const told = hours.map((/** @type {any} */ one) => `${one.hour}:00 ${number(one.times, 2)} ×`).join(', ')
  return html`<h3>What recurs daily</h3><p data-of="daily">${hours.length ? html`In these hours (UTC) the tail is wider than learned: <b>${told}</b>. Wear is judged as learned.` : html`Nothing is let in: all hours are judged as learned.`} ${plural(days, 'day')} remembered.</p>
    ${days > 0 && html`<${Twice} ask="Forget it" kind="small" ...${act(machine, 'adaptation.reset')} onClick=${() => send(machine.agent, 'adaptation.reset', { machine: machine.id })}>Forget what recurs<//>`}`
}

/** How often each way of running was heard and how loud it is. @param {{ baseline: any }} props */
function Modes ({ baseline }) {
  const modes = baseline.mode_levels ?? []
  if (modes.length < 2) return null
  return html`<dt>Ways of running</dt><dd data-do="modes">${modes.map((/** @type {any} */ mode, /** @type {number} */ n) => html`<div>${n + 1} of ${modes.length}: ${percent(mode.share)} of the windows, ${level(mode.level_dbfs)} (${level(mode.from_dbfs)} to ${level(mode.to_dbfs)})</div>`)}</dd>`
}

/** @param {{ machine: Machine, word: string }} props */
function Begin ({ machine, word }) {
  const [open, setOpen] = useState(false)
  const [minutes, setMinutes] = useState(60)
  const [rate, setRate] = useState(0.01)
  const { agent, id } = machine
  if (!open) return html`<${Button} symbol="learning" disabled=${!can(agent, 'baseline.learn')} onClick=${() => setOpen(true)} data-do="learn">${word}<//>`
  const go = () => { setOpen(false); send(agent, 'baseline.learn', { machine: id, minutes, false_alarm_rate: rate }) }
  return html`<div class="say"><h3>How much normal running?</h3><${Choice} label="How much normal running" value=${minutes} options=${MINUTES} onChange=${setMinutes} />
    <br /><br /><h3>Normal windows that may be called anomalous</h3><${Choice} label="False alarm rate" value=${rate} options=${RATES} onChange=${setRate} />
    <div class="row-of"><${Button} kind="main" ...${act(machine, 'baseline.learn')} onClick=${go}>Begin<//><${Button} onClick=${() => setOpen(false)}>Cancel<//></div></div>`
}
