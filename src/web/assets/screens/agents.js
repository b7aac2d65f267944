// @ts-check
// The agents: of a fleet a list, and of each one how it is.
import { html, useEffect, useState } from '../ui/html.js'
import { icon } from '../ui/icons.js'
import { Ago, Button, Card, Empty, Figure } from '../ui/parts.js'
import { List } from '../ui/list.js'
import { age, bytes, level, moment, number, percent, plural, span, words } from '../lib/format.js'
import { can, isBusy, knows, send } from '../lib/commands.js'
import { link, route, setQuery } from '../lib/route.js'
import { store } from '../lib/store.js'
import { transmit } from '../lib/stream.js'
import { Events } from './machine.js'
import { Log, Settings } from './inside.js'
import { Keeping } from './keeping.js'

/** @typedef {import('../lib/store.js').Agent} Agent */
const LOOKS = { online: { name: 'normal', word: 'Online' }, stopped: { name: 'idle', word: 'Stopped' }, offline: { name: 'gone', word: 'Offline' } }

/** @param {{ id?: string }} props */
export function Agents ({ id }) {
  const own = store.session?.home === 'agent' ? store.session.agent : null
  const picked = id ?? own
  if (picked) {
    const agent = store.world.agents.get(picked)
    return agent ? html`<${One} agent=${agent} alone=${picked === own} />` : html`<div class="screen"><${Empty} symbol="agent" title=${`No agent ${picked}`}><a href=${link('agents')}>Back to the agents</a><//></div>`
  }
  const words = route().query.get('find') ?? ''
  const all = [...store.world.agents.values()].sort((a, b) => rank(a) - rank(b) || a.id.localeCompare(b.id, 'en', { numeric: true }))
  const shown = all.filter(agent => `${agent.id} ${agent.info?.tags.join(' ')} ${agent.info?.bundle} ${agent.info?.version} ${agent.status?.state}`.toLowerCase().includes(words.toLowerCase()))
  const away = all.filter(agent => agent.status?.state !== 'online').length
  return html`<div class="screen agents"><header class="title"><h1>Agents</h1><p>${plural(all.length, 'agent')}${away ? `, ${away} not online` : ''}</p></header>
    <div class="filters"><label class="search"><span class="hidden">Search</span>${icon('search')}<input type="search" value=${words} placeholder="Agent, tag, bundle, version" onInput=${(/** @type {any} */ event) => setQuery({ find: event.target.value })} /></label></div>
    ${shown.length ? html`<${List} items=${shown} label="Agents" height=${64} row=${agentRow} head=${html`<div role="row"><span role="columnheader">State</span><span role="columnheader">Agent</span><span role="columnheader">Bundle</span><span role="columnheader">Machines</span><span role="columnheader">Version</span><span role="columnheader">Since</span></div>`} />`
      : html`<${Empty} symbol="agent" title=${all.length ? 'No agent fits' : 'No agent has reported'} />`}</div>`
}

/** @param {Agent} agent */
const rank = agent => ({ offline: 0, stopped: 1, online: 2 })[agent.status?.state ?? 'offline']

/** @param {Agent} agent */
function state (agent) {
  const found = LOOKS[agent.status?.state ?? 'offline']
  return html`<span class=${`state is-${found.name}`} data-state=${agent.status?.state}>${icon(found.name)}<span>${found.word}</span></span>`
}

/** @param {Agent} agent @param {number} index */
const agentRow = (agent, index) => html`<div role="row" aria-rowindex=${index + 2} key=${agent.id} class=${`row${agent.status?.state === 'online' ? '' : ' stale'}`} data-agent=${agent.id}>
  <span role="cell" class="c-state">${state(agent)}</span><span role="cell" class="c-name"><a href=${link('agent', agent.id)}>${agent.id}</a><small>${agent.info?.tags.join(', ')}</small></span>
  <span role="cell" class="c-bar">${agent.info?.bundle ?? 'no bundle'}</span><span role="cell" class="c-spark">${plural(agent.info?.machines.length ?? 0, 'machine')}</span>
  <span role="cell" class="c-since no-word">${agent.info?.version ?? '–'}</span><span role="cell" class="c-age">${agent.status ? html`<span title=${moment(agent.status.ts)}>${span(Date.now() - Date.parse(agent.status.ts))}</span>` : '–'}</span></div>`

