// @ts-check
// The last hour of the machines on the screen, from the agents that hand it out: a page that was just opened is not empty.
import { knows } from './commands.js'
import { HISTORY, readHistory } from './history.js'
import { changed, store } from './store.js'

const HOUR_MS = 3600000
/** Questions under way at once, so that a long list holds nobody up. */
const AT_ONCE = 2

/** Of this connection. @type {Set<string>} */
let asked = new Set()
let since = 0
/** @type {import('./store.js').Machine[]} */
let queue = []
let busy = 0

/** Asks once in each connection. @param {import('./store.js').Machine} machine */
export function wantPast (machine) {
  if (since !== store.link.since) { asked = new Set(); queue = []; since = store.link.since }
  if (store.link.state !== 'open' || asked.has(machine.key) || !knows(machine.agent, HISTORY)) return
  if (store.world.agents.get(machine.agent)?.status?.state !== 'online') return
  asked.add(machine.key)
  queue.push(machine)
  next()
}

async function next () {
  // The newest question first: it is of what is on the screen now.
  const machine = busy < AT_ONCE ? queue.pop() : undefined
  if (!machine) return
  busy++
  const { points } = await readHistory(machine.agent, machine.id, Date.now() - HOUR_MS)
  busy--
  store.world.machines.get(machine.key)?.track.merge(points)
  changed()
  next()
}
