//! MQTT: topics and payloads as types, the outbox on disk, the client.

pub mod payload;
pub mod topics;
