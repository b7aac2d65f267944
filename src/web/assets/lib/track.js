// @ts-check
// The windows of one machine, oldest first, as columns: cheap for thousands of machines, ready for a chart.

/** One window: time in ms, distance, threshold, score, verdict (`n`, `a`, `u`). Or several, with their medians and what
 * they come to.
 * @typedef {{ windows: number, anomalous: number, unjudged: number, distance: [number, number] | null, score: [number, number] | null }} Rolled
 * @typedef {[number, number | null, number | null, number | null, string, Rolled?]} Point */

export class Track {
  /** @param {number} most windows that are kept */
  constructor (most) {
    this.most = most
    /** @type {Point[]} */
    this.points = []
    /** Counts the changes. */
    this.revision = 0
  }

  /** @param {VerdictMsg} verdict */
  push (verdict) {
    this.add([Date.parse(verdict.ts), verdict.distance, verdict.threshold, verdict.score, verdict.verdict[0]])
  }

  /** Puts a window where it belongs; one that is there already changes nothing. @param {Point} point */
  add (point) {
    const { points } = this
    let at = points.length
    while (at > 0 && points[at - 1][0] > point[0]) at--
    if (at > 0 && points[at - 1][0] === point[0]) return
    points.splice(at, 0, point)
    if (points.length > this.most + 64) points.splice(0, points.length - this.most)
    this.revision++
  }

  /** @param {Point[]} others */
  merge (others) {
    if (others.length === 0) return
    const known = new Map(others.map(point => [point[0], point]))
    for (const point of this.points) known.set(point[0], point)
    this.points = [...known.values()].sort((a, b) => a[0] - b[0]).slice(-this.most)
    this.revision++
  }

  /** The usual time between two windows, ms. */
  pace () {
    const last = this.points.slice(-9)
    if (last.length < 3) return 5000
    const steps = last.slice(1).map((point, i) => point[0] - last[i][0]).sort((a, b) => a - b)
    return Math.max(100, steps[steps.length >> 1])
  }
}
