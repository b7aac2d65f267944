// @ts-check
// The small parts of every screen: state, bar, button, field, dialog.
import { html, useEffect, useRef, useState } from './html.js'
import { icon } from './icons.js'
import { age, clock, moment, times } from '../lib/format.js'

/** @typedef {import('../lib/look.js').Look} Look */

/** The state of a machine: shape, colour and word. @param {{ look: Look, large?: boolean }} props */
export const State = ({ look, large = false }) => html`
  <span class=${`state is-${look.name}${large ? ' large' : ''}`} data-state=${look.name}>${icon(look.name)}<span>${look.word}</span></span>`

/** Distance against threshold: the tick in the middle is the threshold, the end twice as much.
 * @param {{ ratio: number | null | undefined, over?: boolean, faint?: boolean }} props */
export function Bar ({ ratio, over = false, faint = false }) {
  const known = typeof ratio === 'number'
  const width = known ? Math.min(100, ratio * 50) : 0
  const label = known ? `${times(ratio)} the threshold` : 'no distance'
  return html`<span class=${`bar${over ? ' over' : ''}${faint ? ' faint' : ''}${known && ratio > 2 ? ' beyond' : ''}`} role="img" aria-label=${label}>
    <i style=${{ width: `${width}%` }}></i><u></u></span>`
}

/** How long ago; the moment itself as a title. @param {{ at: string | number | null | undefined, now?: number }} props */
export function Ago ({ at, now = Date.now() }) {
  const time = typeof at === 'string' ? Date.parse(at) : at
  if (!time) return html`<span>–</span>`
  return html`<time title=${moment(time)} datetime=${new Date(time).toISOString()}>${age(now - time)}</time>`
}

/** A local time, its zone as a title. @param {{ at: string | number | null | undefined }} props */
export const At = ({ at }) => (at ? html`<time title=${moment(at)} datetime=${new Date(at).toISOString()}>${clock(at)}</time>` : html`<span>–</span>`)

/** @param {{ label: string, value: any, unit?: string, note?: any, name?: string, tone?: string }} props */
export const Figure = ({ label, value, unit = '', note = '', name = '', tone = '' }) => html`
  <div class=${`figure ${tone}`} data-figure=${name}><dt>${label}</dt><dd><b>${value}</b>${unit && html` <small>${unit}</small>`}${note && html`<div class="note">${note}</div>`}</dd></div>`

/** A button that shows that it waits. @param {any} props */
export function Button ({ busy = false, kind = '', symbol = '', children, disabled = false, ...rest }) {
  return html`<button type="button" class=${`button ${kind}${busy ? ' busy' : ''}`} disabled=${disabled || busy} aria-busy=${busy ? 'true' : undefined} ...${rest}>
    ${symbol && icon(symbol)}<span>${children}</span></button>`
}

/** A heading with what belongs beneath it. @param {any} props */
export const Card = ({ title, aside = '', name = '', wide = false, children }) => html`
  <section class=${`card${wide ? ' wide' : ''}`} data-card=${name} aria-label=${title}>
    <header><h2>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>
    ${children}
  </section>`

/** @param {{ symbol?: string, title: string, children?: any }} props */
export const Empty = ({ symbol = 'info', title, children }) => html`
  <div class="empty">${icon(symbol)}<h2>${title}</h2>${children && html`<p>${children}</p>`}</div>`

/** A progress bar in words and as a line. @param {{ share: number, label: string }} props */
export const Progress = ({ share, label }) => html`
  <div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(share * 100)}>
    <i style=${{ width: `${Math.min(100, share * 100)}%` }}></i></div>`

/** A dialog of the browser's own: it keeps the focus and closes with Escape.
 * @param {{ title: string, onClose: () => void, children: any }} props */
export function Dialog ({ title, onClose, children }) {
  const box = useRef(null)
  useEffect(() => {
    const before = document.activeElement
    box.current.showModal()
    return () => { if (before instanceof HTMLElement) before.focus() }
  }, [])
  return html`<dialog ref=${box} aria-label=${title} onCancel=${(/** @type {Event} */ event) => { event.preventDefault(); onClose() }}
      onClick=${(/** @type {MouseEvent} */ event) => { if (event.target === box.current) onClose() }}>
    <div class="sheet"><header><h2>${title}</h2>
      <button type="button" class="plain" aria-label="Close" onClick=${onClose}>${icon('close')}</button></header>${children}</div></dialog>`
}

/** One choice of a few, as a row of buttons.
 * @param {{ label: string, value: any, options: { value: any, label: string, disabled?: boolean, title?: string }[], onChange: (value: any) => void }} props */
export const Choice = ({ label, value, options, onChange }) => html`
  <div class="choice" role="group" aria-label=${label}>${options.map(option => html`
    <button type="button" key=${option.value} aria-pressed=${option.value === value ? 'true' : 'false'} disabled=${option.disabled} title=${option.title}
      onClick=${() => onChange(option.value)}>${option.label}</button>`)}</div>`

/** Copies nothing, asks twice: a button that has to be pressed again. @param {any} props */
export function Twice ({ ask, onClick, children, ...rest }) {
  const [sure, setSure] = useState(false)
  useEffect(() => {
    if (!sure) return undefined
    const timer = setTimeout(() => setSure(false), 4000)
    return () => clearTimeout(timer)
  }, [sure])
  return html`<${Button} ...${rest} kind=${sure ? 'danger' : rest.kind} onClick=${() => { if (sure) onClick(); setSure(!sure) }}>${sure ? ask : children}<//>`
}
