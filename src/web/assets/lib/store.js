// @ts-check
// What is known of agents and machines: exactly what the stream said, and when it arrived.
import { Track } from './track.js'

/** @typedef {{ id: string, status: Status | null, info: Info | null, health: Health | null, healthAt: number,
 *   events: EventMsg[], skew: number | null }} Agent
 * @typedef {{ key: string, agent: string, id: string, verdict: VerdictMsg | null, verdictAt: number, alarm: AlarmMsg | null,
 *   settings: SettingsMsg | null, events: EventMsg[], lanes: VerdictMsg[], track: Track }} Machine
 * @typedef {{ role: 'operator' | 'viewer' | null, home: 'agent' | 'fleet', root: string, agent: string | null,
 *   version: string, password: boolean, allow_audio: boolean, setup?: boolean, forget?: boolean }} Session
 * @typedef {{ topic: string, payload: any, retained: boolean }} Message
 * @typedef {{ agents: Map<string, Agent>, machines: Map<string, Machine>, changes: number }} World
 * changes: how often a machine has come or gone */

const EVENTS = 40
const RECENT = 24

/** @returns {World} */
const emptyWorld = () => ({ agents: new Map(), machines: new Map(), changes: 0 })

export const store = {
  /** @type {Session | null} */
  session: null,
  /** @type {{ state: 'starting' | 'open' | 'lost', since: number, ready: boolean, why: string | null }} */
  link: { state: 'starting', since: Date.now(), ready: false, why: null },
  /** Of `auscult console`: how it stands with the broker. @type {{ broker: 'connected' | 'away', since: string, problem?: string } | null} */
  fleet: null,
  world: emptyWorld(),
  /** The snapshot that is arriving; it takes the world's place when it is whole. @type {World | null} */
  arriving: null
}

/** @type {Set<() => void>} */
const watchers = new Set()
/** @type {Set<(topic: { agent: string, machine: string }, payload: any) => void>} */
const ears = new Set()
/** @type {Set<(reply: Reply) => void>} */
const replies = new Set()
let scheduled = 0
let drawnAt = 0
/** At most four pictures a second of what comes by itself. */
const PACE_MS = 250

/** Draws soon; at once where a person waits for it. @param {boolean} [now] */
export function changed (now = false) {
  if (scheduled && !now) return
  const wait = now ? 0 : Math.max(0, drawnAt + PACE_MS - performance.now())
  clearTimeout(scheduled)
  scheduled = window.setTimeout(() => requestAnimationFrame(() => {
    scheduled = 0
    drawnAt = performance.now()
    for (const watcher of watchers) watcher()
  }), wait)
}

/** @param {() => void} watcher @returns {() => void} */
export function onChange (watcher) {
  watchers.add(watcher)
  return () => { watchers.delete(watcher) }
}

/** @param {(topic: { agent: string, machine: string }, payload: any) => void} ear @returns {() => void} */
export function onLive (ear) {
  ears.add(ear)
  return () => { ears.delete(ear) }
}

/** @param {(reply: Reply) => void} listener */
export function onReply (listener) { replies.add(listener) }

/** @param {World} world @param {string} id @returns {Agent} */
function agentOf (world, id) {
  let agent = world.agents.get(id)
  if (!agent) {
    agent = { id, status: null, info: null, health: null, healthAt: 0, events: [], skew: null }
    world.agents.set(id, agent)
  }
  return agent
}

/** @param {World} world @param {string} agent @param {string} id @returns {Machine} */
function machineOf (world, agent, id) {
  const key = `${agent}/${id}`
  let machine = world.machines.get(key)
  if (!machine) {
    const track = new Track(world.machines.size > 100 ? 720 : 4000)
    machine = { key, agent, id, verdict: null, verdictAt: 0, alarm: null, settings: null, events: [], lanes: [], track }
    world.machines.set(key, machine)
    world.changes++
  }
  return machine
}

/** What people call a machine: its name, else its id. @param {{ agent: string, id: string }} machine */
export const nameOf = ({ agent, id }) => store.world.agents.get(agent)?.info?.names?.[id] ?? id

/** Begins a snapshot: what is known stays on the screen until the new state is whole. */
export function beginSnapshot () { store.arriving = emptyWorld() }

