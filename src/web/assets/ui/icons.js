// @ts-check
// Icons of 24 x 24, drawn with one stroke; every state has a shape of its own, so that colour is never alone.
import { html } from './html.js'

/** @type {Record<string, string>} */
const PATHS = {
  machines: 'M3 12h3l2.5-6 4 13 3-9 1.8 2H21',
  bell: 'M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4',
  box: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  agent: 'M7 7h10v10H7zM10 7V4M14 7V4M10 20v-3M14 20v-3M7 10H4M7 14H4M20 10h-3M20 14h-3',
  plus: 'M12 5v14M5 12h14',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM20 20l-4.8-4.8',
  back: 'M15 5l-7 7 7 7',
  next: 'M9 5l7 7-7 7',
  close: 'M6 6l12 12M18 6L6 18',
  person: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 20c1.5-4 5-5 8-5s6.500 1 8 5',
  leave: 'M14 4H5v16h9M10 12h11M17 8l4 4-4 4',
  light: 'M12 16.500a4.500 4.500 0 1 0 0-9 4.500 4.500 0 0 0 0 9zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600L19 19M5 19l1.400-1.400M17.600 6.400L19 5',
  dark: 'M20 14.500A8 8 0 0 1 9.500 4 8 8 0 1 0 20 14.500z',
  system: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M12 7l6.500 0M12 11h8.500M12 15h8M12 19h4',
  upload: 'M12 16V4M7 9l5-5 5 5M4 20h16',
  download: 'M12 4v12M7 11l5 5 5-5M4 20h16',
  microphone: 'M12 15a3 3 0 0 0 3-3V6a3 3 0 0 0-6 0v6a3 3 0 0 0 3 3zM6 11v1a6 6 0 0 0 12 0v-1M12 18v3',
  play: 'M8 5l11 7-11 7z',
  alarm: 'M12 4l9.500 16h-19zM12 10v4.500M12 17.200v.1',
  deaf: 'M12 15a3 3 0 0 0 3-3V6a3 3 0 0 0-5.800-1M9 9v3a3 3 0 0 0 3 3M6 11v1a6 6 0 0 0 9 5.200M18 12v-1M12 18v3M4 3l16 18',
  acknowledged: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM8 12.200l3 3 5.500-6',
  watch: 'M12 19V5M6 11l6-6 6 6',
  shelved: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5.500l3.500 2',
  maintenance: 'M14.500 6.500a4 4 0 0 1 5-1l-3 3 .500 2 2 .500 3-3a4 4 0 0 1-5.500 5L8 21.500 4 17.500l8.500-8.500a4 4 0 0 1 2-2.500z',
  learning: 'M12 3a9 9 0 1 0 9 9M12 3v4M16 5l-2 3',
  idle: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.500 9v6M14.500 9v6',
  waiting: 'M6 12h.1M12 12h.1M18 12h.1',
  gone: 'M9 9L4.500 13.500a4 4 0 0 0 6 6L15 15M15 15l4.500-4.500a4 4 0 0 0-6-6L9 9M4 4l16 16',
  normal: 'M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z',
  info: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 11v5.500M12 7.500v.1'
}

/** @param {string} name @param {string} [extra] a class */
export const icon = (name, extra = '') => html`<svg class=${`icon ${extra}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name] ?? ''} /></svg>`
