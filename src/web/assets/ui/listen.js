// @ts-check
// What the machine sounds like now: a level meter and a rolling spectrogram, both drawn outside the page's rendering.
import { html, useEffect, useRef } from './html.js'
import { isDark, onTheme } from './paint.js'
import { level } from '../lib/format.js'
import { onLive } from '../lib/store.js'
import { watch } from '../lib/stream.js'

const BANDS = 128
const COLUMNS = 600
const FLOOR_DBFS = -90
/** From silence to loud, light and dark. @type {Record<string, number[][]>} */
const RAMPS = {
  light: [[248, 249, 247], [203, 224, 228], [118, 176, 190], [37, 112, 138], [13, 52, 78], [84, 14, 44]],
  dark: [[13, 17, 20], [18, 46, 66], [22, 94, 116], [72, 158, 150], [220, 206, 120], [255, 244, 224]]
}

/** Bytes of the picture's range, 255 for 100 dB: what is 60 dB below the loudest band is silence. */
const RANGE = 153
/** The loudest band sinks so much with each frame, so that one knock does not darken the picture for long. */
const SINK = 0.25
/** The colours follow in steps. */
const STEP = 16

/** 256 colours between the anchors of a ramp. @param {number[][]} ramp @param {number} top the loudest byte */
function palette (ramp, top) {
  const table = new Uint8ClampedArray(256 * 3)
  for (let i = 0; i < 256; i++) {
    const place = Math.min(1, Math.max(0, 1 - (top - i) / RANGE)) * (ramp.length - 1)
    const [at, part] = [Math.min(ramp.length - 2, Math.floor(place)), place - Math.min(ramp.length - 2, Math.floor(place))]
    for (let c = 0; c < 3; c++) table[3 * i + c] = ramp[at][c] + (ramp[at + 1][c] - ramp[at][c]) * part
  }
  return table
}

/** The columns that came, as a picture that is written round and round. */
class Roll {
  constructor () {
    this.bytes = new Uint8Array(COLUMNS * BANDS)
    this.filled = 0
    this.next = 0
    this.picture = document.createElement('canvas')
    this.picture.width = COLUMNS
    this.picture.height = BANDS
    this.context = /** @type {CanvasRenderingContext2D} */ (this.picture.getContext('2d'))
    this.peak = 0
    this.top = RANGE
    this.colours = palette(RAMPS[isDark() ? 'dark' : 'light'], this.top)
    this.column = this.context.createImageData(1, BANDS)
  }

  /** @param {Uint8Array} bands */
  add (bands) {
    this.bytes.set(bands.subarray(0, BANDS), this.next * BANDS)
    this.peak = Math.max(this.peak - SINK, ...bands)
    const top = Math.max(RANGE - 40, Math.ceil((this.peak + 6) / STEP) * STEP)
    if (top !== this.top) { this.top = top; this.recolour() }
    this.paint(this.next)
    this.next = (this.next + 1) % COLUMNS
    this.filled = Math.min(COLUMNS, this.filled + 1)
  }

  /** @param {number} at */
  paint (at) {
    for (let i = 0; i < BANDS; i++) {
      const value = this.bytes[at * BANDS + BANDS - 1 - i] * 3
      this.column.data.set([this.colours[value], this.colours[value + 1], this.colours[value + 2], 255], 4 * i)
    }
    this.context.putImageData(this.column, at, 0)
  }

  recolour () {
    this.colours = palette(RAMPS[isDark() ? 'dark' : 'light'], this.top)
    for (let i = 0; i < this.filled; i++) this.paint((this.next - 1 - i + COLUMNS) % COLUMNS)
  }

  /** The newest at the right edge. @param {HTMLCanvasElement} canvas */
  draw (canvas) {
    const scale = Math.min(2, window.devicePixelRatio || 1)
    const [w, h] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)]
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
    context.clearRect(0, 0, w, h)
    const wide = Math.max(2, Math.round(3 * scale))
    const count = Math.min(this.filled, Math.ceil(w / wide))
    const first = (this.next - count + COLUMNS) % COLUMNS
    const one = Math.min(count, COLUMNS - first)
    if (one > 0) context.drawImage(this.picture, first, 0, one, BANDS, w - count * wide, 0, one * wide, h)
    if (count > one) context.drawImage(this.picture, 0, 0, count - one, BANDS, w - (count - one) * wide, 0, (count - one) * wide, h)
  }
}

/** @param {string} text @returns {Uint8Array} */
const fromBase64 = text => Uint8Array.from(atob(text), char => char.charCodeAt(0))

/** @param {{ agent: string, machine: string, refused?: string }} props */
export function Listen ({ agent, machine, refused = '' }) {
  const [canvas, meter, text, hint] = [useRef(null), useRef(null), useRef(null), useRef(null)]
  useEffect(() => {
    const roll = new Roll()
    let frame = 0
    let peak = FLOOR_DBFS
    const stopLive = onLive((topic, payload) => {
      if (topic.agent !== agent || topic.machine !== machine || !payload) return
      if (payload.bands) roll.add(fromBase64(payload.bands))
      peak = Math.max(payload.peak_dbfs ?? FLOOR_DBFS, peak - 1.2)
      frame ||= requestAnimationFrame(() => {
        frame = 0
        if (!canvas.current) return
        roll.draw(canvas.current)
        showLevel(meter.current, text.current, payload.level_dbfs, peak)
        hint.current.hidden = true
      })
    })
    const stopTheme = onTheme(() => { roll.recolour(); if (canvas.current) roll.draw(canvas.current) })
    const visible = () => watch(document.hidden ? null : { agent, machine })
    visible()
    document.addEventListener('visibilitychange', visible)
    return () => { stopLive(); stopTheme(); cancelAnimationFrame(frame); watch(null); document.removeEventListener('visibilitychange', visible) }
  }, [agent, machine])
  return html`<div class="listen">
    <div class="roll"><canvas ref=${canvas} role="img" aria-label="Rolling spectrogram of what the microphone hears now: low tones at the bottom, high tones at the top"></canvas>
      <span class="hint" ref=${hint}>${refused ? cap(refused) : 'Waiting for sound …'}</span>
      <span class="edge high">high</span><span class="edge low">low</span></div>
    <div class="meter-row"><div class="meter" ref=${meter} role="meter" aria-label="Level" aria-valuemin=${FLOOR_DBFS} aria-valuemax="0" aria-valuenow=${FLOOR_DBFS}><i></i><u></u></div>
      <span class="meter-text" ref=${text}>–</span></div></div>`
}

/** @param {string} text */
const cap = text => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

/** @param {HTMLElement} meter @param {HTMLElement} text @param {number} dbfs @param {number} peak */
export function showLevel (meter, text, dbfs, peak) {
  const place = (/** @type {number} */ db) => `${Math.min(100, Math.max(0, 100 * (db - FLOOR_DBFS) / -FLOOR_DBFS))}%`
  const [bar, mark] = /** @type {HTMLCollectionOf<HTMLElement>} */ (meter.children)
  bar.style.width = place(dbfs)
  mark.style.left = place(peak)
  meter.classList.toggle('hot', peak > -3)
  meter.setAttribute('aria-valuenow', dbfs.toFixed(0))
  // The text that was rendered, so that no other stands beside it when the screen is rendered anew.
  const shown = /** @type {Text} */ (text.firstChild)
  shown.data = level(dbfs)
}