/** @param {{ agent: Agent, alone: boolean }} props */
function One ({ agent, alone }) {
  const { id, info, status } = agent
  useEffect(() => { if (can(id, 'health.get')) send(id, 'health.get', {}, { quiet: true, named: false }) }, [id, status?.state, store.link.state])
  const gone = status?.state !== 'online'
  return html`<div class="screen agent" data-agent-detail=${id}>${!alone && html`<a class="crumb" href=${link('agents')}>${icon('back')}Agents</a>`}
    <header class="machine-head"><h1>${id}</h1><div>${state(agent)}</div>
      <p class="story">auscult ${info?.version ?? ''}${info?.tags.length ? ` · ${info.tags.join(', ')}` : ''} · ${status ? html`${status.state} for <span title=${moment(status.ts)}>${span(Date.now() - Date.parse(status.ts))}</span>` : 'no status'}${status?.clock ? ' · clock not set' : ''}</p>
      <div class="acts"><a class="button" href=${`${link('machines')}?agent=${encodeURIComponent(id)}`}>${plural(info?.machines.length ?? 0, 'machine')}</a>
        <${Button} disabled=${!can(id, 'health.get')} busy=${isBusy(id, 'health.get')} onClick=${() => send(id, 'health.get', {}, { named: false })}>Read its health now<//>
        ${!alone && gone && store.session?.forget && html`<${Forget} id=${id} />`}</div></header>
    <div class="cards">${agent.health ? html`<${HealthCards} agent=${agent} health=${agent.health} gone=${gone} />` : html`<${Card} title="Health" wide=${true}><p class="note">No health message yet. Agents send one every minute.</p><//>`}
      <${Notified} id=${id} /><${Keeping} id=${id} /><${Log} id=${id} /><${Settings} id=${id} /><${Events} events=${agent.events} /></div></div>`
}

/** @param {{ agent: Agent, health: Health, gone: boolean }} props */
function HealthCards ({ agent, health, gone }) {
  const waits = health.outbox_depth > 50
  const free = health.disk_free_mb ?? null
  return html`<${Card} title="The device" name="device" aside=${html`${gone ? 'last known, ' : ''}<${Ago} at=${agent.healthAt} />`}><dl class="figures">
      <${Figure} label="Running for" value=${span(health.uptime_s * 1000)} />
      <${Figure} label="CPU temperature" value=${number(health.cpu_temp_c)} unit=${health.cpu_temp_c === null ? '' : '°C'} tone=${(health.cpu_temp_c ?? 0) > 80 ? 'bad' : ''} />
      <${Figure} label="Memory" value=${number(health.memory_mb)} unit="MiB" />
      <${Figure} label="Free on disk" value=${free === null ? '–' : bytes(free * 1048576)} tone=${free !== null && free < 200 ? 'bad' : ''} />
      <${Figure} label="Clock" value=${health.clock ? 'not set' : 'set'} tone=${health.clock ? 'bad' : ''} note=${health.clock ? 'times may be far off' : ''} /></dl><//>
    <${Card} title="Broker and outbox" name="outbox"><dl class="figures">
      <${Figure} label="Waiting to be sent" value=${health.outbox_depth.toLocaleString('en')} note=${bytes(health.outbox_bytes)} tone=${waits ? 'bad' : ''} />
      <${Figure} label="Kept on" value=${health.outbox_state} tone=${health.outbox_state === 'disk' ? '' : 'bad'} note=${health.outbox_error ?? ''} />
      <${Figure} label="Given up unsent" value=${health.dropped.toLocaleString('en')} tone=${health.dropped ? 'bad' : ''} />
      <${Figure} label="Reconnects" value=${health.reconnects.toLocaleString('en')} /></dl>
      ${health.last_error && html`<p class="note">Last problem of the connection: ${health.last_error}</p>`}
      ${health.incoming_dropped > 0 && html`<p class="say warn">${plural(health.incoming_dropped, 'command')} came too fast and were dropped.</p>`}
      ${(health.denied ?? []).length > 0 && html`<p class="say warn">The broker denies ${health.denied.join(', ')}: what is published there waits.</p>`}
      ${health.refused > 0 && html`<p class="say warn">${plural(health.refused, 'message')} can never be sent to this broker and were given up.</p>`}<//>
    <${Card} title="Microphones" name="captures" wide=${true}><div class="scroll" tabindex="0" role="group" aria-label="Table of the microphones"><table><thead><tr><th>Machine</th><th>Capture</th><th class="num">Level</th><th class="num">Assessed</th><th>Fault</th><th class="num">Lost sound</th><th class="num">Times lost</th><th class="num">Overload</th><th class="num">Last sound</th></tr></thead>
      <tbody>${health.machines.map(one => html`<tr key=${one.machine}><td><a href=${link('machine', agent.id, one.machine)}>${one.machine}</a></td><td class=${one.capture === 'running' ? '' : 'anomalous'}>${words(one.capture)}${one.capture_problem && html`<br /><small>${one.capture_problem}</small>`}</td><td class="num">${level(one.level_dbfs)}</td><td class="num">${percent(one.assessed)}</td><td>${one.signal ? words(one.signal) : '–'}</td>
        <td class="num">${number(one.lost_s)} s</td><td class="num">${one.losses}</td><td class="num">${one.overload}</td><td class="num">${one.last_frame_age_s === null ? 'never' : age(one.last_frame_age_s * 1000)}</td></tr>`)}</tbody></table></div><//>`
}

