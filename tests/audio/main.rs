//! Sound: capture from real sound servers, the signal's health, recordings, simulated machines.

#[path = "../common/mod.rs"]
mod common;

mod capture;
mod capture_streams;
mod microphones;
mod record;
mod signal_health;
mod synth;
