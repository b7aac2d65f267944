// @ts-check
// `trend.get`: a machine's past from the agent itself. The only place that knows how it is asked and answered.
import { send } from './commands.js'

/** @typedef {import('./track.js').Point} Point */

/** The command that answers it. */
export const HISTORY = 'trend.get'
const TIMEOUT_MS = 20000

/** @param {string} agent @param {string} machine @param {number} from ms
 * @returns {Promise<{ points: Point[], problem: string }>} */
export async function readHistory (agent, machine, from) {
  const args = { machine, from: new Date(from).toISOString() }
  const reply = await send(agent, HISTORY, args, { quiet: true, named: false, timeout: TIMEOUT_MS })
  if (!reply.ok) return { points: [], problem: reply.text }
  const { fields = [], points = [], step_s: seconds = 60 } = reply.data ?? {}
  return { points: joined(points.filter(Array.isArray).map((/** @type {any[]} */ row) => point(fields, row, seconds)), 1000 * seconds), problem: '' }
}

/** A step as a point in its middle. @param {string[]} fields @param {any[]} row @param {number} seconds @returns {Point} */
function point (fields, row, seconds) {
  const of = (/** @type {string} */ name) => row[fields.indexOf(name)] ?? null
  const spread = (/** @type {string} */ name) => /** @type {[number, number] | null} */ (of(`${name}_min`) === null ? null : [of(`${name}_min`), of(`${name}_max`)])
  const [windows, assessed, anomalous] = [of('windows'), of('assessed'), of('anomalous')]
  const verdict = assessed === 0 ? 'u' : 2 * anomalous >= assessed ? 'a' : 'n'
  const rolled = { windows, anomalous, unjudged: windows - assessed, distance: spread('distance'), score: spread('score') }
  return [Date.parse(of('at')) + 500 * seconds, of('distance_median'), of('threshold'), of('score_median'), verdict, rolled]
}

/** Marks the times of which there is nothing, so that no line is drawn through them.
 * @param {Point[]} points @param {number} step ms @returns {Point[]} */
function joined (points, step) {
  return points.flatMap((point, at) => (at > 0 && point[0] - points[at - 1][0] > 1.5 * step
    ? [nothing(points[at - 1][0] + step), nothing(point[0] - 1), point]
    : [point]))
}

/** @param {number} time @returns {Point} */
const nothing = time => [time, null, null, null, 'u', { windows: 0, anomalous: 0, unjudged: 0, distance: null, score: null }]
