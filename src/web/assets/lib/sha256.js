// @ts-check
// SHA-256 (FIPS 180-4): browsers have it on https and localhost only, and an agent's page is often neither.

const K = new Uint32Array(64)
const START = new Uint32Array(8)
for (let n = 2, at = 0; at < 64; n++) {
  let prime = true
  for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break }
  if (!prime) continue
  K[at] = (n ** (1 / 3) % 1) * 2 ** 32
  if (at < 8) START[at] = (n ** 0.5 % 1) * 2 ** 32
  at++
}

/** @param {Uint32Array} state @param {DataView} view @param {number} at @param {Uint32Array} w */
function block (state, view, at, w) {
  for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i)
  for (let i = 16; i < 64; i++) {
    const [a, b] = [w[i - 15], w[i - 2]]
    w[i] = w[i - 16] + w[i - 7] + ((a >>> 7 | a << 25) ^ (a >>> 18 | a << 14) ^ a >>> 3) + ((b >>> 17 | b << 15) ^ (b >>> 19 | b << 13) ^ b >>> 10)
  }
  let [a, b, c, d, e, f, g, h] = state
  for (let i = 0; i < 64; i++) {
    const one = (h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0
    const two = (((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + ((a & b) ^ (a & c) ^ (b & c))) | 0
    h = g; g = f; f = e; e = (d + one) | 0; d = c; c = b; b = a; a = (one + two) | 0
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e; state[5] += f; state[6] += g; state[7] += h
}

/** @param {Uint8Array} bytes @returns {Promise<string>} in hex; the page goes on meanwhile */
export async function sha256 (bytes) {
  const state = START.slice()
  const w = new Uint32Array(64)
  const whole = bytes.length >> 6 << 6
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 0; at < whole; at += 64) {
    block(state, view, at, w)
    if ((at & 0x3fffff) === 0 && at) await new Promise(resolve => setTimeout(resolve))
  }
  const rest = new Uint8Array(bytes.length - whole >= 56 ? 128 : 64)
  rest.set(bytes.subarray(whole))
  rest[bytes.length - whole] = 0x80
  const tail = new DataView(rest.buffer)
  tail.setUint32(rest.length - 8, Math.floor(bytes.length / 0x20000000))
  tail.setUint32(rest.length - 4, (bytes.length << 3) >>> 0)
  for (let at = 0; at < rest.length; at += 64) block(state, tail, at, w)
  return Array.from(state, word => word.toString(16).padStart(8, '0')).join('')
}