/** Who is told of alarms, and whether they are reached. @param {{ id: string }} props */
function Notified ({ id }) {
  const [targets, setTargets] = useState(/** @type {any} */ (null))
  const [tested, setTested] = useState(/** @type {any} */ ([]))
  const ready = can(id, 'notify.test')
  useEffect(() => {
    let gone = false
    if (ready) send(id, 'state.get', {}, { quiet: true, named: false }).then(reply => { if (!gone && reply.ok) setTargets(reply.data?.notify ?? []) })
    return () => { gone = true }
  }, [id, ready, tested])
  if (!knows(id, 'notify.test')) return null
  const test = async () => {
    const reply = await send(id, 'notify.test', {}, { timeout: 45000 })
    if (reply.ok) setTested(reply.data.targets)
  }
  const outcome = (/** @type {string} */ name) => tested.find((/** @type {any} */ one) => one.name === name)
  return html`<${Card} title="Who is told" name="notified">${targets?.length === 0 ? html`<p class="note">Nobody is told of alarms. The agent's configuration takes ntfy, webhooks and e-mail as [[notify]].</p>`
    : html`<ul class="targets">${targets?.map((/** @type {any} */ one) => html`<li key=${one.name} data-target=${one.name}><b>${one.name}</b> (${one.kind})${one.waiting > 0 ? `: ${plural(one.waiting, 'item')} waiting` : ''}
        ${one.problem && html`<br /><small class="anomalous">${one.problem}</small>`}${one.sent && html`<br /><small>last told ${moment(one.sent)}</small>`}
        ${outcome(one.name) && html`<br /><small class=${outcome(one.name).sent ? '' : 'anomalous'}>${outcome(one.name).sent ? 'The test message was taken.' : `Not reached: ${outcome(one.name).problem}`}</small>`}</li>`)}</ul>`}
    <div class="row-of"><${Button} disabled=${!ready || !targets?.length} busy=${isBusy(id, 'notify.test')} data-do="notify-test" onClick=${test}>Send a test message<//></div><//>`
}

/** Drops what the broker keeps of an agent that is gone; where the console can. @param {{ id: string }} props */
function Forget ({ id }) {
  const [sure, setSure] = useState(false)
  const go = () => { if (sure) transmit({ forget: { agent: id } }); setSure(!sure) }
  return html`<${Button} kind=${sure ? 'danger' : ''} data-do="forget" disabled=${store.session?.role !== 'operator' || store.link.state !== 'open'} onClick=${go}>${sure ? 'Forget it now' : 'Forget this agent'}<//>`
}
