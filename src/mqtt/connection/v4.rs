//! A connection that speaks MQTT 3.1.1.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, LastWill, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use super::error::ConnectionError;
use super::event::{ConnectionEvent, Received};
use super::identity::Identity;
use super::limits::{BrokerLimits, MAX_PACKET_BYTES, NETWORK_TIMEOUT_S, PACKET_IDS};
use super::refusal::Reason;
use crate::mqtt::address::BrokerUrl;

/// The only code of 3.1.1 for what is denied.
const FAILURE: u8 = 0x80;

/// Begins to connect; `requests` may wait at once.
pub fn open(
    url: &BrokerUrl,
    tls: Option<Arc<ClientConfig>>,
    identity: &Identity,
    requests: usize,
    events: mpsc::Sender<ConnectionEvent>,
) -> (AsyncClient, JoinHandle<()>) {
    // A bare IPv6 address serves both its users in rumqttc: the resolver and the name in the certificate.
    let mut options = MqttOptions::new(&identity.client_id, &url.host, url.port);
    options
        .set_clean_session(identity.keep_session.is_none())
        .set_keep_alive(identity.keep_alive)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(MAX_PACKET_BYTES as usize, MAX_PACKET_BYTES as usize);
    if let Some(will) = &identity.will {
        options.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, true));
    }
    if let Some((user, password)) = &identity.login {
        options.set_credentials(user, password.expose());
    }
    if let Some(config) = tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    let (client, mut event_loop) = AsyncClient::new(options, requests);
    let mut network = event_loop.network_options();
    network.set_connection_timeout(NETWORK_TIMEOUT_S).set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    let (keep_alive, largest) = (identity.keep_alive, identity.largest_message);
    let task = tokio::spawn(async move {
        loop {
            let event = match event_loop.poll().await {
                Ok(event) => match translate(event, keep_alive, largest) {
                    Some(event) => event,
                    None => continue,
                },
                Err(error) => ConnectionEvent::Lost(ConnectionError::V4(error)),
            };
            let last = matches!(event, ConnectionEvent::Lost(_));
            if events.send(event).await.is_err() || last {
                return;
            }
        }
    });
    (client, task)
}

pub fn publish(client: &AsyncClient, topic: &str, retain: bool, payload: Vec<u8>) -> bool {
    client.try_publish(topic, QoS::AtLeastOnce, retain, payload).is_ok()
}

pub fn subscribe(client: &AsyncClient, filters: &[String]) -> bool {
    let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
    client.try_subscribe_many(filters).is_ok()
}

fn translate(event: Event, keep_alive: Duration, largest: usize) -> Option<ConnectionEvent> {
    Some(match event {
        Event::Incoming(Packet::ConnAck(_)) => ConnectionEvent::Connected(BrokerLimits::none(keep_alive)),
        Event::Incoming(Packet::PubAck(ack)) => ConnectionEvent::Acknowledged(ack.pkid, None),
        Event::Incoming(Packet::SubAck(ack)) => {
            let refusal = |code: &SubscribeReasonCode| match code {
                SubscribeReasonCode::Success(_) => None,
                SubscribeReasonCode::Failure => Some(Reason::Other(FAILURE).into()),
            };
            ConnectionEvent::Subscribed(ack.return_codes.iter().map(refusal).collect())
        }
        Event::Incoming(Packet::Publish(message)) => {
            ConnectionEvent::Message(Received::new(message.topic, &message.payload, message.retain, largest))
        }
        Event::Incoming(_) => ConnectionEvent::Alive,
        Event::Outgoing(Outgoing::Publish(packet_id)) => ConnectionEvent::Sent(packet_id),
        Event::Outgoing(Outgoing::Disconnect) => ConnectionEvent::Disconnected,
        Event::Outgoing(_) => return None,
    })
}
