// @ts-check
// What an agent has logged and what it is set to: asked for when somebody wants to see it.
import { html, useEffect, useRef, useState } from '../ui/html.js'
import { Button, Card } from '../ui/parts.js'
import { can, isBusy, knows, send } from '../lib/commands.js'

const ORIGINS = { default: 'the default', file: 'the configuration file', page: 'this page' }

/** The newest lines of the log. @param {{ id: string }} props */
export function Log ({ id }) {
  const [lines, setLines] = useState(/** @type {string[] | null} */ (null))
  const end = useRef(null)
  const read = async () => {
    const reply = await send(id, 'log.get', { lines: 200 }, { quiet: true, named: false })
    setLines(reply.ok ? reply.data?.lines ?? [] : [`The log cannot be read: ${reply.text}`])
  }
  useEffect(() => { if (end.current) end.current.scrollTop = end.current.scrollHeight }, [lines])
  if (!knows(id, 'log.get')) return null
  return html`<${Card} title="Log" name="log" wide=${true} aside=${html`<${Button} kind="small" disabled=${!can(id, 'log.get')} busy=${isBusy(id, 'log.get')} onClick=${read}>${lines ? 'Read again' : 'Read'}<//>`}>
    ${lines ? html`<pre class="text-block" ref=${end} tabindex="0" aria-label="Newest lines of the log">${lines.join('\n') || 'Nothing has been logged yet.'}</pre>` : html`<p class="note">The newest 200 lines, as the service's journal has them.</p>`}<//>`
}

/** What the agent is set to, without secrets. @param {{ id: string }} props */
export function Settings ({ id }) {
  const [config, setConfig] = useState(/** @type {any} */ (null))
  const read = async () => {
    const reply = await send(id, 'config.get', {}, { quiet: true, named: false })
    setConfig(reply.ok ? reply.data : { toml: `The configuration cannot be read: ${reply.text}` })
  }
  if (!knows(id, 'config.get')) return null
  const from = ORIGINS[/** @type {'default'} */ (config?.broker_from)]
  return html`<${Card} title="Configuration" name="config" wide=${true} aside=${html`<${Button} kind="small" disabled=${!can(id, 'config.get')} busy=${isBusy(id, 'config.get')} onClick=${read}>${config ? 'Read again' : 'Read'}<//>`}>
    ${config ? html`<pre class="text-block" tabindex="0" aria-label="Configuration in effect">${config.toml}</pre>${from && html`<p class="note">The broker comes from ${from}.</p>`}`
      : html`<p class="note">What is in effect: file, environment and page together, passwords hidden.</p>`}<//>`
}
