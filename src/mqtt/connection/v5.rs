//! A connection that speaks MQTT 5.
//!
//! What is known of rumqttc 0.25.1's half for MQTT 5, and what keeps it from doing harm here: it forgets or repeats messages
//! across reconnects (each attempt makes a new event loop, and the outbox repeats); it cannot read reason codes that the protocol
//! does not have at that place, and ends the connection (`ConnectionError::refuses_a_message`); a packet that is too large ends
//! the connection (`BrokerLimits::exceeded`); a DISCONNECT without the optional length of its properties, as mosquitto 2.0 sends it,
//! is passed over, so that its reason is not known and the connection just ends; events that it has not handed out are lost with the connection (drained below); it
//! takes no keep-alive below 5 s, and of a broker that wants none it makes pings without a pause (set below).

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, Filter, LastWill, LastWillProperties, Packet, PubAckReason, PublishProperties,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use super::error::ConnectionError;
use super::event::{ConnectionEvent, Received};
use super::identity::Identity;
use super::limits::{BrokerLimits, MAX_PACKET_BYTES, NETWORK_TIMEOUT_S, PACKET_IDS};
use super::refusal::{Reason, Refusal, printable};
use crate::mqtt::address::BrokerUrl;
use crate::mqtt::topics::AgentTopics;

/// rumqttc takes no shorter one.
const LEAST_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Of everything that has a payload.
const CONTENT_TYPE: &str = "application/json";
/// The protocol's word for a session that never ends; a longer time than the seconds of 32 bits is none.
const NEVER: u32 = u32::MAX;

/// Begins to connect; `requests` may wait at once.
pub fn open(
    url: &BrokerUrl,
    tls: Option<Arc<ClientConfig>>,
    identity: &Identity,
    requests: usize,
    events: mpsc::Sender<ConnectionEvent>,
) -> (AsyncClient, JoinHandle<()>) {
    let mut options = MqttOptions::new(&identity.client_id, &url.host, url.port);
    let session = identity.keep_session.map_or(0, seconds);
    options
        .set_clean_start(identity.keep_session.is_none())
        .set_keep_alive(identity.keep_alive.max(LEAST_KEEP_ALIVE))
        .set_outgoing_inflight_upper_limit(PACKET_IDS)
        .set_connection_timeout(NETWORK_TIMEOUT_S)
        .set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(session),
            max_packet_size: Some(MAX_PACKET_BYTES),
            ..ConnectProperties::new()
        });
    if let Some(will) = &identity.will {
        let properties = LastWillProperties {
            delay_interval: Some(seconds(will.delay)),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some(CONTENT_TYPE.into()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let payload = will.payload.clone();
        options.set_last_will(LastWill::new(&will.topic, payload, QoS::AtLeastOnce, true, Some(properties)));
    }
    if let Some((user, password)) = &identity.login {
        options.set_credentials(user, password.expose());
    }
    if let Some(config) = tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    let mut network = options.network_options();
    network.set_connection_timeout(NETWORK_TIMEOUT_S).set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut event_loop) = AsyncClient::new(options, requests);
    let (keep_alive, largest) = (identity.keep_alive.max(LEAST_KEEP_ALIVE), identity.largest_message);
    let task = tokio::spawn(async move {
        loop {
            let polled = event_loop.poll().await;
            if event_loop.options.keep_alive().is_zero() {
                event_loop.options.set_keep_alive(keep_alive);
            }
            let (event, rest, error) = match polled {
                Ok(event) => (Some(event), Vec::new(), None),
                // The acknowledgement that came just before the end still counts.
                Err(error) => (None, event_loop.state.events.drain(..).collect(), Some(error)),
            };
            for event in event.into_iter().chain(rest) {
                if uses_alias(&event) {
                    let _ = events.send(ConnectionEvent::Lost(ConnectionError::TopicAlias)).await;
                    return;
                }
                if let Some(event) = translate(event, keep_alive, largest)
                    && events.send(event).await.is_err()
                {
                    return;
                }
            }
            if let Some(error) = error {
                let lost = ConnectionEvent::Lost(ConnectionError::V5(Box::new(error)));
                // Nobody may be listening any more.
                let _ = events.send(lost).await;
                return;
            }
        }
    });
    (client, task)
}

/// Whether a broker names a topic by a number, which it was not allowed: rumqttc would keep each for as long as the connection.
fn uses_alias(event: &Event) -> bool {
    let Event::Incoming(Packet::Publish(message)) = event else { return false };
    message.properties.as_ref().is_some_and(|properties| properties.topic_alias.is_some())
}

