// @ts-check
// The page: its frame, its navigation, and which screen is open.
import { html, render, useEffect, useRef, useState } from './ui/html.js'
import { icon } from './ui/icons.js'
import { Ago, Button, Dialog } from './ui/parts.js'
import { Notes } from './ui/notes.js'
import { clock, moment, span } from './lib/format.js'
import { openAlarms } from './lib/look.js'
import { link, route } from './lib/route.js'
import { changed, onChange, store } from './lib/store.js'
import { connect, disconnect } from './lib/stream.js'
import { answer, changeName, isAsking, who } from './lib/who.js'
import { Agents } from './screens/agents.js'
import { Alarm } from './screens/alarm.js'
import { Alarms } from './screens/alarms.js'
import { Bundles } from './screens/bundles.js'
import { FirstPassword, Login } from './screens/login.js'
import { Machine } from './screens/machine.js'
import { Machines } from './screens/machines.js'
import { isSetUp, Setup } from './screens/setup.js'

/** @type {{ name: string, word: string, symbol: string, also?: string }[]} */
const NAV = [{ name: 'machines', word: 'Machines', symbol: 'machines', also: 'machine' }, { name: 'alarms', word: 'Alarms', symbol: 'bell', also: 'alarm' },
  { name: 'bundles', word: 'Bundles', symbol: 'box' }, { name: 'agents', word: 'Agent', symbol: 'agent', also: 'agent' }]
const THEMES = ['system', 'light', 'dark']

function App () {
  const [, draw] = useState(0)
  const shown = useRef('')
  useEffect(() => onChange(() => draw((/** @type {number} */ n) => n + 1)), [])
  const { session, link: connection } = store
  const here = route()
  const place = [here.screen, ...here.rest].join('/')
  useEffect(() => {
    document.title = title()
    // After a step to another screen the keyboard and the screen reader begin at its top.
    if (shown.current && shown.current !== place) document.querySelector('main')?.focus({ preventScroll: true })
    shown.current = place
  })
  if (!session) return html`<p class="starting">${connection.state === 'lost' ? `No connection${connection.why ? `: ${connection.why}` : ''}. Trying again …` : 'Connecting …'}</p>`
  if (session.setup) return html`<${FirstPassword} />`
  if (session.role === null) return html`<${Login} />`
  if (!connection.ready) return html`<p class="starting">${connection.state === 'lost' ? 'No connection. Trying again …' : 'Reading the state …'}</p>`
  if (here.screen === 'setup' || (!isSetUp() && here.screen === 'machines')) return html`<${Setup} /><${Notes} />${isAsking() && html`<${Who} />`}`
  return html`<div class=${`shell${connection.state === 'open' ? '' : ' lost'}`}>
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => { event.preventDefault(); document.querySelector('main')?.focus() }}>To the content</a>
    <${Top} /><${Side} screen=${here.screen} />
    <div><${Cut} /><main id="main" tabindex="-1"><${Screen} ...${here} key=${here.screen} /></main></div>
    <${Notes} />${isAsking() && html`<${Who} />`}</div>`
}

/** @param {{ screen: string, rest: string[] }} props */
function Screen ({ screen, rest }) {
  if (screen === 'machine') return html`<${Machine} agent=${rest[0]} id=${rest[1]} key=${rest.join('/')} />`
  if (screen === 'alarms') return html`<${Alarms} />`
  if (screen === 'alarm') return html`<${Alarm} agent=${rest[0]} id=${rest[1]} key=${rest.join('/')} />`
  if (screen === 'bundles') return html`<${Bundles} />`
  if (screen === 'agents') return html`<${Agents} />`
  if (screen === 'agent') return html`<${Agents} id=${rest[0]} key=${rest[0]} />`
  return html`<${Machines} />`
}

function title () {
  const count = openAlarms().length
  const name = store.session?.agent
  return `${count ? `(${count}) ` : ''}${name ? `${name} · ` : ''}auscult`
}

const Brand = () => html`<div class="brand"><img src="/assets/icon.svg" alt="" /><div>auscult<small>${store.session?.agent ?? 'fleet'}</small></div></div>`

