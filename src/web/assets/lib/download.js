// @ts-check
// What an agent exports, in chunks over the stream, and then as a file of the browser's.
import { send } from './commands.js'
import { sha256 } from './sha256.js'

const PACK_MS = 60000
const MOST = 64 * 1024 * 1024
const TRIES = 4

/** @param {string} agent @param {(step: string, share: number) => void} progress
 * @returns {Promise<{ ok: boolean, text: string, name: string, size: number, left: string[] }>} */
export async function download (agent, progress) {
  const failed = (/** @type {string} */ text) => ({ ok: false, text, name: '', size: 0, left: [] })
  const made = await send(agent, 'state.export', {}, { timeout: PACK_MS, quiet: true })
  if (!made.ok) return failed(made.text)
  const { name, bytes: size, sha256: sum, left_out: left } = made.data
  if (!(size > 0 && size <= MOST)) return failed(`The export has ${size} bytes; expected up to ${MOST}.`)
  const whole = new Uint8Array(size)
  for (let offset = 0; offset < size;) {
    let reply = { ok: false, text: '', data: /** @type {any} */ (null) }
    for (let i = 0; i < TRIES && !reply.ok; i++) reply = await send(agent, 'state.export', { sha256: sum, offset }, { quiet: true, named: false })
    if (!reply.ok) return failed(`Fetching failed: ${reply.text}`)
    const piece = Uint8Array.from(atob(reply.data.data), char => char.charCodeAt(0))
    if (!piece.length || offset + piece.length > size) return failed('Fetching failed: the agent sent another number of bytes.')
    whole.set(piece, offset)
    offset += piece.length
    progress('Fetching', offset / size)
  }
  if (await sha256(whole) !== sum) return failed('What came is not what the agent exported. Try again.')
  const address = URL.createObjectURL(new Blob([whole], { type: 'application/gzip' }))
  Object.assign(document.createElement('a'), { href: address, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(address), 60000)
  return { ok: true, text: '', name, size, left }
}
