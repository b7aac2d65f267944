// @ts-check
// How the guide asks the agent for microphones, adds machines and sets broker and messages. The only place that knows
// the wire: the screens work with what these functions return.
import { knows, send } from './commands.js'

const TEST_MS = 30000
const quiet = { quiet: true, named: false }

/** A microphone: `levels` has one entry for each channel, dBFS; `taken` says which machine uses it.
 * @typedef {{ key: string, name: string, detail: string, source: any, channels: number, levels: (number | null)[], taken: string | null, problem: string | null }} Microphone */

/** @param {string} agent @returns {Promise<{ microphones: Microphone[], problem: string }>} */
export async function readMicrophones (agent) {
  const reply = await send(agent, 'devices.list', {}, quiet)
  if (!reply.ok) return { microphones: [], problem: reply.text }
  const microphones = (reply.data?.devices ?? []).map((/** @type {any} */ device) => ({
    key: JSON.stringify(device.source), name: device.name ?? device.id, detail: device.detail ?? '', source: device.source,
    channels: device.channels ?? 1, levels: device.levels_dbfs ?? [], taken: device.in_use_by ?? null, problem: device.problem ?? null
  }))
  return { microphones, problem: '' }
}

/** Machines that the bundle knows and that are still free. @param {string} agent @returns {Promise<string[]>} */
export async function readModels (agent) {
  const reply = await send(agent, 'state.get', {}, quiet)
  return reply.ok ? reply.data?.bundle?.machines ?? [] : []
}

/** @param {string} agent @param {{ id: string, name: string, source: any, channel: number | null, model: string | null }} machine */
export const addMachine = (agent, { id, name, source, channel, model }) => send(agent, 'machine.add', {
  machine: id, name, source, channel: channel ?? undefined, ...(model ? { model } : { baseline: 'auto' })
}, { quiet: true, named: false })

/** @param {string} agent @param {string} id */
export const removeMachine = (agent, id) => send(agent, 'machine.remove', { machine: id })

/** Brokers that announce themselves in this network. @param {string} agent @returns {Promise<{ url: string, name: string }[]>} */
export async function findBrokers (agent) {
  if (!knows(agent, 'setup.find_brokers')) return []
  const reply = await send(agent, 'setup.find_brokers', {}, quiet)
  return reply.ok ? reply.data?.brokers ?? [] : []
}

/** Whether the broker is set in the agent's file, where this page does not change it. @param {string} agent */
export async function isBrokerOfFile (agent) {
  if (!knows(agent, 'config.get')) return false
  const reply = await send(agent, 'config.get', {}, quiet)
  return reply.ok && reply.data?.broker_from === 'file'
}

/** Tries a broker; with `keep` it is used from then on. @param {string} agent
 * @param {{ url: string, username: string, password: string }} broker @param {boolean} keep */
export const setBroker = (agent, broker, keep) => send(agent, 'setup.broker', { ...broker, test: !keep }, { timeout: TEST_MS, quiet: true, named: false })

/** No broker from now on. @param {string} agent */
export const dropBroker = agent => send(agent, 'setup.broker', { url: 'none' }, { quiet: true, named: false })

/** Sends a test message; with `keep` alarms go there from then on. @param {string} agent @param {string} url @param {boolean} keep */
export const setNotify = (agent, url, keep) => send(agent, 'setup.notify', { url, test: !keep }, { timeout: TEST_MS, quiet: true })

/** The id that a name makes: what topics and files can hold. @param {string} name */
export const idOf = name => name.toLowerCase().replace(/[äöüß]/g, letter => ({ ä: 'ae', ö: 'oe', ü: 'ue', ß: 'ss' })[letter] ?? '')
  .normalize('NFKD').replace(/[\u0300-\u036f]/g, '')
  .replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 48)