/** @param {{ screen: string }} props */
function Side ({ screen }) {
  const count = openAlarms().length
  const fleet = store.session?.home === 'fleet'
  return html`<nav class="side" aria-label="Screens"><${Brand} />
    <div class="nav">${NAV.map(item => html`<a key=${item.name} href=${link(item.name)} aria-current=${[item.name, item.also].includes(screen) ? 'page' : undefined}>
      ${icon(item.symbol)}<span>${item.name === 'agents' && fleet ? 'Agents' : item.word}</span>
      ${item.name === 'alarms' && count > 0 && html`<span class="count" aria-label=${`${count} open`}>${count}</span>`}</a>`)}</div>
    <div class="foot"><${Link} /><${Account} /></div></nav>`
}

const Top = () => html`<header class="topbar"><${Brand} /><${Link} /><${Account} /></header>`

function Link () {
  const open = store.link.state === 'open'
  return html`<div class=${`linked${open ? '' : ' lost'}`} title=${`since ${moment(store.link.since)}`}><i></i><span>${open ? 'Connected' : 'No connection'}</span></div>`
}

function Account () {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? 'system')
  const turn = () => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]
    if (next === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = next
    try { localStorage.setItem('auscult-theme', next) } catch { /* for this visit only */ }
    setTheme(next)
  }
  const words = { system: 'System colours', light: 'Light', dark: 'Dark' }
  const viewer = store.session?.role === 'viewer'
  return html`<button type="button" class="plain" onClick=${turn} aria-label=${`${words[/** @type {'light'} */ (theme)]}: change`}>${icon(theme)}<span class="wide-only">${words[/** @type {'light'} */ (theme)]}</span></button>
    ${viewer ? html`<div class="linked"><span>Viewer: commands are off</span></div>`
      : html`<button type="button" class="plain" onClick=${changeName} aria-label=${`${who() ?? 'Your name'}: change who you are`}>${icon('person')}<span class="wide-only">${who() ?? 'Your name'}</span></button>`}
    ${store.session?.password && html`<button type="button" class="plain" onClick=${logout} aria-label="Log out">${icon('leave')}<span class="wide-only">Log out</span></button>`}`
}

async function logout () {
  try { await fetch('/logout', { method: 'POST' }) } finally { disconnect(); connect() }
}

/** Says that nothing on the screen is news. */
function Cut () {
  const [, tick] = useState(0)
  const home = store.fleet
  useEffect(() => { const timer = setInterval(() => tick((/** @type {number} */ n) => n + 1), 1000); return () => clearInterval(timer) }, [])
  if (store.link.state !== 'open') {
    return html`<div class="cut" role="status">${icon('gone')}<span>No connection since ${clock(store.link.since)} (${span(Date.now() - store.link.since)}). What is shown was true then.</span>
      <${Button} kind="small" onClick=${connect}>Try now<//></div>`
  }
  if (home?.broker === 'away' && store.session?.home === 'agent') return html`<div class="cut" role="status">${icon('gone')}<span>The broker cannot be reached since <${Ago} at=${home.since} />. What it has to get waits on this device; this page works without it.</span></div>`
  if (home?.broker === 'away') return html`<div class="cut" role="status">${icon('gone')}<span>The broker cannot be reached since <${Ago} at=${home.since} />${home.problem ? `: ${home.problem}` : ''}. Commands have to wait.</span></div>`
  return null
}

function Who () {
  const [name, setName] = useState(who() ?? '')
  const done = (/** @type {Event} */ event) => { event.preventDefault(); if (name.trim()) answer(name) }
  return html`<${Dialog} title="Who are you?" onClose=${() => answer(null)}>
    <form onSubmit=${done}><p>Your name goes with every command, so that colleagues see who changed what. This browser keeps it.</p>
      <label class="field">Name<input autofocus maxlength="64" value=${name} autocomplete="name" onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
      <div class="ends"><${Button} onClick=${() => answer(null)}>Cancel<//><button class="button main" type="submit" disabled=${!name.trim()}>Use this name</button></div></form><//>`
}

setInterval(() => { if (!document.hidden) changed() }, 1000)
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById('page')))
connect()
