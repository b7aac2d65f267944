// @ts-check
// One machine: how it sounds, against what it is judged, and what a person can do about it.
import { html, useEffect, useState } from '../ui/html.js'
import { Acts } from '../ui/acts.js'
import { icon } from '../ui/icons.js'
import { Ago, At, Card, Empty, Figure, State } from '../ui/parts.js'
import { Listen } from '../ui/listen.js'
import { clock, moment, number, span, steady, times, words } from '../lib/format.js'
import { look, story, whatSpoke } from '../lib/look.js'
import { link } from '../lib/route.js'
import { nameOf, store } from '../lib/store.js'
import { can, refusal, send } from '../lib/commands.js'
import { Over } from './machine/over.js'
import { Settings } from './machine/settings.js'
import { Threshold } from './machine/threshold.js'
import { Learning } from './machine/learning.js'
import { Bands, Windows } from './machine/windows.js'

/** Events after which `state.get` says something else. */
const NEWS = /^(baseline_|threshold_changed|bundle_changed)/

/** @param {{ agent: string, id: string }} props */
export function Machine ({ agent, id }) {
  const machine = store.world.machines.get(`${agent}/${id}`)
  const [draft, setDraft] = useState(null)
  const state = useMachineState(agent, id, machine)
  if (!machine) {
    return html`<div class="screen"><${Empty} symbol="search" title=${`No machine ${id} on ${agent}`}><a href=${link('machines')}>Back to the machines</a><//></div>`
  }
  const shown = look(machine)
  return html`<div class="screen machine" data-detail=${machine.key}>
    <a class="crumb" href=${link('machines')}>${icon('back')}Machines</a>
    <${Head} machine=${machine} shown=${shown} />
    <div class="cards">
      <${Over} machine=${machine} draft=${draft} state=${state} />
      <${Figures} machine=${machine} stale=${shown.stale} hours=${hoursOf(machine, state)} />
      ${store.session?.home === 'agent' && html`<${Card} title="What it sounds like now" name="listen"><${Listen} agent=${agent} machine=${id} refused=${refusal.text} /><//>`}
      <${Threshold} machine=${machine} draft=${draft} setDraft=${setDraft} state=${state} />
      <${Learning} machine=${machine} state=${state} />
      <${Settings} machine=${machine} />
      <${Bands} machine=${machine} />
      <${Windows} machine=${machine} />
      <${Events} events=${machine.events} />
    </div></div>`
}

/** What `state.get` says of this machine, asked again when something changed it.
 * @param {string} agent @param {string} id @param {import('../lib/store.js').Machine | undefined} machine */
function useMachineState (agent, id, machine) {
  const [state, setState] = useState(null)
  const news = machine?.events.find(event => NEWS.test(event.event))
  const ready = can(agent, 'state.get')
  const mark = `${news?.ts} ${machine?.settings?.revision} ${machine?.settings?.baseline} ${ready}`
  useEffect(() => {
    let gone = false
    const read = () => send(agent, 'state.get', {}, { quiet: true, named: false }).then(reply => {
      if (!gone && reply.ok) setState(reply.data.machines.find((/** @type {any} */ one) => one.machine === id) ?? null)
    })
    if (ready) read()
    const timer = setInterval(() => { if (ready && !document.hidden) read() }, 20000)
    return () => { gone = true; clearInterval(timer) }
  }, [agent, id, mark])
  return state
}

/** @param {{ machine: import('../lib/store.js').Machine, shown: import('../lib/look.js').Look }} props */
function Head ({ machine, shown }) {
  const { alarm, agent } = machine
  const hand = alarm && alarm.state !== 'normal' && [alarm.by && `by ${alarm.by}`, alarm.comment && `“${alarm.comment}”`, alarm.until && `until ${clock(alarm.until)}`].filter(Boolean).join(', ')
  return html`<header class="machine-head"><h1>${nameOf(machine)}</h1><div><${State} look=${shown} large=${true} /></div>
    <p class="story">${alarm && alarm.kind ? html`<strong>${story(alarm, machine.verdict)}</strong> · ` : shown.detail ? `${shown.detail} · ` : ''}
      ${shown.since && html`<span title=${moment(shown.since)}>${alarm?.state === 'normal' ? 'no alarm for' : 'for'} ${span(Date.now() - Date.parse(shown.since))}</span> · `}${hand && `${hand} · `}${nameOf(machine) !== machine.id && html`<code>${machine.id}</code> `}on <a href=${link('agent', agent)}>${agent}</a></p>
    <${Acts} machine=${machine} maintenance=${true} /></header>`
}

/** How long it ran: of the last health message, which comes more often than the state is asked for.
 * @param {import('../lib/store.js').Machine} machine @param {any} state */
function hoursOf (machine, state) {
  const health = store.world.agents.get(machine.agent)?.health?.machines.find(one => one.machine === machine.id)
  const running = health?.running_h ?? state?.hours?.running ?? null
  if (running === null) return null
  return { running, standing: health?.standing_h ?? state?.hours?.standing ?? 0, since: state?.hours?.since ?? null }
}

/** @param {{ machine: import('../lib/store.js').Machine, stale: boolean, hours: { running: number, standing: number, since: string | null } | null }} props */
function Figures ({ machine, stale, hours }) {
  const { verdict, settings } = machine
  if (!verdict) return html`<${Card} title="Last window" name="figures"><p class="note">No window has come yet.</p><//>`
  const over = verdict.verdict === 'anomalous'
  const combined = settings?.judge === 'combined'
  return html`<${Card} title="Last window" name="figures" aside=${html`<${Ago} at=${machine.verdictAt} />`}><dl class="figures">
    <${Figure} label="Verdict" name="verdict" tone=${over && !stale ? 'bad' : ''} value=${verdict.reason ? words(verdict.reason) : verdict.verdict} note=${over ? whatSpoke(verdict) : ''} />
    <${Figure} label="Distance" name="distance" value=${steady(verdict.distance)} note=${verdict.ratio !== null ? `${times(verdict.ratio)} threshold` : ''} />
    <${Figure} label="Threshold" name="threshold" value=${number(verdict.threshold, 4)} note=${settings?.source ?? ''} />
    <${Figure} label="Score" name="score" value=${steady(verdict.score)} note=${verdict.p_value !== null ? `p ${number(verdict.p_value, 2)}` : combined ? '' : 'no baseline'} />
    <${Figure} label="Lane" name="lane" value=${verdict.lane ?? '–'} note=${combined ? 'all lanes decide' : 'the distance decides'} />
    <${Figure} label="Level" name="level" value=${verdict.level_dbfs.toFixed(1)} unit="dBFS" />
    ${hours && html`<${Figure} label="Ran" name="hours" value=${hours.running.toFixed(hours.running < 10 ? 2 : 0)} unit="h" note=${[hours.standing >= 0.1 ? `stood ${hours.standing.toFixed(1)} h` : '', hours.since ? `since ${new Date(hours.since).toLocaleDateString()}` : ''].filter(Boolean).join(', ')} />`}
  </dl><p class="note">Window ${verdict.seq} at <${At} at=${verdict.ts} />${verdict.bundle ? `, bundle ${verdict.bundle}` : ''}${verdict.clock ? '. The agent’s clock is not set' : ''}.${store.session?.home === 'fleet' ? ' Live sound is on the agent’s own page.' : ''}</p><//>`
}

/** @param {{ events: EventMsg[] }} props */
export const Events = ({ events }) => html`<${Card} title="Events" name="events" wide=${true}>${events.length
  ? html`<ul class="events">${events.slice(0, 20).map(event => html`<li key=${event.ts + event.event}><${At} at=${event.ts} /><div>${words(event.event)}${event.detail && html`<small>${event.detail}</small>`}</div></li>`)}</ul>`
  : html`<p class="note">None since this page was opened.</p>`}<//>`
