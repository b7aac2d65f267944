// @ts-check
// The screen that is open, in the address after the #: links, the back button and bookmarks work.
import { changed } from './store.js'

/** @returns {{ screen: string, rest: string[], query: URLSearchParams }} */
export function route () {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?')
  const [screen, ...rest] = path.split('/').map(part => { try { return decodeURIComponent(part) } catch { return part } })
  return { screen: screen || 'machines', rest, query: new URLSearchParams(query ?? '') }
}

/** @param {string[]} parts */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join('/')}`

/** @param {string} hash */
export function go (hash) { location.hash = hash }

/** Changes the query without a step of history. @param {Record<string, string>} values */
export function setQuery (values) {
  const { screen, rest } = route()
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString()
  history.replaceState(null, '', link(screen, ...rest) + (query ? `?${query}` : ''))
  changed(true)
}

window.addEventListener('hashchange', () => { window.scrollTo(0, 0); changed(true) })
