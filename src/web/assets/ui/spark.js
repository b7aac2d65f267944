// @ts-check
// The last hour of one machine as a line, beside its threshold.
import { html, useEffect, useRef, useState } from './html.js'
import { colour, onTheme, prepare } from './paint.js'

/** @typedef {import('../lib/track.js').Track} Track */
const HOUR_MS = 3600000

/** @param {{ track: Track, faint?: boolean }} props */
export function Spark ({ track, faint = false }) {
  const canvas = useRef(null)
  const [theme, setTheme] = useState(0)
  useEffect(() => onTheme(() => setTheme((/** @type {number} */ n) => n + 1)), [])
  useEffect(() => { if (canvas.current) draw(canvas.current, track, faint) }, [track, track.revision, faint, theme])
  return html`<canvas class="spark" ref=${canvas} aria-hidden="true"></canvas>`
}

/** @param {HTMLCanvasElement} canvas @param {Track} track @param {boolean} faint */
function draw (canvas, track, faint) {
  const { context, width, height } = prepare(canvas)
  const last = track.points.at(-1)
  if (!last) return
  const points = track.points.filter(point => point[0] > last[0] - HOUR_MS)
  const from = Math.min(points[0][0], last[0] - 60000)
  const limit = last[2]
  const peak = 1.12 * Math.max(1.3 * (limit ?? 0.01), ...points.map(point => point[1] ?? 0))
  const x = (/** @type {number} */ time) => 1 + (time - from) / (last[0] - from) * (width - 5)
  const y = (/** @type {number} */ value) => height - 2 - value / peak * (height - 4)
  if (limit) {
    context.strokeStyle = colour('limit')
    context.globalAlpha = faint ? 0.5 : 0.9
    context.setLineDash([3, 3])
    context.lineWidth = 1
    context.beginPath()
    context.moveTo(0, Math.round(y(limit)) + 0.5)
    context.lineTo(width, Math.round(y(limit)) + 0.5)
    context.stroke()
    context.setLineDash([])
  }
  line(context, points, x, y, width)
  context.strokeStyle = colour(faint ? 'muted' : 'trace')
  context.globalAlpha = faint ? 0.5 : 1
  context.lineWidth = 1.4
  context.lineJoin = 'round'
  context.stroke()
  const end = points.at(-1)
  if (end && end[1] !== null && !faint) {
    context.fillStyle = colour(end[4] === 'a' ? 'alarm' : 'trace')
    context.beginPath()
    context.arc(x(end[0]), y(end[1]), 2.4, 0, 7)
    context.fill()
  }
}

/** The path of all windows; of those that fall on one pixel the largest. A window without a value breaks the line.
 * @param {CanvasRenderingContext2D} context @param {import('../lib/track.js').Point[]} points
 * @param {(time: number) => number} x @param {(value: number) => number} y @param {number} width */
function line (context, points, x, y, width) {
  const step = Math.max(1, Math.floor(points.length / (width * 1.2)))
  context.beginPath()
  let open = false
  for (let i = 0; i < points.length; i += step) {
    const group = points.slice(i, i + step).filter(point => point[1] !== null)
    if (group.length === 0) { open = false; continue }
    const top = group.reduce((best, point) => (Number(point[1]) > Number(best[1]) ? point : best))
    if (open) context.lineTo(x(top[0]), y(Number(top[1])))
    else context.moveTo(x(top[0]), y(Number(top[1])))
    open = true
  }
}
