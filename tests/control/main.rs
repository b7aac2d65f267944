//! Commands: the controller, and agents that are retuned over a real broker.

#[path = "../common/mod.rs"]
mod common;

mod adaptation;
mod agent_process;
mod announce;
mod answer_kills;
mod baseline;
mod bundles;
mod controller;
mod evidence;
mod fleet;
mod install;
mod journal;
mod keeping;
mod machines;
mod modes;
mod provisional;
mod retuning;
mod signed_bundles;
mod slow_disk;
mod state_archives;
mod state_corruption;
mod trend;
mod upgrade;
