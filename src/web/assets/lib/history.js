// @ts-check
// `history.get`: a machine's past windows from the agent itself. The only place that knows how it is asked and answered.
import { send } from './commands.js'

/** As many columns as a wide screen has. */
const POINTS = 1500
const TIMEOUT_MS = 20000

/** @param {string} agent @param {string} machine @param {number} from ms @param {number} [most] points; of many windows the highest
 * @returns {Promise<{ points: import('./track.js').Point[], problem: string }>} */
export async function readHistory (agent, machine, from, most = POINTS) {
  const args = { machine, from: new Date(from).toISOString(), points: most }
  const reply = await send(agent, 'history.get', args, { quiet: true, named: false, timeout: TIMEOUT_MS })
  if (!reply.ok) return { points: [], problem: reply.text }
  const points = (reply.data?.points ?? []).filter(Array.isArray).map((/** @type {any[]} */ [time, distance, threshold, score, verdict]) =>
    [typeof time === 'string' ? Date.parse(time) : time, distance ?? null, threshold ?? null, score ?? null, (verdict ?? 'n')[0]])
  return { points: points.sort((/** @type {number[]} */ a, /** @type {number[]} */ b) => a[0] - b[0]), problem: '' }
}
