// @ts-check
// The alarms that were, with what somebody has said of each, and their measures over 30 days.
import { html, useEffect, useState } from '../ui/html.js'
import { Card, Figure } from '../ui/parts.js'
import { clock, number, percent, plural, span } from '../lib/format.js'
import { can, knows } from '../lib/commands.js'
import { answered, readJournal, readStats } from '../lib/journal.js'
import { link } from '../lib/route.js'
import { store } from '../lib/store.js'

/** @typedef {import('../lib/journal.js').Entry} Entry */
const MOST = 30

/** Of every agent that is online. */
export function History () {
  const agents = [...store.world.agents].filter(([id]) => can(id, 'alarm.list')).map(([id]) => id)
  const standing = [...store.world.machines.values()].map(machine => `${machine.key}${machine.alarm?.state}${machine.alarm?.kind}`).join()
  const [found, setFound] = useState(/** @type {{ agent: string, entry: Entry }[]} */ ([]))
  const [stats, setStats] = useState(/** @type {any[]} */ ([]))
  useEffect(() => {
    let wanted = true
    const read = async () => {
      const lists = await Promise.all(agents.slice(0, 8).map(async agent => (await readJournal(agent, { limit: MOST })).alarms.map(entry => ({ agent, entry }))))
      const all = await Promise.all(agents.filter(agent => knows(agent, 'alarm.stats')).slice(0, 8).map(async agent => ({ agent, ...await readStats(agent) })))
      if (!wanted) return
      setFound(lists.flat().sort((a, b) => b.entry.since.localeCompare(a.entry.since)).slice(0, MOST))
      setStats(all.filter(one => one.alarms !== undefined))
    }
    read()
    return () => { wanted = false }
  }, [agents.join(), standing])
  if (agents.length === 0) return null
  return html`<h2 class="section">The last 30 days</h2><div class="cards">${stats.map((/** @type {any} */ one) => html`<${Stats} key=${one.agent} stats=${one} />`)}
    <${Card} title="Past alarms" name="history" wide=${true}>${found.length === 0 ? html`<p class="note">None.</p>` : html`<ul class="events">${found.map((/** @type {{ agent: string, entry: Entry }} */ { agent, entry }) => html`
      <li key=${`${agent}/${entry.alarm}`} data-past=${`${agent}/${entry.alarm}`}><time>${clock(entry.since)}</time><div><a href=${link('alarm', agent, String(entry.alarm))}>${entry.machine}, ${entry.kind}</a>
        ${entry.answer ? html` <b>${answered(entry.answer)}</b>` : ''}${entry.clip ? ' · clip' : ''}<small>${entry.text}</small></div></li>`)}</ul>`}<//></div>`
}

/** @param {{ stats: any }} props */
function Stats ({ stats }) {
  const { alarms, per_day: day, acknowledged_share: share, acknowledge_median_s: median, answered: said, faults, normal, disturbances, fault_share: right, machines } = stats
  const title = store.session?.home === 'fleet' ? `Alarms of ${stats.agent}` : 'Alarms'
  return html`<${Card} title=${title} name="stats" wide=${true}><dl class="figures">
      <${Figure} label="Alarms" name="alarms" value=${alarms} note=${day == null ? '' : `${number(day, 2)} a day`} />
      <${Figure} label="Acknowledged" name="acknowledged" value=${percent(share)} note=${median != null ? `half of them within ${span(1000 * median)}` : ''} />
      <${Figure} label="Answered" name="answered" value=${said} note=${`${plural(faults, 'fault')}, ${normal} normal, ${plural(disturbances, 'disturbance')}`} />
      <${Figure} label="Were faults" name="fault_share" value=${percent(right)} note="of those answered" /></dl>
    ${machines.length > 0 && html`<p class="note">Most often: ${machines.slice(0, 3).map((/** @type {any} */ one) => `${one.machine} (${one.alarms})`).join(', ')}</p>`}<//>`
}
