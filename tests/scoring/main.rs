//! From a window to a verdict and an alarm: bundles, encoders, parity with the reference, learning.

#[path = "../common/mod.rs"]
mod common;

mod adaptation;
mod alarm;
mod answers;
mod bench;
mod bundle;
mod bundle_memory;
mod cost;
mod encoder;
mod enroll;
mod hostile_models;
mod learning;
mod modes;
mod mutations;
mod old_baseline;
mod score;
mod steady;
mod train;
