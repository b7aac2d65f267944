//! A simulated machine as a source of sound, as fast as it is read.

use std::time::SystemTime;

use super::{FaultPlan, Kind, RATE_HZ, SynthMachine, fault_of, seed_of};
use crate::audio::config::SourceConfig;
use crate::audio::source::{Format, Read, Source, SourceError};

/// Frames of one read: 0.1 s of the machine's time.
const CHUNK_FRAMES: usize = RATE_HZ as usize / 10;

/// Sound of a simulated machine. It waits for nothing: [`crate::audio::Paced`] gives it a pace.
pub struct SynthSource(SynthMachine);

impl SynthSource {
    /// The source that the configuration describes; the machine's `id` gives the seed where none is set.
    ///
    /// # Errors
    /// `Config` for an unknown machine or fault.
    pub fn new(config: &SourceConfig, id: &str) -> Result<Self, SourceError> {
        let (kind, fault) = parse(config).map_err(|problem| SourceError::Config(problem.into()))?;
        let seed = config.seed.unwrap_or_else(|| seed_of(id));
        Ok(SynthSource(SynthMachine::with_fault(kind, seed, config.take.unwrap_or(0), fault)))
    }
}

/// Checks the names in a synth source.
///
/// # Errors
/// One line that begins with the key and lists the names that are known.
pub fn check(config: &SourceConfig) -> Result<(), String> {
    parse(config).map(|_| ())
}

fn parse(config: &SourceConfig) -> Result<(Kind, FaultPlan), String> {
    let kind: Kind = config.synth.as_deref().unwrap_or_default().parse().map_err(|error| format!("synth: {error}"))?;
    let fault = config.fault.as_deref().map(|name| fault_of(kind, name)).transpose();
    let plan = FaultPlan {
        fault: fault.map_err(|error| format!("fault: {error}"))?,
        strength: config.strength.unwrap_or(FaultPlan::STRENGTH),
        after_s: config.fault_after_s.unwrap_or(0.0),
        grow_s: config.fault_grow_s.unwrap_or(0.0),
    };
    Ok((kind, plan))
}

impl Source for SynthSource {
    fn format(&self) -> Format {
        Format { rate_hz: RATE_HZ, channels: 1 }
    }

    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError> {
        let start = frames.len();
        frames.resize(start + CHUNK_FRAMES, 0.0);
        self.0.fill(&mut frames[start..]);
        Ok(Read::Frames { end: SystemTime::now() })
    }
}
