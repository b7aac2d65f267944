//! Simulated machines to listen to, to train on and to test with: a fan, a blower, a pump, each drawn from a seed, healthy
//! or with a fault that grows. Pure and deterministic: the same seed and take give the same samples.
//!
//! A machine is a shaft with its orders, blades that pass, flow noise through resonances, a bearing's faint tones and
//! the motor's hum, all with slow wander and changes of load; then a room, a background, a microphone.

mod design;
mod faults;
mod machine;
mod parts;
mod source;

use std::str::FromStr;

use sha2::{Digest, Sha256};

pub use design::{Design, FlowBand};
pub use machine::SynthMachine;
pub use source::{SynthSource, check};

/// Rate of all simulated sound, Hz.
pub const RATE_HZ: u32 = 16_000;

/// Samples from one step of what changes slowly to the next.
const CONTROL_SAMPLES: u64 = 64;
const CONTROL_S: f64 = CONTROL_SAMPLES as f64 / RATE_HZ as f64;

/// Kinds of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Kind {
    /// Axial, slow: 960 to 1740 turns a minute, 5 to 9 blades.
    Fan,
    /// Centrifugal, fast: 2640 to 3540 turns a minute, 8 to 12 blades.
    Blower,
    /// Centrifugal, at 1450 or 2900 turns a minute, 5 to 7 vanes.
    Pump,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Fan, Kind::Blower, Kind::Pump];

    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The faults that such a machine can have.
    pub fn faults(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self == Kind::Pump || *fault != Fault::Cavitation)
    }
}

/// Faults of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Fault {
    /// The wheel touches its housing: scraping on a part of each turn.
    Rub,
    /// Inlet or outlet blocked: less flow noise, rumble that surges, louder blade pass, a little faster.
    Blocked,
    /// A mass off centre: the turn's own tone, everything swells once a turn.
    Unbalance,
    /// Outer race of the bearing damaged: impacts at its ball-pass rate.
    Bearing,
    /// Vapour bubbles collapsing: crackle and hiss in clouds. Pumps only.
    Cavitation,
    /// A loose cover: knocks about every second turn.
    Loose,
    /// Bursts of noise a few times in five seconds: a valve or leak that spits.
    Bursts,
}

impl Fault {
    pub const ALL: [Fault; 7] =
        [Fault::Rub, Fault::Blocked, Fault::Unbalance, Fault::Bearing, Fault::Cavitation, Fault::Loose, Fault::Bursts];

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// An unknown name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {known}, found {found:?}")]
pub struct UnknownName {
    known: String,
    found: String,
}

fn by_name<T: Copy>(
    known: impl Iterator<Item = T> + Clone,
    name: fn(T) -> &'static str,
    found: &str,
) -> Result<T, UnknownName> {
    known.clone().find(|&candidate| name(candidate) == found).ok_or_else(|| {
        let known: Vec<_> = known.map(name).collect();
        UnknownName { known: known.join(", "), found: found.to_owned() }
    })
}

impl FromStr for Kind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        by_name(Kind::ALL.into_iter(), Kind::name, text)
    }
}

impl FromStr for Fault {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        by_name(Fault::ALL.into_iter(), Fault::name, text)
    }
}

/// A fault of `kind` by its name.
///
/// # Errors
/// Names the faults that such a machine can have.
pub fn fault_of(kind: Kind, name: &str) -> Result<Fault, UnknownName> {
    let known: Vec<Fault> = kind.faults().collect();
    by_name(known.into_iter(), Fault::name, name)
}

/// Which fault, how strong, from when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultPlan {
    /// `None`: the machine stays healthy.
    pub fault: Option<Fault>,
    /// 0 (nothing) to 1 (about to break).
    pub strength: f64,
    /// Seconds until it begins.
    pub after_s: f64,
    /// Seconds from then until its full strength.
    pub grow_s: f64,
}

impl Default for FaultPlan {
    fn default() -> Self {
        FaultPlan { fault: None, strength: FaultPlan::STRENGTH, after_s: 0.0, grow_s: 0.0 }
    }
}

impl FaultPlan {
    /// Strength where none is given: clearly audible.
    pub const STRENGTH: f64 = 0.6;

    /// This fault from the start.
    pub fn now(fault: Fault, strength: f64) -> Self {
        FaultPlan { fault: Some(fault), strength, ..FaultPlan::default() }
    }
}

/// Runs for a while, stands for a while, and so on; it begins running.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    pub run_s: f64,
    pub stop_s: f64,
}

impl Cycle {
    fn is_running(self, time_s: f64) -> bool {
        time_s.rem_euclid((self.run_s + self.stop_s).max(CONTROL_S)) < self.run_s
    }
}

/// The seed that belongs to a machine's id: the same id is the same machine everywhere.
pub fn seed_of(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}
