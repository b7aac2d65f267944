// @ts-check
// The journal of alarms and what each sounded like. The only place that knows how they are asked for.
import { send } from './commands.js'
import { sha256 } from './sha256.js'

/** @typedef {{ outcome: 'fault' | 'normal' | 'disturbance', name: string | null, by: string | null, comment: string | null, at: string }} Answer
 * @typedef {{ alarm: number, machine: string, kind: string, since: string, ended: string | null, windows: number, acknowledged: string | null,
 *   by: string | null, comment: string | null, text: string, like: string | null, clip: any, answer: Answer | null }} Entry
 * @typedef {{ file: string, bytes: number, sha256: string }} Listed */

const QUIET = { quiet: true, named: false }
const MOST = 32 * 1024 * 1024
const TRIES = 4

/** The newest alarms. @param {string} agent @param {Record<string, any>} [filter] @returns {Promise<{ alarms: Entry[], problem: string }>} */
export async function readJournal (agent, filter = {}) {
  const reply = await send(agent, 'alarm.list', filter, QUIET)
  return { alarms: reply.data?.alarms ?? [], problem: reply.ok ? '' : reply.text }
}

/** @param {string} agent @param {number} alarm @returns {Promise<{ entry: Entry | null, problem: string }>} */
export async function readAlarm (agent, alarm) {
  const reply = await send(agent, 'alarm.get', { alarm }, QUIET)
  return { entry: reply.data?.alarms?.[0] ?? null, problem: reply.ok ? '' : reply.text }
}

/** What its clip says, and which files of it may be had. @param {string} agent @param {number} alarm */
export async function readClip (agent, alarm) {
  const reply = await send(agent, 'evidence.get', { alarm }, QUIET)
  return reply.ok ? reply.data : null
}

/** A file of a clip, as an address for a picture or a player; empty where it did not come.
 * @param {string} agent @param {number} alarm @param {Listed} listed @param {string} type */
export async function fetchFile (agent, alarm, { file, bytes, sha256: sum }, type) {
  if (!(bytes > 0 && bytes <= MOST)) return ''
  const whole = new Uint8Array(bytes)
  for (let offset = 0; offset < bytes;) {
    let reply = { ok: false, text: '', data: /** @type {any} */ (null) }
    for (let i = 0; i < TRIES && !reply.ok; i++) reply = await send(agent, 'evidence.get', { alarm, file, offset }, QUIET)
    if (!reply.ok) return ''
    const piece = Uint8Array.from(atob(reply.data.data), char => char.charCodeAt(0))
    if (!piece.length || offset + piece.length > bytes) return ''
    whole.set(piece, offset)
    offset += piece.length
  }
  return await sha256(whole) === sum ? URL.createObjectURL(new Blob([whole], { type })) : ''
}

/** Of the last 30 days. @param {string} agent */
export async function readStats (agent) {
  const reply = await send(agent, 'alarm.stats', {}, QUIET)
  return reply.ok ? reply.data : null
}

/** What is proposed for a machine's baseline, if it is an addition. @param {string} agent @param {string} machine */
export async function readProposal (agent, machine) {
  const reply = await send(agent, 'state.get', {}, QUIET)
  const found = reply.data?.machines?.find((/** @type {any} */ one) => one.machine === machine)
  return found?.baseline?.proposal?.changes ? found.baseline.proposal : null
}

/** An answer in words. @param {Answer | null} answer */
export const answered = answer => (answer === null ? '' : answer.outcome === 'fault' ? `fault: ${answer.name}` : answer.outcome)
