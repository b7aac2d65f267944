// @ts-check
// Distance and score over time, against what is allowed.
import { html, useEffect, useState } from '../../ui/html.js'
import { Card, Choice } from '../../ui/parts.js'
import { Chart } from '../../ui/chart.js'
import { number, plural, span } from '../../lib/format.js'
import { knows } from '../../lib/commands.js'
import { HISTORY, readHistory } from '../../lib/history.js'
import { store } from '../../lib/store.js'

const MINUTE = 60000
const RANGES = [{ value: 10 * MINUTE, label: '10 min' }, { value: 60 * MINUTE, label: 'Hour' }, { value: 1440 * MINUTE, label: 'Day' }, { value: 10080 * MINUTE, label: 'Week' }]

/** @param {{ machine: import('../../lib/store.js').Machine, draft: number | null, state: any }} props */
export function Over ({ machine, draft, state }) {
  const [range, setRange] = useState(60 * MINUTE)
  const [column, setColumn] = useState(1)
  const [past, setPast] = useState({ points: [], problem: '', range: 0 })
  const { agent, id, track, settings } = machine
  const remembers = knows(agent, HISTORY)
  const online = store.link.state === 'open'
  useEffect(() => {
    if (!remembers || !online) return undefined
    let gone = false
    readHistory(agent, id, Date.now() - range).then(found => { if (!gone) setPast({ ...found, range }) })
    return () => { gone = true }
  }, [agent, id, range, remembers, online])
  const points = joined(past.points, track.points)
  const last = points.at(-1)
  const to = store.link.state === 'open' && last ? Math.max(last[0], Date.now() - 8000) : last?.[0] ?? Date.now()
  // A short past fills the picture instead of a corner of it.
  const from = Math.max(to - range, Math.min(points[0]?.[0] ?? to, to - 2 * MINUTE))
  const rate = state?.baseline?.in_use?.false_alarm_rate
  const limit = column === 1 ? settings?.threshold ?? null : rate ? -Math.log10(rate) : null
  const inside = points.filter(point => point[0] >= from)
  const { windows, odd, unheard } = counts(inside)
  const value = last?.[column]
  const summary = `${column === 1 ? 'Distance' : 'Score'} over ${span(to - from)}: ${plural(windows, 'window')}, ${odd} anomalous, ${unheard} not judged${typeof value === 'number' ? `; now ${number(value)}${limit ? `, limit ${number(limit)}` : ''}` : ''}`
  const aside = html`<span class="row-of"><${Choice} label="What" value=${column} onChange=${setColumn} options=${[{ value: 1, label: 'Distance' }, { value: 3, label: 'Score', disabled: !points.some(point => point[3] !== null) }]} />
    <${Choice} label="How long" value=${range} onChange=${setRange} options=${RANGES.map(one => ({ ...one, disabled: one.value > 60 * MINUTE && !remembers, title: one.value > 60 * MINUTE && !remembers ? 'This agent does not hand out its past' : undefined }))} /></span>`
  return html`<${Card} title=${column === 1 ? 'Distance over time' : 'Score over time'} wide=${true} name="chart" aside=${aside}>
    <${Chart} shown=${{ points, column, limit, draft, from, to, revision: track.revision + past.points.length }} label=${summary} />
    <div class="reading"><span><i></i>${column === 1 ? 'distance' : 'score'}</span>${limit !== null && html`<span><i class="limit"></i>${column === 1 ? 'threshold' : `limit: one false alarm in ${number(1 / rate)} windows`}</span>`}<span><i class="mark"></i>anomalous</span><span><i class="shade"></i>not judged</span>
      ${inside.some(point => point[5]) && html`<span><i class="band"></i>least to most, line: the middle</span>`}<span>${plural(windows, 'window')}, ${odd} anomalous${unheard ? `, ${unheard} not judged` : ''}</span></div>
    ${!remembers && html`<p class="note">Since this page was opened: this agent does not hand out its past.</p>`}${past.problem && html`<p class="say warn">The past could not be read: ${past.problem}</p>`}<//>`
}

/** @param {import('../../lib/track.js').Point[]} points */
function counts (points) {
  const sum = (/** @type {'windows' | 'anomalous' | 'unjudged'} */ name, /** @type {string} */ verdict) =>
    points.reduce((sum, point) => sum + (point[5] ? point[5][name] : Number(!verdict || point[4] === verdict)), 0)
  return { windows: sum('windows', ''), odd: sum('anomalous', 'a'), unheard: sum('unjudged', 'u') }
}

/** @param {import('../../lib/track.js').Point[]} past @param {import('../../lib/track.js').Point[]} live */
function joined (past, live) {
  if (!past.length) return live
  const end = past[past.length - 1][0]
  return [...past, ...live.filter(point => point[0] > end)]
}
