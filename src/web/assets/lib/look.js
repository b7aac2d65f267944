// @ts-check
// How a machine is shown: one state of it all, its word, and how urgent it is.
import { clock, number, plural, span, times, words } from './format.js'
import { store } from './store.js'

/** @typedef {import('./store.js').Machine} Machine
 * @typedef {{ name: string, group: string, rank: number, word: string, detail: string, since: string | null, stale: boolean }} Look
 * name: colour and icon; group: the filter that it belongs to; stale: it is not what is, but what was */

/** The filters, in the order of urgency. */
export const GROUPS = [
  { name: 'alarm', word: 'Alarm' }, { name: 'deaf', word: 'Not heard' }, { name: 'acknowledged', word: 'Acknowledged' },
  { name: 'gone', word: 'Offline' }, { name: 'watch', word: 'Above limit' }, { name: 'idle', word: 'Not judged' },
  { name: 'normal', word: 'Normal' }
]
const RANK = Object.fromEntries(GROUPS.map((group, rank) => [group.name, rank]))
const FAULTS = ['silent', 'flat', 'clipped', 'dc_offset', 'noise', 'gap', 'no_signal', 'not_finite', 'overload']
const REASONS = { learning: 'Learning', machine_off: 'Standing still', no_bundle: 'No bundle', maintenance: 'Maintenance' }
const KINDS = { fault: 'Fault', wear: 'Wear', deaf: 'Not heard' }
/** A verdict is old when four windows have not come, and never before so long. */
const STALE_MS = 30000

/** @param {string} name @param {string} group @param {string} word @param {string} [detail] @param {string | null} [since] @returns {Look} */
const of = (name, group, word, detail = '', since = null) => ({ name, group, rank: RANK[group], word, detail, since, stale: false })

/** @param {Machine} machine @param {number} [now] @returns {Look} */
export function look (machine, now = Date.now()) {
  const said = saidOf(machine)
  const state = store.world.agents.get(machine.agent)?.status?.state
  if (state !== 'online') {
    const word = state === 'stopped' ? 'Agent stopped' : state === 'offline' ? 'Agent offline' : 'Agent unknown'
    return { ...of('gone', 'gone', word, `last known: ${said.word.toLowerCase()}`), since: said.since, stale: true }
  }
  if (store.link.state !== 'open') return { ...said, name: 'gone', word: 'No connection', detail: `last known: ${said.word.toLowerCase()}`, stale: true }
  const old = now - machine.verdictAt
  if (machine.verdict && old > STALE_MS && old > 4 * machine.track.pace()) {
    return { ...of('gone', 'gone', 'No verdict', `for ${span(old)}, was ${said.word.toLowerCase()}`), since: said.since, stale: true }
  }
  return said
}

/** What was last said of the machine, however old. @param {Machine} machine @returns {Look} */
function saidOf ({ verdict, alarm, settings }) {
  const reason = verdict?.reason ?? null
  if (alarm?.state === 'active') {
    if (alarm.kind === 'deaf') return of('deaf', 'deaf', 'Not heard', reason ? words(reason) : '', alarm.since)
    return of('alarm', 'alarm', alarm.kind === 'wear' ? 'Alarm: wear' : 'Alarm: fault', sentence(alarm, verdict), alarm.since)
  }
  if (settings?.maintenance) return of('maintenance', 'idle', 'Maintenance', until(settings.maintenance_until), alarm?.since)
  if (alarm?.state === 'shelved') return of('shelved', 'idle', 'Shelved', until(alarm.until), alarm.since)
  if (alarm?.state === 'acknowledged') return of('acknowledged', 'acknowledged', 'Acknowledged', [alarm.by && `by ${alarm.by}`, alarm.comment].filter(Boolean).join(': ') || sentence(alarm, verdict), alarm.since)
  const since = alarm?.since ?? null
  if (!verdict) return of('waiting', 'idle', 'No window yet')
  if (reason && FAULTS.includes(reason)) return of('deaf', 'deaf', cap(words(reason)), 'the window could not be judged', since)
  if (reason) return of(reason === 'learning' ? 'learning' : 'idle', 'idle', REASONS[/** @type {keyof typeof REASONS} */ (reason)] ?? cap(words(reason)), '', since)
  if (verdict.verdict === 'anomalous') return of('watch', 'watch', 'Above limit', `one window, ${whatSpoke(verdict)}`, since)
  return of('normal', 'normal', 'Normal', provisional(settings), since)
}

