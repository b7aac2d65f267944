//! The agent: wires capture, scoring, control and MQTT together; starts, supervises and stops them.

pub mod station;
pub mod vitals;
