// @ts-check
// Level and distance over the time of a clip, one above the other, with the moment of the alarm.
import { html } from '../../ui/html.js'
import { level, times } from '../../lib/format.js'

const [WIDTH, HEIGHT, LEFT] = [600, 110, 0]

/** @param {{ clip: any }} props */
export function Curves ({ clip }) {
  const [from, to] = [Date.parse(clip.from), Date.parse(clip.to)]
  const x = (/** @type {number} */ time) => LEFT + (time - from) / Math.max(1, to - from) * (WIDTH - LEFT)
  const levels = clip.levels_dbfs.map((/** @type {number} */ value, /** @type {number} */ at) => [from + (at + 0.5) * 1000 * clip.level_step_s, value])
  const ratios = clip.windows.filter((/** @type {any} */ one) => one.distance != null && one.threshold > 0)
    .map((/** @type {any} */ one) => [Date.parse(one.ts), one.distance / one.threshold, one.verdict])
  const since = x(Date.parse(clip.since))
  return html`<div class="curves">${levels.length > 1 && html`<${Curve} name="Level" points=${levels} x=${x} since=${since} show=${level} span=${6} />`}
    ${ratios.length > 0 && html`<${Curve} name="Distance, as a multiple of the threshold" points=${ratios} x=${x} since=${since} show=${times} limit=${1} least=${0} />`}
    <p class="note">The line marks the alarm. Each window’s distance stands at its end.</p></div>`
}

/** @param {{ name: string, points: any[], x: (time: number) => number, since: number, show: (value: number) => string, limit?: number, least?: number, span?: number }} props */
function Curve ({ name, points, x, since, show, limit, least, span = 0 }) {
  const values = points.map(point => point[1])
  const [low, high] = [least ?? Math.min(...values), Math.max(limit ?? -Infinity, ...values)]
  const room = Math.max(span, (high - low) * 1.1, 1e-6)
  const y = (/** @type {number} */ value) => HEIGHT - 6 - (value - low) / room * (HEIGHT - 12)
  const line = points.map((point, at) => `${at ? 'L' : 'M'}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join('')
  return html`<figure><figcaption>${name}: ${show(Math.min(...values))} to ${show(Math.max(...values))}</figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${`${name} over time, from ${show(Math.min(...values))} to ${show(Math.max(...values))}`}>
      ${limit !== undefined && html`<line class="limit" x1="0" x2=${WIDTH} y1=${y(limit)} y2=${y(limit)} />`}
      ${since >= 0 && since <= WIDTH && html`<line class="since" x1=${since} x2=${since} y1="0" y2=${HEIGHT} />`}
      <path d=${line} />${points.filter(point => point[2] === 'anomalous').map(point => html`<line class="mark" x1=${x(point[0])} x2=${x(point[0])} y1=${y(point[1]) - 4} y2=${y(point[1]) + 4} />`)}</svg></figure>`
}