/// `expiry`: after this time the broker need not deliver it any more.
pub fn publish(client: &AsyncClient, topic: &str, retain: bool, payload: Vec<u8>, expiry: Option<Duration>) -> bool {
    let properties = PublishProperties {
        // What only removes a retained message has none.
        content_type: (!payload.is_empty()).then(|| content_type(&payload).into()),
        message_expiry_interval: expiry.map(|expiry| seconds(expiry).clamp(1, NEVER - 1)),
        ..PublishProperties::default()
    };
    client.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties).is_ok()
}

/// All but the pictures of alarms are JSON objects.
fn content_type(payload: &[u8]) -> &'static str {
    if payload.starts_with(b"{") { CONTENT_TYPE } else { "image/png" }
}

pub fn subscribe(client: &AsyncClient, filters: &[String]) -> bool {
    let filter = |filter: &String| Filter {
        // Else a retained command would come as any other, where it is published while the agent is connected.
        preserve_retain: AgentTopics::is_of_commands(filter),
        ..Filter::new(filter.clone(), QoS::AtLeastOnce)
    };
    client.try_subscribe_many(filters.iter().map(filter)).is_ok()
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(NEVER)
}

fn translate(event: Event, keep_alive: Duration, largest: usize) -> Option<ConnectionEvent> {
    Some(match event {
        Event::Incoming(Packet::ConnAck(ack)) => ConnectionEvent::Connected(limits(&ack, keep_alive)),
        Event::Incoming(Packet::PubAck(ack)) => {
            let words = ack.properties.and_then(|properties| properties.reason_string).as_deref().map(printable);
            let refusal = of_publish(ack.reason).map(|reason| Refusal { reason, words });
            ConnectionEvent::Acknowledged(ack.pkid, refusal)
        }
        Event::Incoming(Packet::SubAck(ack)) => {
            let words = ack.properties.and_then(|properties| properties.reason_string).as_deref().map(printable);
            let refusal = |code: &SubscribeReasonCode| {
                of_subscription(*code).map(|reason| Refusal { reason, words: words.clone() })
            };
            ConnectionEvent::Subscribed(ack.return_codes.iter().map(refusal).collect())
        }
        Event::Incoming(Packet::Publish(message)) => match String::from_utf8(message.topic.to_vec()) {
            Ok(topic) => ConnectionEvent::Message(Received::new(topic, &message.payload, message.retain, largest)),
            Err(_) => ConnectionEvent::Alive,
        },
        Event::Incoming(_) => ConnectionEvent::Alive,
        Event::Outgoing(Outgoing::Publish(packet_id)) => ConnectionEvent::Sent(packet_id),
        Event::Outgoing(Outgoing::Disconnect) => ConnectionEvent::Disconnected,
        Event::Outgoing(_) => return None,
    })
}

fn limits(ack: &ConnAck, keep_alive: Duration) -> BrokerLimits {
    let Some(said) = &ack.properties else { return BrokerLimits::none(keep_alive) };
    let asked = said.server_keep_alive.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
    BrokerLimits {
        keep_alive: asked.unwrap_or(keep_alive),
        in_flight: said.receive_max.map(usize::from).filter(|most| *most > 0),
        packet_bytes: said.max_packet_size.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0),
        session: said.session_expiry_interval.filter(|s| *s != NEVER).map(|s| Duration::from_secs(s.into())),
    }
}

fn of_publish(reason: PubAckReason) -> Option<Reason> {
    Some(match reason {
        // That nobody listens is no fault.
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return None,
        PubAckReason::NotAuthorized => Reason::NotAuthorized,
        PubAckReason::QuotaExceeded => Reason::QuotaExceeded,
        PubAckReason::TopicNameInvalid => Reason::TopicInvalid,
        PubAckReason::PayloadFormatInvalid => Reason::PayloadInvalid,
        PubAckReason::UnspecifiedError => Reason::Other(0x80),
        PubAckReason::ImplementationSpecificError => Reason::Other(0x83),
        PubAckReason::PacketIdentifierInUse => Reason::Other(0x91),
    })
}

fn of_subscription(code: SubscribeReasonCode) -> Option<Reason> {
    Some(match code {
        SubscribeReasonCode::Success(_) => return None,
        SubscribeReasonCode::NotAuthorized => Reason::NotAuthorized,
        SubscribeReasonCode::QuotaExceeded => Reason::QuotaExceeded,
        SubscribeReasonCode::TopicFilterInvalid => Reason::TopicInvalid,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => Reason::Other(0x80),
        SubscribeReasonCode::ImplementationSpecific => Reason::Other(0x83),
        SubscribeReasonCode::PkidInUse => Reason::Other(0x91),
        SubscribeReasonCode::SharedSubscriptionsNotSupported => Reason::Other(0x9e),
        SubscribeReasonCode::SubscriptionIdNotSupported => Reason::Other(0xa1),
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => Reason::Other(0xa2),
    })
}
