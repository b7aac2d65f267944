// @ts-check
// Colours of the theme for what is drawn on a canvas.

/** @type {Map<string, string>} */
const known = new Map()
const forget = () => { known.clear(); for (const listener of listeners) listener() }
/** @type {Set<() => void>} */
const listeners = new Set()

/** @param {string} name of a custom property, without the dashes */
export function colour (name) {
  let value = known.get(name)
  if (!value) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
    known.set(name, value)
  }
  return value
}

/** Called when the theme changes. @param {() => void} listener @returns {() => void} */
export function onTheme (listener) {
  listeners.add(listener)
  return () => { listeners.delete(listener) }
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', forget)
new MutationObserver(forget).observe(document.documentElement, { attributeFilter: ['data-theme'] })

/** Whether the page is dark now. */
export function isDark () {
  const theme = document.documentElement.dataset.theme
  return theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
}

/** Makes a canvas sharp on this screen; gives its context and size in CSS pixels.
 * @param {HTMLCanvasElement} canvas */
export function prepare (canvas) {
  const scale = Math.min(3, window.devicePixelRatio || 1)
  const [width, height] = [canvas.clientWidth, canvas.clientHeight]
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)]
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'))
  context.setTransform(scale, 0, 0, scale, 0, 0)
  context.clearRect(0, 0, width, height)
  return { context, width, height }
}
