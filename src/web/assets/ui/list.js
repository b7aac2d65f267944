// @ts-check
// A list of which only the visible rows exist: thousands of machines cost what a screenful costs.
import { html, useEffect, useLayoutEffect, useRef, useState } from './html.js'

/** Rows beyond the edge, so that the keyboard finds the next one. */
const SPARE = 6

/** @param {{ items: any[], row: (item: any, index: number) => any, label: string, head?: any, height: number }} props
 * height: of a row, first guess in CSS pixels; the first row is measured */
export function List ({ items, row, label, head = null, height: guess }) {
  const box = useRef(null)
  const [height, setHeight] = useState(guess)
  const [view, setView] = useState({ top: 0, bottom: window.innerHeight })
  useEffect(() => {
    let frame = 0
    const look = () => {
      frame = 0
      const top = box.current ? -box.current.getBoundingClientRect().top : 0
      setView((/** @type {{ top: number, bottom: number }} */ before) => (before.top === top && before.bottom === top + window.innerHeight ? before : { top, bottom: top + window.innerHeight }))
    }
    const soon = () => { frame ||= requestAnimationFrame(look) }
    look()
    window.addEventListener('scroll', soon, { passive: true })
    window.addEventListener('resize', soon)
    return () => { cancelAnimationFrame(frame); window.removeEventListener('scroll', soon); window.removeEventListener('resize', soon) }
  }, [])
  useLayoutEffect(() => {
    const real = box.current?.querySelector('[role=row]')?.getBoundingClientRect().height
    if (real > 10 && Math.abs(real - height) > 0.5) setHeight(real)
  })
  const from = Math.max(0, Math.min(items.length, Math.floor(view.top / height)) - SPARE)
  const to = Math.min(items.length, Math.ceil(view.bottom / height) + SPARE)
  return html`<div class="list" role="table" aria-label=${label} aria-rowcount=${items.length + (head ? 1 : 0)}>
    ${head && html`<div role="rowgroup" class="head">${head}</div>`}
    <div ref=${box} role="rowgroup" class="rows" style=${{ height: `${items.length * height}px` }}>
      <div class="window" style=${{ transform: `translateY(${from * height}px)` }}>
        ${items.slice(from, Math.max(to, from + 1)).map((item, i) => row(item, from + i))}
      </div>
    </div></div>`
}
