// @ts-check
// Distance (or score) of a machine over time, against its limit: uPlot, in the page's colours.
import { html, useEffect, useRef } from './html.js'
import { colour, onTheme } from './paint.js'
import { clock, number } from '../lib/format.js'

/** @typedef {import('../lib/track.js').Point} Point
 * @typedef {{ points: Point[], column: 1 | 3, limit: number | null, draft: number | null, from: number, to: number, revision: number }} Shown
 * column: 1 for the distance, 3 for the score; draft: a threshold that is being tried */

const MOST_POINTS = 1600
/** From so many windows on the marks are small. */
const MANY = 240
/** @type {Promise<any> | null} */
let loading = null

/** Loads uPlot when the first chart is opened. @returns {Promise<any>} */
function uplot () {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = '/assets/vendor/uplot.js'
    // @ts-ignore the library's global
    script.onload = () => resolve(window.uPlot)
    script.onerror = () => { loading = null; reject(new Error('the chart could not be loaded')) }
    document.head.append(script)
  })
  return loading
}

/** @param {{ shown: Shown, label: string }} props */
export function Chart ({ shown, label }) {
  const box = useRef(null)
  const state = useRef({ plot: /** @type {any} */ (null), shown })
  state.current.shown = shown
  useEffect(() => {
    const mine = state.current
    let gone = false
    const make = async () => {
      const Plot = await uplot()
      if (gone || !box.current) return
      mine.plot?.destroy()
      mine.plot = new Plot(options(() => mine.shown, box.current, Plot.paths.stepped({ align: 1 })), columns(mine.shown), box.current)
      fit(mine)
    }
    make().catch(error => { if (box.current) box.current.textContent = error.message })
    const stop = onTheme(make)
    const resize = new ResizeObserver(() => mine.plot?.setSize(size(box.current)))
    resize.observe(box.current)
    return () => { gone = true; stop(); resize.disconnect(); mine.plot?.destroy(); mine.plot = null }
  }, [shown.column])
  useEffect(() => {
    const { plot } = state.current
    if (!plot) return
    plot.setData(columns(shown), false)
    fit(state.current)
  }, [shown.revision, shown.from, shown.to, shown.limit, shown.draft, shown.points.length])
  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`
}

/** @param {HTMLElement} box */
const size = box => ({ width: box.clientWidth, height: box.clientHeight })

/** @param {{ plot: any, shown: Shown }} state */
function fit ({ plot, shown }) {
  plot.batch(() => {
    plot.setScale('x', { min: shown.from / 1000, max: shown.to / 1000 })
    plot.setScale('y', { min: 0, max: top(shown) })
  })
}

/** @param {Shown} shown */
function top ({ points, column, limit, draft }) {
  let peak = 1.25 * Math.max(limit ?? 0, draft ?? 0)
  for (const point of points) peak = Math.max(peak, 1.08 * (spread(point, column)?.[1] ?? point[column] ?? 0))
  return peak || 1
}

/** The least and the most, where the point stands for several windows. @param {Point} point @param {1 | 3} column */
const spread = (point, column) => (column === 1 ? point[5]?.distance : point[5]?.score) ?? null

/** Columns for uPlot: time, value, limit; of many windows the highest of each pixel.
 * @param {Shown} shown */
function columns ({ points, column, limit, from, to }) {
  const inside = points.filter(point => point[0] >= from && point[0] <= to)
  const step = Math.max(1, Math.ceil(inside.length / MOST_POINTS))
  /** @type {Point[]} */
  const kept = []
  for (let i = 0; i < inside.length; i += step) {
    const group = inside.slice(i, i + step)
    kept.push(group.reduce((best, point) => ((point[column] ?? -1) > (best[column] ?? -1) ? point : best)))
  }
  const limits = kept.map(point => (column === 1 ? point[2] : limit))
  return [kept.map(point => point[0] / 1000), kept.map(point => point[column]), limits, kept.map(point => (point[4] === 'a' ? point[column] : null))]
}

/** @param {() => Shown} shown @param {HTMLElement} box @param {any} steps draws a limit that jumps */
function options (shown, box, steps) {
  const axis = { stroke: colour('muted'), font: '12px system-ui, sans-serif', ticks: { show: false }, grid: { stroke: colour('line'), width: 1 } }
  const name = shown().column === 1 ? 'distance' : 'score'
  const date = (/** @type {any} */ _, /** @type {number} */ seconds) => (seconds == null ? '–' : clock(seconds * 1000))
  const value = (/** @type {any} */ _, /** @type {number} */ value) => number(value)
  return {
    ...size(box),
    padding: [12, 18, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    legend: { show: true, live: true },
    scales: { x: { time: true, auto: false }, y: { auto: false } },
    axes: [{ ...axis, space: (/** @type {any[]} */ ...[, , , , width]) => (width < 420 ? 50 : 70), values: (/** @type {any} */ _, /** @type {number[]} */ ticks, /** @type {any} */ __, /** @type {any} */ ___, /** @type {number} */ step) => ticks.map(tick => hour(tick * 1000, shown(), step)), gap: 6, size: 28 },
      { ...axis, size: 46, gap: 4, space: 38, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map(tick => number(tick, 3)) }],
    series: [{ label: 'time', value: date },
      { label: name, stroke: colour('trace'), width: 1.6, points: { show: false }, value, spanGaps: false },
      { label: name === 'distance' ? 'threshold' : 'limit', stroke: colour('limit'), width: 1.4, dash: [6, 4], paths: steps, points: { show: false }, value },
      { label: 'anomalous', stroke: colour('alarm'), paths: () => null, points: { show: true, size: shown().points.filter(point => point[4] === 'a').length > MANY ? 3 : 6, fill: colour('alarm'), width: 0 }, value }],
    hooks: { drawClear: [(/** @type {any} */ plot) => { unheard(plot, shown()); band(plot, shown()) }], draw: [(/** @type {any} */ plot) => draft(plot, shown())] }
  }
}

/** @param {number} time @param {Shown} shown @param {number} step from one mark to the next, s */
function hour (time, { from, to }, step) {
  const date = new Date(time)
  if (to - from > 3 * 86400000) return date.toLocaleDateString([], { weekday: 'short', day: 'numeric' })
  return date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', ...(step < 60 ? { second: '2-digit' } : {}) })
}

/** Shades where windows were not judged. @param {any} plot @param {Shown} shown */
function unheard (plot, { points, from, to }) {
  const { ctx, bbox } = plot
  ctx.save()
  ctx.fillStyle = colour('shade')
  let begin = null
  const paint = (/** @type {number} */ a, /** @type {number} */ b) => {
    const left = Math.max(bbox.left, plot.valToPos(a / 1000, 'x', true))
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(b / 1000, 'x', true))
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height)
  }
  let before = null
  for (const point of points) {
    if (point[0] < from || point[0] > to) continue
    if (point[4] === 'u') begin ??= before ?? point[0]
    else if (begin !== null) { paint(begin, point[0]); begin = null }
    before = point[0]
  }
  if (begin !== null && before !== null) paint(begin, before)
  ctx.restore()
}

/** From the least to the most of the windows that a point stands for. @param {any} plot @param {Shown} shown */
function band (plot, { points, column, from, to }) {
  const { ctx, bbox } = plot
  ctx.save()
  ctx.beginPath()
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height)
  ctx.clip()
  ctx.fillStyle = colour('trace')
  ctx.globalAlpha = 0.18
  /** @type {[number, number, number][]} */
  let run = []
  const paint = () => {
    if (run.length > 1) {
      ctx.beginPath()
      for (const [x, low] of run) ctx.lineTo(x, low)
      for (const [x, , high] of run.reverse()) ctx.lineTo(x, high)
      ctx.fill()
    }
    run = []
  }
  for (const point of points) {
    const range = point[0] >= from && point[0] <= to ? spread(point, column) : null
    if (range) run.push([plot.valToPos(point[0] / 1000, 'x', true), plot.valToPos(range[0], 'y', true), plot.valToPos(range[1], 'y', true)])
    else paint()
  }
  paint()
  ctx.restore()
}

/** The threshold that is being tried. @param {any} plot @param {Shown} shown */
function draft (plot, { draft, column }) {
  if (draft === null || column !== 1) return
  const { ctx, bbox } = plot
  const y = plot.valToPos(draft, 'y', true)
  ctx.save()
  ctx.strokeStyle = colour('accent')
  ctx.lineWidth = 2 * devicePixelRatio
  ctx.beginPath()
  ctx.moveTo(bbox.left, y)
  ctx.lineTo(bbox.left + bbox.width, y)
  ctx.stroke()
  ctx.restore()
}
