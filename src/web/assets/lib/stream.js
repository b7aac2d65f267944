// @ts-check
// The one connection: receives what is published, sends what a person commands, comes back by itself.
import { beginSnapshot, changed, endSnapshot, store, take } from './store.js'

const PAUSE_MS = [500, 15000]
/** Without a word for so long the connection is asked whether it still lives. */
const SILENT_MS = 30000

/** @type {WebSocket | null} */
let socket = null
let pause = PAUSE_MS[0]
let timer = 0
let heardAt = 0
/** @type {{ agent: string, machine: string } | null} */
let watched = null
/** @type {(refused: { id: string | null, reason: string }) => void} */
let onRefused = () => {}

/** @param {(refused: { id: string | null, reason: string }) => void} listener */
export function whenRefused (listener) { onRefused = listener }

/** Reads who is logged in, and what this page stands for. @returns {Promise<boolean>} */
export async function readSession () {
  const answer = await fetch('/session', { signal: AbortSignal.timeout(8000), cache: 'no-store' })
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`)
  store.session = await answer.json()
  changed(true)
  return store.session?.role != null
}

/** Connects, and goes on trying. */
export async function connect () {
  clearTimeout(timer)
  if (socket) return
  try {
    if (!await readSession()) return // the page asks for the password
  } catch (error) {
    lost(error instanceof Error ? error.message : String(error))
    return
  }
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws'
  const opened = new WebSocket(`${scheme}://${location.host}/stream`)
  socket = opened
  opened.onopen = () => { heardAt = Date.now(); beginSnapshot() }
  opened.onmessage = event => { if (socket === opened) receive(event.data) }
  opened.onclose = event => {
    if (socket !== opened) return
    socket = null
    lost(event.reason || null)
  }
}

/** @param {string | null} why */
function lost (why) {
  store.arriving = null
  const { link } = store
  if (link.state !== 'lost') store.link = { state: 'lost', since: Date.now(), ready: link.ready, why }
  changed(true)
  clearTimeout(timer)
  timer = window.setTimeout(connect, pause * (0.5 + Math.random()))
  pause = Math.min(PAUSE_MS[1], pause * 2)
}

/** @param {string} text */
function receive (text) {
  heardAt = Date.now()
  for (const message of JSON.parse(text)) {
    if (message.topic) take(message)
    else if (message.ready) {
      endSnapshot()
      pause = PAUSE_MS[0]
      store.link = { state: 'open', since: Date.now(), ready: true, why: null }
      if (watched) transmit({ watch: watched })
      changed(true)
    } else if (message.refused) onRefused(message.refused)
  }
  changed()
}

/** Sends one object; false where there is no connection. @param {object} object */
export function transmit (object) {
  if (socket?.readyState !== WebSocket.OPEN || store.link.state !== 'open') return false
  socket.send(JSON.stringify(object))
  return true
}

/** Asks for the sound's picture of one machine, or of none. @param {{ agent: string, machine: string } | null} machine */
export function watch (machine) {
  watched = machine
  transmit({ watch: machine })
}

/** Ends the connection, as after a logout. */
export function disconnect () {
  const closing = socket
  socket = null
  closing?.close()
  store.link = { state: 'starting', since: Date.now(), ready: false, why: null }
  changed(true)
}

/** A network that vanished without a word: the browser would notice only after minutes. */
async function check () {
  if (!socket || document.hidden || Date.now() - heardAt < SILENT_MS) return
  const asked = socket
  try {
    await readSession()
    heardAt = Date.now()
  } catch {
    if (socket !== asked) return
    socket = null
    asked.close()
    lost('the network is gone')
  }
}

const again = () => {
  if (document.hidden || store.link.state !== 'lost') return
  pause = PAUSE_MS[0]
  connect()
}
setInterval(check, 10000)
window.addEventListener('online', again)
document.addEventListener('visibilitychange', again)
