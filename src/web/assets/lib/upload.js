// @ts-check
// An archive in chunks over the stream, a bundle or an exported state: cut off, the same file goes on where it stopped.
import { send } from './commands.js'
import { sha256 } from './sha256.js'
import { askName } from './who.js'

/** Bytes of a chunk; in Base64 well below what an agent takes as one command. */
const CHUNK = 96 * 1024
/** Chunks on their way. */
const WINDOW = 3
const MOST = 64 * 1024 * 1024
const TRIES = 4
const INSTALL_MS = 300000

/** @param {Uint8Array} bytes */
function toBase64 (bytes) {
  let text = ''
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000))
  return btoa(text)
}

/** @param {string} agent @param {'bundle.install' | 'state.import'} command @param {File} file
 * @param {(step: string, share: number) => void} progress */
export async function upload (agent, command, file, progress) {
  if (file.size > MOST) return { ok: false, text: `The file has ${file.size} bytes; an agent takes up to ${MOST}.`, data: null }
  if (!await askName()) return { ok: false, text: 'Not sent.', data: null }
  const bytes = new Uint8Array(await file.arrayBuffer())
  const whole = { sha256: await sha256(bytes), size: bytes.length }
  const quiet = { quiet: true, named: false }
  progress('Asking the agent', 0)
  // Without a chunk the agent says how far it is, goes on where all is there already, or refuses before anything is sent.
  const first = await send(agent, command, whole, { timeout: INSTALL_MS, quiet: true })
  if (!first.ok || !first.data?.missing) return first
  const sendChunk = async (/** @type {number} */ offset) => {
    const data = toBase64(bytes.subarray(offset, offset + CHUNK))
    let reply = { ok: false, text: '', data: /** @type {any} */ (null) }
    for (let i = 0; i < TRIES && !reply.ok; i++) reply = await send(agent, command, { ...whole, offset, data }, quiet)
    return reply
  }
  for (let offset = first.data.missing[0]; offset < bytes.length;) {
    const offsets = []
    for (let i = 0; i < WINDOW && offset + i * CHUNK < bytes.length; i++) offsets.push(offset + i * CHUNK)
    const replies = await Promise.all(offsets.map(sendChunk))
    const bad = replies.find(reply => !reply.ok)
    if (bad) return { ...bad, text: `Sending failed: ${bad.text}. The same file goes on where it stopped.` }
    // The agent does one after the other, so that the last reply knows what is still missing.
    const next = replies[replies.length - 1].data?.missing?.[0] ?? bytes.length
    if (next <= offset) return { ok: false, text: `Sending failed: the agent still misses byte ${next}.`, data: null }
    offset = next
    progress('Sending', Math.min(1, offset / bytes.length))
  }
  progress('Checking on the agent', 1)
  return send(agent, command, whole, { timeout: INSTALL_MS })
}
