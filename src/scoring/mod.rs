//! From a window to its verdict: gate, spectrogram, embedding, distance, threshold; from verdicts to an alarm.
//! Pure: no I/O, no clock.

pub mod adaptation;
pub mod alarm;
mod bank;
pub mod baseline;
pub mod gate;
pub mod lanes;
pub mod likeness;
mod pool;
mod recent;
mod scorer;
pub mod stats;
pub mod tail;
pub mod threshold;
mod usual;
mod verdict;
mod why;

pub use crate::window::Reason;
pub use bank::Bank;
pub use baseline::Baseline;
pub use lanes::Lane;
pub use pool::{Done, PoolError, ScorerPool};
pub use recent::Recent;
pub use scorer::{Heard, MachineModel, Scorer};
pub use usual::UsualSpectrum;
pub use verdict::{Adapted, Assessment, Judge, Scored, Verdict, judge};
pub use why::{BandDifference, LevelInMode, Why};
