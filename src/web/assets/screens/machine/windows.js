// @ts-check
// What spoke: the bands of the alarm, and the last windows with their lanes.
import { html } from '../../ui/html.js'
import { At, Card } from '../../ui/parts.js'
import { steady, words } from '../../lib/format.js'
import { band } from '../../lib/look.js'

/** @typedef {import('../../lib/store.js').Machine} Machine */
const LOW_HZ = 60
const TICKS = [100, 300, 1000, 3000, 7000]

/** The frequencies that differ, on a logarithmic scale. @param {{ machine: Machine }} props */
export function Bands ({ machine }) {
  const alarm = machine.alarm
  if (!alarm?.bands.length) return null
  const high = Math.max(8000, ...alarm.bands.map(one => one.to_hz))
  const place = (/** @type {number} */ hz) => 100 * Math.log(Math.max(hz, LOW_HZ) / LOW_HZ) / Math.log(high / LOW_HZ)
  return html`<${Card} title="What differs" name="bands" aside="in the window that raised the alarm">
    <div class="band-line" role="img" aria-label=${`Frequencies that differ from normal: ${alarm.bands.map(band).join('; ')}`}>${alarm.bands.map(one => html`<i key=${one.from_hz} class=${one.difference_db < 0 ? 'less' : ''} style=${{ left: `${place(one.from_hz)}%`, width: `max(3px, ${place(one.to_hz) - place(one.from_hz)}%)` }}></i>`)}</div>
    <div class="band-scale">${TICKS.map(hz => html`<span key=${hz} style=${{ left: `${place(hz)}%` }}>${hz >= 1000 ? `${hz / 1000} kHz` : `${hz} Hz`}</span>`)}</div><br />
    <ul class="events">${alarm.bands.map(one => html`<li key=${one.from_hz}><span>${one.difference_db > 0 ? 'louder' : 'quieter'}</span><div>${band(one)}</div></li>`)}</ul><//>`
}

/** @param {{ machine: Machine }} props */
export function Windows ({ machine }) {
  const spoke = machine.lanes.filter(one => one.verdict === 'anomalous')
  /** @type {Record<string, number>} */
  const count = {}
  for (const one of spoke) if (one.lane) count[one.lane] = (count[one.lane] ?? 0) + 1
  const summary = Object.entries(count).sort((a, b) => b[1] - a[1]).map(([lane, times]) => `${lane} ${times}`).join(', ')
  return html`<${Card} title="Last windows" name="windows" aside=${summary ? `anomalous by ${summary}` : ''} wide=${!machine.alarm?.bands.length}>
    <div class="scroll" tabindex="0" role="group" aria-label="Table of the last windows"><table><thead><tr><th>Time</th><th>Verdict</th><th class="num">Distance</th><th class="num">× limit</th><th class="num">Score</th><th>Lane</th><th class="num">Level</th></tr></thead>
      <tbody>${machine.lanes.map(one => html`<tr key=${one.seq}><td><${At} at=${one.ts} /></td><td class=${one.verdict}>${one.reason ? words(one.reason) : one.verdict}</td><td class="num">${steady(one.distance)}</td>
        <td class="num">${one.ratio === null ? '–' : one.ratio.toFixed(2)}</td><td class="num">${steady(one.score)}</td><td>${one.lane ?? '–'}</td><td class="num">${one.level_dbfs.toFixed(1)}</td></tr>`)}</tbody></table></div><//>`
}
