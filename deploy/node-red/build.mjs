// Puts flows.json together from src/: `node build.mjs` writes it, `node build.mjs --check` tells whether it is up to date.
import { readFileSync, writeFileSync } from 'node:fs'

const here = new URL('.', import.meta.url)
const part = name => readFileSync(new URL('src/' + name, here), 'utf8').trimEnd()

const tab = 'auscult-flow'
const node = (type, id, x, y, rest, ...wires) => ({ id: 'auscult-' + id, type, z: tab, x, y, ...rest, wires })
const to = (...ids) => ids.map(id => 'auscult-' + id)

const flows = [
  {
    id: tab, type: 'tab', label: 'auscult', disabled: false,
    info: 'The fleet of auscult agents. Set the broker in the node "auscult/#"; another mqtt.root goes into ROOT, in this flow\'s properties.',
    env: [{ name: 'ROOT', value: 'auscult', type: 'str' }]
  },
  {
    id: 'auscult-broker', type: 'mqtt-broker', name: 'broker of the plant', broker: 'localhost', port: '1883', clientid: '',
    autoConnect: true, usetls: false, protocolVersion: '4', keepalive: '30', cleansession: true, autoUnsubscribe: true,
    birthTopic: '', closeTopic: '', willTopic: ''
  },
  {
    id: 'auscult-ui', type: 'ui-base', name: 'auscult', path: '/dashboard', appIcon: '', includeClientData: true,
    acceptsClientConfig: ['ui-notification', 'ui-control', 'ui-template'], showPathInSidebar: false, headerContent: 'page',
    navigationStyle: 'none', titleBarStyle: 'default', showReconnectNotification: true, notificationDisplayTime: 3,
    showDisconnectNotification: true, allowInstall: false
  },
  {
    id: 'auscult-theme', type: 'ui-theme', name: 'auscult',
    colors: { surface: '#263238', primary: '#1565c0', bgPage: '#eceff1', groupBg: '#ffffff', groupOutline: '#cfd8dc' },
    sizes: { density: 'default', pagePadding: '12px', groupGap: '12px', groupBorderRadius: '6px', widgetGap: '12px' }
  },
  {
    id: 'auscult-page', type: 'ui-page', name: 'Machines', ui: 'auscult-ui', path: '/machines', icon: 'ear-hearing', layout: 'grid',
    theme: 'auscult-theme', order: 1, className: '', visible: 'true', disabled: 'false',
    breakpoints: [
      { name: 'Default', px: '0', cols: '3' }, { name: 'Tablet', px: '576', cols: '6' },
      { name: 'Small Desktop', px: '768', cols: '9' }, { name: 'Desktop', px: '1024', cols: '12' }
    ]
  },
  {
    id: 'auscult-group', type: 'ui-group', name: 'Fleet', page: 'auscult-page', width: '12', height: '1', order: 1, showTitle: false,
    className: '', visible: 'true', disabled: 'false', groupType: 'default'
  },
  node('inject', 'start', 120, 80, {
    name: 'start', props: [{ p: 'action', v: 'subscribe', vt: 'str' }, { p: 'topic', v: '$env("ROOT") & "/#"', vt: 'jsonata' }, { p: 'qos', v: '1', vt: 'num' }],
    repeat: '', crontab: '', once: true, onceDelay: 0.1, topic: '', payload: '', payloadType: 'str'
  }, to('in')),
  node('mqtt in', 'in', 280, 80, {
    name: 'auscult/#', topic: '', qos: '1', datatype: 'utf8', broker: 'auscult-broker', nl: false, rap: true, rh: 0, inputs: 1
  }, to('collect')),
  node('status', 'link', 290, 200, { name: 'broker', scope: ['auscult-in'] }, to('collect')),
  node('inject', 'tick', 130, 140, {
    name: 'every second', props: [{ p: 'topic', vt: 'str' }], repeat: '1', crontab: '', once: false, onceDelay: 0.1, topic: 'tick', payload: '', payloadType: 'str'
  }, to('collect')),
  node('function', 'collect', 460, 110, {
    name: 'collect', func: part('collect.js'), outputs: 2, timeout: 0, noerr: 0, initialize: '', finalize: '', libs: []
  }, to('fleet'), to('out')),
  node('ui-template', 'fleet', 620, 110, {
    group: 'auscult-group', page: '', ui: '', name: 'fleet', order: 1, width: '0', height: '0', head: '', format: part('fleet.vue'),
    storeOutMessages: false, passthru: false, resendOnRefresh: false, templateScope: 'local', className: ''
  }, to('command')),
  node('function', 'command', 780, 110, {
    name: 'command', func: part('command.js'), outputs: 2, timeout: 0, noerr: 0, initialize: '', finalize: '', libs: []
  }, to('out'), to('collect')),
  node('mqtt out', 'out', 940, 100, {
    name: 'control', topic: '', qos: '1', retain: 'false', respTopic: '', contentType: '', userProps: '', correl: '', expiry: '', broker: 'auscult-broker'
  })
]

const file = new URL('flows.json', here)
const text = JSON.stringify(flows, null, 2) + '\n'
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error('flows.json is not what src/ makes: run node deploy/node-red/build.mjs')
    process.exit(1)
  }
} else {
  writeFileSync(file, text)
}
