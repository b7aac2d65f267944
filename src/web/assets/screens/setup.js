// @ts-check
// The guide: from a microphone to a machine that is being learned, without a file.
import { html, useEffect, useRef, useState } from '../ui/html.js'
import { Button } from '../ui/parts.js'
import { showLevel } from '../ui/listen.js'
import { addMachine, idOf, readMicrophones, readModels } from '../lib/first-start.js'
import { knows } from '../lib/commands.js'
import { go, link, route } from '../lib/route.js'
import { nameOf, store } from '../lib/store.js'
import { BrokerStep, NotifyStep } from './setup-links.js'

const POLL_MS = 1000

/** @typedef {import('../lib/first-start.js').Microphone} Microphone
 * @typedef {{ agent: string, done: (result: any) => void, back: (() => void) | null }} Step */

/** Whether there is something to show beside the guide. */
export function isSetUp () {
  const { session, world } = store
  if (session?.home !== 'agent' || !session.agent) return true
  return !knows(session.agent, 'machine.add') || (world.agents.get(session.agent)?.info?.machines.length ?? 0) > 0
}

export function Setup () {
  const agent = store.session?.agent ?? ''
  const first = useRef(!isSetUp()).current
  const steps = ['Microphone', 'Machine', ...(first && knows(agent, 'setup.broker') ? ['Broker'] : []), ...(first && knows(agent, 'setup.notify') ? ['Messages'] : []), 'Done']
  const [at, setAt] = useState(0)
  const [picked, setPicked] = useState({ microphone: null, channel: null, id: '' })
  // Adding the machine must not close the guide.
  useEffect(() => { if (route().screen !== 'setup') history.replaceState(null, '', link('setup')) }, [])
  if (!knows(agent, 'machine.add')) return html`<main class="alone"><div class="guide"><h1>Machines are set in a file here</h1><p>This agent does not add machines by itself. Write a [[machine]] in its configuration and restart it.</p><a class="button" href=${link('machines')}>To the machines</a></div></main>`
  const next = (/** @type {any} */ result) => { setPicked({ ...picked, ...result }); setAt(at + 1) }
  const step = { agent, done: next, back: at > 0 && steps[at] === 'Machine' ? () => setAt(at - 1) : null }
  return html`<main class="alone wider" id="main" tabindex="-1"><div class="brand"><img src="/assets/icon.svg" alt="" />auscult</div>
    <ol class="steps">${steps.map((word, i) => html`<li key=${word} class=${i < at ? 'done' : ''} aria-current=${i === at ? 'step' : undefined}>${word}</li>`)}</ol>
    ${steps[at] === 'Microphone' && html`<${MicrophoneStep} ...${step} first=${first} />`}
    ${steps[at] === 'Machine' && html`<${MachineStep} ...${step} picked=${picked} />`}
    ${steps[at] === 'Broker' && html`<${BrokerStep} ...${step} />`}
    ${steps[at] === 'Messages' && html`<${NotifyStep} ...${step} />`}
    ${steps[at] === 'Done' && html`<${Done} agent=${agent} id=${picked.id} />`}</main>`
}

/** @param {Step & { first: boolean }} props */
function MicrophoneStep ({ agent, done, first }) {
  const [found, setFound] = useState(null)
  const [choice, setChoice] = useState('')
  useEffect(() => {
    let gone = false
    let timer = 0
    const read = async () => {
      if (!document.hidden) { const answer = await readMicrophones(agent); if (!gone) setFound(answer) }
      if (!gone) timer = window.setTimeout(read, POLL_MS)
    }
    read()
    return () => { gone = true; clearTimeout(timer) }
  }, [agent])
  /** @type {{ key: string, microphone: Microphone, channel: number | null }[]} */
  const options = (found?.microphones ?? []).flatMap((/** @type {Microphone} */ microphone) => microphone.channels > 1
    ? Array.from({ length: microphone.channels }, (_, channel) => ({ key: `${microphone.key}:${channel}`, microphone, channel }))
    : [{ key: microphone.key, microphone, channel: null }])
  const picked = options.find(option => option.key === choice)
  return html`<div class="guide"><h1>${first ? 'Which microphone hears the machine?' : 'Which microphone hears the new machine?'}</h1>
    <p>Tap or speak at it: the level shows which one it is. Sound stays on this device.</p>
    ${found?.problem && html`<p class="say bad">The microphones cannot be read: ${found.problem}</p>`}
    ${found && !found.problem && !options.length && html`<p class="say warn">No microphone was found. Plug one in; it appears here by itself. Without one a recording can stand in: write a <code>[[machine]]</code> with <code>source = { wav = "/path/to/a/recording.wav", loop = true }</code> in the agent’s configuration, and restart it.</p>`}
    <fieldset class="picks plain-set"><legend class="hidden">Microphones</legend>${options.map(option => html`<${Pick} key=${option.key} option=${option} checked=${option.key === choice} onPick=${() => setChoice(option.key)} />`)}</fieldset>
    <div class="ends">${first ? html`<span></span>` : html`<a class="button" href=${link('machines')}>Cancel</a>`}<${Button} kind="main" disabled=${!picked} onClick=${() => done({ microphone: picked?.microphone, channel: picked?.channel })}>Next<//></div></div>`
}

