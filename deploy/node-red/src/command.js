// A button of the dashboard becomes a message on the agent's control topic (docs/topics.md).
if (msg.topic === 'hello') return [null, msg]
const { agent, ...command } = msg.payload || {}
if (msg.topic !== 'command' || !agent || !command.command) return
return [{ topic: `${env.get('ROOT')}/${agent}/control`, payload: JSON.stringify(command), qos: 1, retain: false }, null]
