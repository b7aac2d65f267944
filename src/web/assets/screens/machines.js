// @ts-check
// Every machine, the most urgent first.
import { html } from '../ui/html.js'
import { icon } from '../ui/icons.js'
import { Ago, Bar, Empty, State } from '../ui/parts.js'
import { List } from '../ui/list.js'
import { Spark } from '../ui/spark.js'
import { age, moment, plural, span, steady } from '../lib/format.js'
import { can } from '../lib/commands.js'
import { byUrgency, GROUPS } from '../lib/look.js'
import { link, route, setQuery } from '../lib/route.js'
import { wantPast } from '../lib/past.js'
import { nameOf, store } from '../lib/store.js'

/** @typedef {import('../lib/store.js').Machine} Machine
 * @typedef {import('../lib/look.js').Look} Look */

/** Whether a machine fits every word that was typed. @param {Machine} machine @param {string} words */
function fits (machine, words) {
  if (!words) return true
  const tags = store.world.agents.get(machine.agent)?.info?.tags ?? []
  const text = `${machine.key} ${nameOf(machine)} ${tags.join(' ')} ${machine.verdict?.bundle ?? ''}`.toLowerCase()
  return words.toLowerCase().split(/\s+/).every(word => text.includes(word))
}

export function Machines () {
  const { query } = route()
  const [filter, words, agent] = [query.get('state') ?? '', query.get('find') ?? '', query.get('agent') ?? '']
  const now = Date.now()
  const all = byUrgency(machine => !agent || machine.agent === agent, now)
  const shown = all.filter(item => (!filter || item.look.group === filter) && fits(item.machine, words))
  const set = (/** @type {Record<string, string>} */ change) => setQuery({ state: filter, find: words, agent, ...change })
  const fleet = store.session?.home === 'fleet'
  return html`<div class="screen machines">
    <header class="title">${store.session?.agent && can(store.session.agent, 'machine.add') && html`<a class="button" href=${link('setup')}>Add a machine</a>`}<h1>Machines</h1><p>${summary(all)}</p></header>
    <div class="filters">
      <div class="chips" role="group" aria-label="Filter by state">${chips(all, filter, set)}</div>
      <label class="search"><span class="hidden">Search</span>${icon('search')}
        <input type="search" value=${words} placeholder=${fleet ? 'Machine, agent, tag' : 'Machine, tag'} autocomplete="off"
          onInput=${(/** @type {any} */ event) => set({ find: event.target.value })} /></label>
      ${agent && html`<button type="button" class="chip on" onClick=${() => set({ agent: '' })} aria-label=${`Only ${agent}: show all agents`}>${icon('agent')}${agent}${icon('close')}</button>`}
    </div>
    ${shown.length ? html`<${List} items=${shown} height=${68} label="Machines" row=${row(now, fleet)} head=${head} />` : nothing(all.length, filter || words)}
  </div>`
}

const head = html`<div role="row"><span role="columnheader">State</span><span role="columnheader">Machine</span><span role="columnheader">Against threshold</span>
  <span role="columnheader">Last hour</span><span role="columnheader">Since</span><span role="columnheader">Verdict</span></div>`

/** @param {number} now @param {boolean} fleet */
const row = (now, fleet) => function machineRow (/** @type {{ machine: Machine, look: Look }} */ { machine, look }, /** @type {number} */ index) {
  const { verdict } = machine
  const name = nameOf(machine)
  wantPast(machine)
  const limit = verdict?.threshold ?? machine.settings?.threshold ?? null
  const over = verdict?.verdict === 'anomalous'
  const since = look.since ? Date.parse(look.since) : null
  return html`<div role="row" aria-rowindex=${index + 2} key=${machine.key} class=${`row is-${look.name}${look.stale ? ' stale' : ''}`} data-machine=${machine.key}>
    <span role="cell" class="c-state"><${State} look=${look} /></span>
    <span role="cell" class="c-name"><a href=${link('machine', machine.agent, machine.id)} aria-label=${fleet ? `${name} on ${machine.agent}` : undefined}>${name}</a>
      <small>${[name !== machine.id && machine.id, fleet && machine.agent, look.detail].filter(Boolean).join(' · ') || plain(machine)}</small></span>
    <span role="cell" class="c-bar"><${Bar} ratio=${verdict?.ratio} over=${over} faint=${look.stale} />
      <span class="of"><b>${steady(verdict?.distance)}</b> of ${steady(limit)}${over && (verdict?.ratio ?? 0) <= 1 && verdict?.lane ? html` <em>${verdict.lane}</em>` : ''}</span></span>
    <span role="cell" class="c-spark"><${Spark} track=${machine.track} faint=${look.stale} /></span>
    <span role="cell" class="c-since">${since ? html`<span title=${moment(since)}>${span(now - since)}</span>` : '–'}</span>
    <span role="cell" class="c-age">${machine.verdict ? html`<${Ago} at=${machine.verdictAt} now=${now} />` : '–'}</span>
  </div>`
}

/** @param {Machine} machine */
const plain = machine => (machine.settings?.source === 'override' ? 'threshold set by hand' : machine.settings?.judge === 'combined' ? 'judged by all lanes' : 'judged by distance')

/** @param {{ look: Look }[]} all @param {string} filter @param {(change: Record<string, string>) => void} set */
function chips (all, filter, set) {
  const count = (/** @type {string} */ name) => all.filter(item => item.look.group === name).length
  const chip = (/** @type {string} */ name, /** @type {string} */ word, /** @type {number} */ count) => html`<button type="button" key=${name} data-filter=${name || 'all'}
    class=${`chip is-${name}${filter === name ? ' on' : ''}`} aria-pressed=${filter === name ? 'true' : 'false'} onClick=${() => set({ state: filter === name ? '' : name })}>
    ${name && icon(name)}<b>${count.toLocaleString('en')}</b> ${name && store.link.state !== 'open' ? `was ${word.toLowerCase()}` : word}</button>`
  return [chip('', 'All', all.length), ...GROUPS.map(group => ({ ...group, count: count(group.name) }))
    .filter(group => group.count > 0 || group.name === filter).map(group => chip(group.name, group.word, group.count))]
}

/** @param {{ look: Look, machine: Machine }[]} all */
function summary (all) {
  if (!all.length) return ''
  const count = (/** @type {string} */ name) => all.filter(item => item.look.group === name).length
  const parts = [count('alarm') && plural(count('alarm'), 'alarm'), count('deaf') && `${count('deaf')} not heard`, count('gone') && `${count('gone')} offline`].filter(Boolean)
  const newest = Math.max(...all.map(item => item.machine.verdictAt))
  const fresh = newest > 0 ? `last verdict ${age(Date.now() - newest)}` : 'no verdict yet'
  return parts.length ? `${parts.join(', ')} · ${fresh}` : `Nothing needs attention · ${fresh}`
}

/** @param {number} known @param {string} filter */
function nothing (known, filter) {
  if (known && filter) return html`<${Empty} symbol="search" title="No machine fits">Clear the search or choose another state.<//>`
  if (!store.link.ready) return html`<${Empty} symbol="waiting" title="Waiting for the first messages" />`
  if (store.session?.home === 'fleet') return html`<${Empty} symbol="agent" title="No agent has reported">Check that an agent runs and that both use the same broker.<//>`
  return html`<${Empty} symbol="microphone" title="No machine is set up">Add one here, or a [[machine]] to the agent’s configuration.<//>`
}
