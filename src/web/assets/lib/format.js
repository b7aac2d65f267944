// @ts-check
// Numbers, ages and times as a person reads them.

const DASH = '–'

/** A number with so many significant digits, without an exponent.
 * @param {number | null | undefined} value @param {number} [digits] */
export function number (value, digits = 3) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return DASH
  const size = Math.abs(value)
  if (size >= 10 ** digits) return Math.round(value).toLocaleString('en')
  if (size < 1e-4) return value === 0 ? '0' : value.toExponential(1)
  return String(Number(value.toPrecision(digits)))
}

/** The same with trailing zeros, so that a value that changes does not jump.
 * @param {number | null | undefined} value @param {number} [digits] */
export function steady (value, digits = 3) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return DASH
  const size = Math.abs(value)
  const before = size >= 1 ? Math.floor(Math.log10(size)) + 1 : 1
  return value.toFixed(Math.max(0, digits - before + (size < 1 ? 1 : 0)))
}

/** @param {number | null | undefined} share 0..1 */
export function percent (share) {
  return typeof share === 'number' ? `${number(share * 100, share < 0.1 ? 2 : 3)} %` : DASH
}

/** @param {number | null | undefined} value dB of full scale */
export const level = value => (typeof value === 'number' ? `${value.toFixed(1)} dBFS` : DASH)

/** @param {number | null | undefined} value a multiple of the threshold */
export const times = value => (typeof value === 'number' ? `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ×` : DASH)

/** @param {number | null | undefined} bytes */
export function bytes (bytes) {
  if (typeof bytes !== 'number') return DASH
  if (bytes < 1000) return `${bytes} B`
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`
  return `${number(bytes / 1e6)} MB`
}

/** A span of time in its largest unit: `12 s`, `3 min`, `5 h`, `2 days`.
 * @param {number | null | undefined} ms */
export function span (ms) {
  if (typeof ms !== 'number' || Number.isNaN(ms)) return DASH
  const s = Math.max(0, ms) / 1000
  if (s < 90) return `${Math.round(s)} s`
  if (s < 5400) return `${Math.round(s / 60)} min`
  if (s < 129600) return `${Math.round(s / 3600)} h`
  return `${Math.round(s / 86400)} days`
}

/** @param {number | null | undefined} ms */
export const age = ms => (typeof ms === 'number' ? (ms < 1500 ? 'now' : `${span(ms)} ago`) : DASH)

// Formatters are slow to make and quick to use.
const whole = new Intl.DateTimeFormat([], { dateStyle: 'medium', timeStyle: 'long', hourCycle: 'h23' })
const hours = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
const days = new Intl.DateTimeFormat([], { day: 'numeric', month: 'short' })

/** Local time; with the date where it is not today's.
 * @param {string | number | null | undefined} time */
export function clock (time) {
  const date = new Date(time ?? NaN)
  if (Number.isNaN(date.getTime())) return DASH
  const hour = hours.format(date)
  if (date.toDateString() === new Date().toDateString()) return hour
  return `${days.format(date)} ${hour.slice(0, 5)}`
}

/** For a title: date, time and zone.
 * @param {string | number | null | undefined} time */
export function moment (time) {
  const date = new Date(time ?? NaN)
  return Number.isNaN(date.getTime()) ? '' : whole.format(date)
}

/** `machine_off` as `machine off`. @param {string | null | undefined} word */
export const words = word => (word ?? '').replaceAll('_', ' ').replaceAll('.', ' ')

/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`

/** Where its sound comes from, in words. @param {any} source */
export function sourceText (source) {
  if (source.device) return source.device
  if (source.wav) return `recording ${source.wav}`
  return source.synth ? `simulated ${source.synth}` : 'unknown'
}

/** @param {any} channel */
export const channelText = channel => (channel === undefined || channel === 'mix' ? 'mean of all' : `${Number(channel) + 1}`)
