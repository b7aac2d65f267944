// @ts-check
// One alarm of the journal: what it looked and sounded like, what somebody has said of it, and what an answer would change.
import { html, useEffect, useState } from '../ui/html.js'
import { icon } from '../ui/icons.js'
import { At, Button, Card, Empty } from '../ui/parts.js'
import { bytes, clock, number, span } from '../lib/format.js'
import { answered, fetchFile, readAlarm, readClip, readJournal } from '../lib/journal.js'
import { link } from '../lib/route.js'
import { nameOf, store } from '../lib/store.js'
import { Answers } from './alarm/answers.js'
import { Curves } from './alarm/curves.js'

/** @typedef {import('../lib/journal.js').Entry} Entry */
const KINDS = { fault: 'Fault', wear: 'Wear', deaf: 'Not heard' }

/** @param {{ agent: string, id: string }} props */
export function Alarm ({ agent, id }) {
  const alarm = Number(id)
  const [entry, setEntry] = useState(/** @type {Entry | null} */ (null))
  const [problem, setProblem] = useState('')
  const [clip, setClip] = useState(/** @type {any} */ (null))
  const [others, setOthers] = useState(/** @type {Entry[]} */ ([]))
  const read = async () => {
    const found = await readAlarm(agent, alarm)
    setEntry(found.entry)
    setProblem(found.problem)
    if (found.entry) setOthers((await readJournal(agent, { machine: found.entry.machine, limit: 20 })).alarms)
  }
  useEffect(() => { read() }, [agent, id])
  const has = entry?.clip != null
  useEffect(() => { if (has) readClip(agent, alarm).then(setClip) }, [agent, id, has])
  // A clip is there 20 s after its alarm.
  useEffect(() => {
    if (!entry || has || entry.kind === 'deaf' || Date.now() - Date.parse(entry.since) > 90000) return undefined
    const timer = setInterval(read, 3000)
    return () => clearInterval(timer)
  }, [entry, has])
  const back = html`<a class="crumb" href=${link('alarms')}>${icon('back')}<span>Alarms</span></a>`
  if (!entry) return html`<div class="screen">${back}<h1>Alarm ${id}</h1><p class="note">${problem || 'Asking the agent …'}</p></div>`
  const machine = store.world.machines.get(`${agent}/${entry.machine}`)
  return html`<div class="screen" data-entry=${entry.alarm}>${back}
    <header class="machine-head"><h1>${KINDS[/** @type {'fault'} */ (entry.kind)]}: <a href=${link('machine', agent, entry.machine)}>${machine ? nameOf(machine) : entry.machine}</a></h1>
      <p class="story"><strong><${At} at=${entry.since} /></strong>, ${entry.ended ? `lasted ${span(Date.parse(entry.ended) - Date.parse(entry.since))}` : 'stands'}. ${entry.text}${entry.like && html` <strong data-like>Sounds ${entry.like}.</strong>`}</p>
      ${(entry.by || entry.acknowledged) && html`<p class="story">Acknowledged${entry.by ? ` by ${entry.by}` : ''}${entry.comment ? `: “${entry.comment}”` : ''}</p>`}</header>
    <div class="cards"><${Evidence} agent=${agent} entry=${entry} clip=${clip} />
      <${Answers} agent=${agent} entry=${entry} onDone=${read} />
      <${Others} agent=${agent} others=${others.filter((/** @type {Entry} */ one) => one.alarm !== entry.alarm)} /></div></div>`
}

/** @param {{ agent: string, others: Entry[] }} props */
const Others = ({ agent, others }) => html`<${Card} title="Other alarms of this machine" name="others">${others.length === 0 ? html`<p class="note">None.</p>`
  : html`<ul class="events">${others.slice(0, 8).map(one => html`<li key=${one.alarm}><time>${clock(one.since)}</time>
    <div><a href=${link('alarm', agent, String(one.alarm))}>${KINDS[/** @type {'fault'} */ (one.kind)]}${one.answer ? `, ${answered(one.answer)}` : ''}</a><small>${one.text}</small></div></li>`)}</ul>`}<//>`

/** @param {{ agent: string, entry: Entry, clip: any }} props */
function Evidence ({ agent, entry, clip }) {
  const [picture, setPicture] = useState('')
  const [beside, setBeside] = useState('')
  const [sound, setSound] = useState('')
  const [state, setState] = useState('')
  const listed = (/** @type {string} */ ending) => clip?.clip.find((/** @type {any} */ one) => one.file.endsWith(ending))
  useEffect(() => {
    const named = (/** @type {string} */ name) => clip?.clip.find((/** @type {any} */ one) => one.file === name)
    const [png, normal] = [named('spectrogram.png'), named('normal.png')]
    if (png) fetchFile(agent, entry.alarm, png, 'image/png').then(setPicture)
    if (normal) fetchFile(agent, entry.alarm, normal, 'image/png').then(setBeside)
  }, [clip])
  useEffect(() => () => { for (const address of [picture, beside, sound]) if (address) URL.revokeObjectURL(address) }, [])
  const flac = listed('.flac')
  const hear = async () => {
    setState('fetching')
    const address = await fetchFile(agent, entry.alarm, flac, 'audio/flac')
    setSound(address)
    setState(address ? '' : 'It did not come whole. Try again.')
  }
  if (!entry.clip) {
    return html`<${Card} title="What it sounded like" name="evidence" wide=${true}><${Empty} symbol="info" title="No clip">${entry.kind === 'deaf' ? 'A machine that cannot be heard has no sound.'
      : 'A clip is made 20 s after an alarm; the oldest go when there is no more room.'}<//><//>`
  }
  const said = clip && `${number(clip.seconds)} s from ${clock(clip.from)} on`
  return html`<${Card} title="What it sounded like" name="evidence" wide=${true} aside=${said}>
    ${picture ? html`<img class="spectrogram" src=${picture} alt=${`Spectrogram of ${entry.machine}, ${said}: ${entry.text}`} data-picture />` : html`<p class="note">${clip ? 'Fetching the picture …' : 'Asking the agent …'}</p>`}
    ${beside && html`<figure class="beside"><img class="spectrogram" src=${beside} alt=${`Spectrogram of normal windows of ${entry.machine}`} data-normal />
      <figcaption class="note">Normal, for comparison: of the last 40 minutes before the alarm the windows nearest to it, in the same colours. They ended at ${clip.normal.map((/** @type {string} */ at) => clock(at)).join(', ')}.</figcaption></figure>`}
    ${sound ? html`<audio class="player" controls autoplay src=${sound} data-player aria-label="The sound of the alarm"></audio>`
      : flac ? html`<div class="row-of"><${Button} symbol="play" data-do="hear" busy=${state === 'fetching'} onClick=${hear}>Hear it, ${bytes(flac.bytes)}<//></div>`
        : null}
    ${clip?.note && html`<p class="note" data-clip-note>${clip.note}</p>`}
    ${state && state !== 'fetching' && html`<p class="say bad">${state}</p>`}
    ${clip && html`<${Curves} clip=${clip} />`}<//>`
}