/** The snapshot replaces the state; what the page itself collected goes on. */
export function endSnapshot () {
  const [before, now] = [store.world, store.arriving]
  if (!now) return
  for (const [id, agent] of now.agents) {
    const known = before.agents.get(id)
    if (known) Object.assign(agent, { health: agent.health ?? known.health, healthAt: agent.healthAt || known.healthAt, skew: agent.skew ?? known.skew, events: join(agent.events, known.events) })
  }
  for (const [key, machine] of now.machines) {
    const known = before.machines.get(key)
    if (!known) continue
    machine.track.merge(known.track.points)
    machine.events = join(machine.events, known.events)
    if (machine.lanes.length <= 1) machine.lanes = known.lanes
  }
  store.world = now
  store.arriving = null
}

/** @param {EventMsg[]} news @param {EventMsg[]} old */
function join (news, old) {
  const key = (/** @type {EventMsg} */ event) => `${event.ts} ${event.event} ${event.detail}`
  const seen = new Set(news.map(key))
  return [...news, ...old.filter(event => !seen.has(key(event)))].slice(0, EVENTS)
}

/** Takes one message of the stream. @param {Message} message */
export function take ({ topic, payload, retained }) {
  if (topic === '$home') store.fleet = payload
  const root = `${store.session?.root ?? 'auscult'}/`
  if (!topic.startsWith(root)) return
  const parts = topic.slice(root.length).split('/')
  if (parts[0] === 'fleet' || parts.length < 2 || parts.length > 3) return
  const world = store.arriving ?? store.world
  if (parts.length === 2) takeAgent(world, parts[0], parts[1], payload)
  else takeMachine(world, parts[0], parts[1], parts[2], payload, retained)
}

/** @param {World} world @param {string} id @param {string} part @param {any} payload */
function takeAgent (world, id, part, payload) {
  if (payload === null) {
    if (part === 'status' || part === 'info') forget(world, id)
    return
  }
  if (part === 'reply') {
    for (const listener of replies) listener(payload)
    return
  }
  const agent = agentOf(world, id)
  if (part === 'status') agent.status = payload
  else if (part === 'health') Object.assign(agent, { health: payload, healthAt: Date.now() })
  else if (part === 'event') agent.events = [payload, ...agent.events].slice(0, EVENTS)
  else if (part === 'info') {
    agent.info = payload
    const ids = new Set(payload.machines)
    for (const machine of world.machines.values()) {
      if (machine.agent === id && !ids.has(machine.id)) world.machines.delete(machine.key)
    }
    world.changes++
    for (const machine of payload.machines) machineOf(world, id, machine)
  }
}

/** @param {World} world @param {string} id */
function forget (world, id) {
  world.agents.delete(id)
  for (const machine of world.machines.values()) if (machine.agent === id) world.machines.delete(machine.key)
  world.changes++
}

/** @param {World} world @param {string} agent @param {string} id @param {string} part @param {any} payload
 * @param {boolean} retained */
function takeMachine (world, agent, id, part, payload, retained) {
  if (part === 'live') {
    for (const ear of ears) ear({ agent, machine: id }, payload)
    return
  }
  // The broker may still keep what was said of a machine that is gone.
  const info = agentOf(world, agent).info
  if (info && !info.machines.includes(id)) return
  const machine = machineOf(world, agent, id)
  if (payload === null) {
    if (part === 'verdict' || part === 'alarm' || part === 'settings') machine[part] = null
  } else if (part === 'verdict') takeVerdict(world, machine, payload, retained)
  else if (part === 'alarm') {
    if (!(payload.late && machine.alarm && machine.alarm.ts > payload.ts)) machine.alarm = payload
  } else if (part === 'settings') machine.settings = payload
  else if (part === 'event') machine.events = [payload, ...machine.events].slice(0, EVENTS)
}

/** @param {World} world @param {Machine} machine @param {VerdictMsg} verdict @param {boolean} retained */
function takeVerdict (world, machine, verdict, retained) {
  const told = Date.parse(verdict.ts)
  const agent = agentOf(world, machine.agent)
  machine.track.push(verdict)
  // By its number after the agent's clock was set back, by its time where the agent counts anew.
  if (machine.verdict && machine.verdict.seq >= verdict.seq && machine.verdict.ts > verdict.ts) return
  // The agent's clock may differ from this device's: live messages show by how much, so that ages stay true.
  const live = world === store.world && !verdict.late
  if (live) {
    const skew = Date.now() - told
    if (agent.skew === null || skew < agent.skew) agent.skew = skew
  }
  machine.verdictAt = live ? Date.now() : Math.min(Date.now(), told + (agent.skew ?? 0))
  machine.verdict = verdict
  if (!retained || live || machine.lanes.length === 0) machine.lanes = [verdict, ...machine.lanes].slice(0, RECENT)
}
