// @ts-check
// Who acts: asked once, kept in this browser, said with every command.
import { changed } from './store.js'

const KEY = 'auscult-by'
/** @type {{ resolve: (name: string | null) => void } | null} */
let asking = null

export const who = () => { try { return localStorage.getItem(KEY) } catch { return memory } }
/** @type {string | null} */
let memory = null

/** @param {string} name */
export function setWho (name) {
  memory = name.trim().slice(0, 64) || null
  try { if (memory) localStorage.setItem(KEY, memory); else localStorage.removeItem(KEY) } catch { /* kept until the page closes */ }
  changed(true)
}

/** The name; asks for it where there is none. @returns {Promise<string | null>} */
export function askName () {
  const name = who() ?? memory
  if (name) return Promise.resolve(name)
  asking?.resolve(null)
  return new Promise(resolve => { asking = { resolve }; changed(true) })
}

/** Shows the question although there is a name. */
export function changeName () { asking = { resolve: () => {} }; changed(true) }

export const isAsking = () => asking !== null

/** @param {string | null} name */
export function answer (name) {
  const before = asking
  asking = null
  if (name) setWho(name)
  before?.resolve(name ? who() ?? memory : null)
  changed(true)
}
