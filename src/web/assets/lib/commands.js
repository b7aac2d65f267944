// @ts-check
// Every command that the page sends, and what became of it. Nothing counts as done before its reply says so.
import { changed, onReply, store } from './store.js'
import { transmit, whenRefused } from './stream.js'
import { askName } from './who.js'

/** @typedef {{ id: string, agent: string, command: string, machine: string | null, state: 'waiting' | 'ok' | 'error',
 *   text: string, data: any, at: number, quiet: boolean }} Sent
 * @typedef {{ timeout?: number, quiet?: boolean, named?: boolean }} How quiet: no note of success; named: it says who */

const REPLY_MS = 10000
const KEEP = 8

/** Newest first. @type {Sent[]} */
export const sent = []
/** @type {Map<string, (outcome: { ok: boolean, text: string, data: any }) => void>} */
const waiting = new Map()

function newId () {
  const bytes = crypto.getRandomValues(new Uint8Array(9))
  return `web-${Array.from(bytes, byte => byte.toString(36).padStart(2, '0')).join('')}`
}

/** Sends a command and waits for its reply.
 * @param {string} agent @param {string} command @param {Record<string, any>} [args] @param {How} [how]
 * @returns {Promise<{ ok: boolean, text: string, data: any }>} */
export async function send (agent, command, args = {}, { timeout = REPLY_MS, quiet = false, named = true } = {}) {
  let by
  if (named) {
    by = await askName()
    if (!by) return { ok: false, text: 'not sent', data: null }
  }
  const id = newId()
  const given = Object.fromEntries(Object.entries(args).filter(([, value]) => value !== undefined && value !== ''))
  /** @type {Sent} */
  const note = { id, agent, command, machine: args.machine ?? null, state: 'waiting', text: '', data: null, at: Date.now(), quiet }
  if (!quiet) { sent.unshift(note); sent.splice(KEEP); changed(true) }
  const outcome = await reply(agent, { id, command, ...given, ...(by ? { by } : {}), ...expires(agent, timeout) }, timeout)
  Object.assign(note, { state: outcome.ok ? 'ok' : 'error', text: outcome.text, data: outcome.data, at: Date.now() })
  if (quiet && !outcome.ok && named) { sent.unshift(note); sent.splice(KEEP) }
  changed(true)
  return outcome
}

/** Of a fleet the broker would keep a command for an agent that is away: it must not be done hours later.
 * @param {string} agent @param {number} timeout */
function expires (agent, timeout) {
  if (store.session?.home !== 'fleet' || store.world.agents.get(agent)?.status?.clock) return {}
  return { expires: new Date(Date.now() + timeout + 50000).toISOString() }
}

/** @param {string} agent @param {Record<string, any>} payload @param {number} timeout
 * @returns {Promise<{ ok: boolean, text: string, data: any }>} */
function reply (agent, payload, timeout) {
  return new Promise(resolve => {
    const end = (/** @type {{ ok: boolean, text: string, data: any }} */ outcome) => {
      clearTimeout(timer)
      waiting.delete(payload.id)
      resolve(outcome)
    }
    const late = `no reply within ${timeout / 1000} s; it may still be done`
    const timer = setTimeout(() => end({ ok: false, text: late, data: null }), timeout)
    waiting.set(payload.id, end)
    const topic = `${store.session?.root ?? 'auscult'}/${agent}/control`
    if (!transmit({ topic, payload })) end({ ok: false, text: 'not sent: there is no connection', data: null })
  })
}

onReply(message => {
  if (!message.id) return
  const ok = message.status === 'ok'
  waiting.get(message.id)?.({ ok, text: ok ? 'done' : message.error?.message ?? 'refused', data: message.data })
})
whenRefused(({ id, reason }) => {
  if (id) waiting.get(id)?.({ ok: false, text: reason, data: null })
  else { refusal.text = reason; changed(true) }
})

/** Why the stream refused something that was no command. */
export const refusal = { text: '' }

/** @param {Sent} note */
export function dismiss (note) {
  const at = sent.indexOf(note)
  if (at >= 0) sent.splice(at, 1)
  changed(true)
}

/** Whether this person may command, now, and the agent knows the command. @param {string} agent @param {string} command */
export function can (agent, command) {
  const known = store.world.agents.get(agent)
  return store.session?.role === 'operator' && store.link.state === 'open' && knows(agent, command) &&
    known?.status?.state === 'online'
}

/** Whether the agent knows the command. @param {string} agent @param {string} command */
export const knows = (agent, command) => store.world.agents.get(agent)?.info?.commands.includes(command) ?? false

/** Whether a command of this name for this machine is under way. @param {string} agent @param {string} command
 * @param {string | null} [machine] */
export const isBusy = (agent, command, machine = null) => sent.some(note => note.state === 'waiting' && note.agent === agent &&
  note.command === command && (machine === null || note.machine === machine))

/** A time so many hours from now, as commands want it. @param {number} hours */
export const inHours = hours => new Date(Date.now() + hours * 3600000).toISOString()