/** @param {string | null | undefined} time */
const until = time => (time ? `until ${clock(time)}` : 'until ended by hand')
/** @param {string} word */
const cap = word => word.charAt(0).toUpperCase() + word.slice(1)

/** Which lane called a window anomalous. @param {VerdictMsg} verdict */
export const whatSpoke = verdict => (verdict.ratio !== null && verdict.ratio > 1 ? `${times(verdict.ratio)} threshold` : `by ${verdict.lane ?? 'distance'}`)

/** @param {BandDifference} band */
export const band = ({ from_hz: from, to_hz: to, difference_db: db }) => `${hertz(from)}–${hertz(to)} Hz ${db > 0 ? '+' : '−'}${Math.abs(db).toFixed(1)} dB`
/** @param {number} hz */
const hertz = hz => (hz >= 1000 ? Math.round(hz) : number(hz))

/** That learning goes on, and how far it is. @param {SettingsMsg | null | undefined} settings */
export const provisional = settings => (settings?.provisional ? `provisional, ${Math.round(settings.provisional.heard_s / 60)} of ${Math.round(settings.provisional.wanted_s / 60)} minutes heard` : '')

/** What an alarm is about, in one line: as the agent has it by now, or put together for one that does not say it.
 * @param {AlarmMsg} alarm @param {VerdictMsg | null} verdict */
export function sentence (alarm, verdict) {
  const said = verdict?.text ?? alarm.text
  if (said) return said
  if (!alarm.kind || alarm.kind === 'deaf') return ''
  const parts = [alarm.lane, alarm.ratio !== null && `${times(alarm.ratio)} threshold`, alarm.bands[0] && band(alarm.bands[0])]
  return parts.filter(Boolean).join(', ')
}

/** Nothing is farther than all that can be. @param {number} percentile */
const most = percentile => number(Math.min(percentile, 99.99), 4)

/** The long form, for the machine's own screen. @param {AlarmMsg} alarm @param {VerdictMsg | null} verdict */
export function story (alarm, verdict) {
  if (!alarm.kind) return ''
  const kind = KINDS[alarm.kind]
  const said = verdict?.text ?? alarm.text
  if (said) return `${kind}: ${[said, alarm.percentile !== null && `farther than ${most(alarm.percentile)} % of what was learned`].filter(Boolean).join(' · ')}`
  const rest = [sentence(alarm, verdict), alarm.percentile !== null && `above ${most(alarm.percentile)} % of what was learned`, alarm.count > 0 && plural(alarm.count, 'window')]
  return `${kind}: ${rest.filter(Boolean).join(' · ')}`
}

/** Machines with their states, most urgent first, equally urgent ones by name. Two thousand are sorted four times a second:
 * by name only when one has come or gone, by urgency into one heap for each rank.
 * @param {(machine: Machine) => boolean} [wanted] @param {number} [now] @returns {{ machine: Machine, look: Look }[]} */
export function byUrgency (wanted = () => true, now = Date.now()) {
  /** @type {{ machine: Machine, look: Look }[][]} */
  const heaps = GROUPS.map(() => [])
  for (const machine of byName()) {
    if (!wanted(machine)) continue
    const item = { machine, look: look(machine, now) }
    heaps[item.look.rank].push(item)
  }
  return heaps.flat()
}

const collator = new Intl.Collator('en', { numeric: true })
/** @type {{ world: object | null, changes: number, machines: Machine[] }} */
let sorted = { world: null, changes: -1, machines: [] }

function byName () {
  const { world } = store
  if (sorted.world !== world || sorted.changes !== world.changes) {
    const machines = [...world.machines.values()].sort((a, b) => collator.compare(a.key, b.key))
    sorted = { world, changes: world.changes, machines }
  }
  return sorted.machines
}

/** Alarms that somebody has to know of. */
export const openAlarms = () => byName().filter(machine => machine.alarm?.state === 'active')