/** @param {{ option: { key: string, microphone: Microphone, channel: number | null }, checked: boolean, onPick: () => void }} props */
function Pick ({ option, checked, onPick }) {
  const [meter, text] = [useRef(null), useRef(null)]
  const { microphone, channel } = option
  const level = microphone.levels[channel ?? 0]
  useEffect(() => { if (typeof level === 'number') showLevel(meter.current, text.current, level, level) })
  return html`<label class="pick"><input type="radio" name="microphone" checked=${checked} onChange=${onPick} />
    <span><b>${microphone.name}${channel === null ? '' : `, channel ${channel + 1}`}</b><small>${[microphone.detail, microphone.taken && `used by ${microphone.taken}`].filter(Boolean).join(' · ')}</small>${microphone.problem && html`<small class="wrong">${microphone.problem}</small>`}</span>
    <span class="meter-row"><span class="meter" ref=${meter} role="meter" aria-label=${`Level of ${microphone.name}`} aria-valuemin="-90" aria-valuemax="0" aria-valuenow="-90"><i></i><u></u></span><span class="meter-text" ref=${text}>–</span></span></label>`
}

/** @param {Step & { picked: { microphone: Microphone, channel: number | null } }} props */
function MachineStep ({ agent, done, back, picked }) {
  const [name, setName] = useState('')
  const [model, setModel] = useState('')
  const [models, setModels] = useState([])
  const [state, setState] = useState({ busy: false, problem: '' })
  useEffect(() => { readModels(agent).then(setModels) }, [agent])
  const id = idOf(name)
  const taken = store.world.machines.has(`${agent}/${id}`)
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault()
    setState({ busy: true, problem: '' })
    const reply = await addMachine(agent, { id, name: name.trim(), source: picked.microphone.source, channel: picked.channel, model: model || null })
    setState({ busy: false, problem: reply.ok ? '' : reply.text })
    if (reply.ok) done({ id })
  }
  return html`<form class="guide" onSubmit=${submit}><h1>What is the machine called?</h1>
    <label class="field">Name<input autofocus maxlength="64" value=${name} placeholder="Blower, hall 2" onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
    <p class="note">${id ? html`In topics and files it is <code>${id}</code>.` : 'Any name; an id for topics and files is made from it.'}${taken && html` <b>There is a machine with this id already.</b>`}</p>
    <fieldset class="picks plain-set"><legend><h2>What is normal for it?</h2></legend>
      <label class="pick"><input type="radio" name="model" checked=${!model} onChange=${() => setModel('')} /><span><b>Learn it here</b><small>It listens while the machine runs as usual. After some minutes it judges provisionally, after an hour for good.</small></span></label>
      ${models.length > 0 && html`<label class="pick"><input type="radio" name="model" checked=${!!model} onChange=${() => setModel(models[0])} /><span><b>Take it from the bundle</b><small>The bundle knows this very machine.</small>
        ${model && html`<select aria-label="Machine of the bundle" value=${model} onChange=${(/** @type {any} */ event) => setModel(event.target.value)}>${models.map((/** @type {string} */ one) => html`<option key=${one}>${one}</option>`)}</select>`}</span></label>`}</fieldset>
    <div role="alert">${state.problem && html`<p class="say bad">It was not added: ${state.problem}</p>`}</div>
    <div class="ends"><${Button} onClick=${back}>Back<//><button type="submit" class="button main" disabled=${state.busy || !id || taken}>Add the machine</button></div></form>`
}

/** @param {{ agent: string, id: string }} props */
const Done = ({ agent, id }) => html`<div class="guide"><h1>It listens</h1>
  <p>${nameOf({ agent, id })} is being heard now. Its screen shows the level, what was learned so far and, when there is enough, what is out of the ordinary.</p>
  <div class="ends"><${Button} onClick=${() => go(link('machines'))}>To the machines<//><a class="button main" href=${link('machine', agent, id)}>Show ${nameOf({ agent, id })}</a></div></div>`
