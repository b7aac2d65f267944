// Collects what the agents say, by the topics' last parts; sends the dashboard what changed, once a second.
// Input: MQTT messages, the state of the connection to the broker, the tick of once a second, and "hello" of a dashboard
// that was just opened. Outputs: what the dashboard shows; a question to the fleet.
const KEEP = 360 // windows of each machine: half an hour of 5 s windows
const GONE_MS = 90000 // after a new connection the broker has told of every agent by then: it keeps their status
const ASK_MS = 2000 // what the broker keeps is there by then; where it gives nothing, the agents are asked to say it again
const fleet = context.get('fleet') || {
    agents: {}, machines: {}, changed: {}, points: {}, news: [], broker: { connected: false, since: Date.now() }, found: null
}
context.set('fleet', fleet)
const { agents, machines } = fleet

const agentOf = id => (agents[id] ??= { id, state: 'unknown', machines: [], tags: [], commands: [] })
const machineOf = (agent, id) => {
    const key = `${agent}/${id}`
    agentOf(agent)
    return (machines[key] ??= { key, id, agent, history: [], events: [] })
}
const forget = key => {
    delete machines[key]
    fleet.changed[key] = null
}

// The broker keeps nothing of this agent any more: it was taken out of service.
function forgetAgent (id) {
    for (const machine of Object.values(machines)) if (machine.agent === id) forget(machine.key)
    delete agents[id]
    fleet.changedAgents = true
}

// One window as the chart wants it: [time in ms, distance, threshold, verdict, seq].
function addWindow (machine, verdict, kept) {
    const time = Date.parse(verdict.ts)
    if (machine.history.some(point => point[4] === verdict.seq && point[0] === time)) return // a duplicate
    const point = [time, verdict.distance, verdict.threshold, verdict.verdict, verdict.seq]
    const last = machine.history[machine.history.length - 1]
    if (!last || last[0] <= time) {
        machine.history.push(point)
        ;(fleet.points[machine.key] ??= []).push(point)
    } else { // late: to where it belongs, and the whole history is told again
        machine.history.push(point)
        machine.history.sort((a, b) => a[0] - b[0])
        fleet.points[machine.key] = 'all'
    }
    machine.history.splice(0, machine.history.length - KEEP)
    if (!machine.verdict || Date.parse(machine.verdict.ts) <= time) {
        machine.verdict = verdict
        // How old it is, by our clock; what the broker had kept is as old as it says.
        if (!verdict.late) machine.verdictAt = Math.max(machine.verdictAt || 0, kept ? Math.min(time, Date.now()) : Date.now())
    }
}

function take (topic, payload, kept) {
    if (kept) fleet.askAt = null
    const root = env.get('ROOT') + '/'
    if (!topic.startsWith(root)) return
    const parts = topic.slice(root.length).split('/')
    const part = parts.pop()
    if (parts.length < 1 || parts.length > 2 || parts[0] === 'fleet') return
    const [agent, id] = parts
    if (payload === '') { // a retained message that was taken back
        if (id) forget(`${agent}/${id}`)
        else if (part === 'status' || part === 'info') forgetAgent(agent)
        return
    }
    let said
    try { said = JSON.parse(payload) } catch (error) { return }
    if (said === null || typeof said !== 'object') return
    if (id) {
        // The broker may still keep what was said of a machine that is gone.
        if (agents[agent]?.boot && !agents[agent].machines.includes(id)) return
        const machine = machineOf(agent, id)
        if (part === 'verdict') addWindow(machine, said, kept)
        else if (part === 'alarm' && !(said.late && machine.alarm && machine.alarm.ts > said.ts)) machine.alarm = said
        else if (part === 'settings') machine.settings = said
        else if (part === 'event') machine.events = [said, ...machine.events].slice(0, 8)
        else return
        fleet.changed[machine.key] = machine
        return
    }
    const known = agentOf(agent)
    fleet.found?.ids.add(agent)
    if (part === 'status') Object.assign(known, { state: said.state, since: said.ts, unsynced: said.clock === 'unsynced' })
    else if (part === 'health') known.health = said
    else if (part === 'info') {
        const { version, boot, bundle, tags, commands } = said
        Object.assign(known, { version, boot, bundle, tags, commands, machines: said.machines })
        for (const machine of Object.values(machines)) {
            if (machine.agent === agent && !said.machines.includes(machine.id)) forget(machine.key)
        }
        for (const id of said.machines) fleet.changed[`${agent}/${id}`] = machineOf(agent, id)
    } else if (part === 'reply') {
        if (said.command === 'announce') return
        fleet.news.push(said)
    }
    else return
    fleet.changedAgents = true
}

// The state of the connection, as the node "auscult/#" shows it.
function link (status) {
    const connected = status.fill === 'green'
    if (connected === fleet.broker.connected) return
    fleet.broker = { connected, since: Date.now() }
    fleet.found = connected ? { ids: new Set(), until: Date.now() + GONE_MS } : null
    fleet.changedBroker = true
    // A broker that ends the connection because of the question is not asked again.
    if (!connected && fleet.askedAt && Date.now() - fleet.askedAt < 5000) fleet.mayNotAsk = true
    fleet.askAt = connected && !fleet.mayNotAsk ? Date.now() + ASK_MS : null
    fleet.askedAt = null
}

// The command that makes every agent publish its state again, when it is time for it.
function question () {
    if (!fleet.askAt || fleet.askAt > Date.now()) return null
    Object.assign(fleet, { askAt: null, askedAt: Date.now() })
    const command = { id: 'node-red-' + Date.now(), command: 'announce', within_s: 3, by: 'node-red' }
    return { topic: env.get('ROOT') + '/fleet/control', payload: JSON.stringify(command), qos: 1, retain: false }
}

if (msg.status) {
    link(msg.status)
    return
}
if (msg.topic === 'hello') { // a dashboard was opened: it gets everything
    const everything = { full: true, now: Date.now(), broker: fleet.broker, agents, machines, replies: [] }
    return { payload: everything, _client: msg._client }
}
if (msg.topic !== 'tick') {
    take(msg.topic || '', typeof msg.payload === 'string' ? msg.payload : String(msg.payload), msg.retain === true)
    return
}
if (fleet.found && fleet.found.until < Date.now()) {
    const { ids } = fleet.found
    fleet.found = null
    Object.keys(agents).filter(id => !ids.has(id)).forEach(forgetAgent)
}
const keys = Object.keys(fleet.changed)
const asked = question()
if (keys.length === 0 && !fleet.changedAgents && !fleet.changedBroker) return [null, asked]
const delta = { full: false, now: Date.now(), broker: fleet.broker, agents: fleet.changedAgents ? agents : null, machines: {}, replies: fleet.news }
for (const key of keys) {
    const machine = fleet.changed[key]
    if (!machine) { delta.machines[key] = null; continue }
    const { history, ...rest } = machine
    const points = fleet.points[key]
    delta.machines[key] = points === 'all' ? machine : { ...rest, points: points || [] }
}
Object.assign(fleet, { changed: {}, points: {}, news: [], changedAgents: false, changedBroker: false })
return [{ payload: delta }, asked]
