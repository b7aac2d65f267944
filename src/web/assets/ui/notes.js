// @ts-check
// What became of each command: waiting, done, refused and why, or no reply.
import { html } from './html.js'
import { icon } from './icons.js'
import { words } from '../lib/format.js'
import { dismiss, sent } from '../lib/commands.js'

const SHOWN = 3
const DONE_MS = 5000

/** @typedef {import('../lib/commands.js').Sent} Sent */

export function Notes () {
  // What is done needs no reading for long; what failed stays until somebody has seen it.
  const shown = sent.filter(note => note.state !== 'ok' || Date.now() - note.at < DONE_MS).slice(0, SHOWN)
  return html`<div class="notes" role="status" aria-live="polite">${shown.map(note => html`
    <div key=${note.id} class=${`note-box ${note.state}`} data-reply=${note.command} data-outcome=${note.state}>
      <div><b>${cap(words(note.command))}</b> <small>${note.machine && note.machine !== '*' ? note.machine : note.agent}</small>
        <span class="what">${note.state === 'waiting' ? 'Waiting for the reply …' : cap(note.text)}</span></div>
      ${note.state !== 'waiting' && html`<button type="button" class="plain" aria-label="Close this note" onClick=${() => dismiss(note)}>${icon('close')}</button>`}
    </div>`)}</div>`
}

/** @param {string} text */
const cap = text => text.charAt(0).toUpperCase() + text.slice(1)
