//! The outbox, the client and the whole agent against a real mosquitto, and what listens behind it.

#[path = "../common/mod.rs"]
mod common;

mod agent_process;
mod bridge;
mod client;
mod client_process;
mod clusters;
mod faults;
mod grafana;
mod home_assistant;
mod node_red;
mod plant;
mod postgres;
mod rig;
mod rights;
mod scripted;
mod security;
mod versions;
mod whole_agent;
