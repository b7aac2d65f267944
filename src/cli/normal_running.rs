//! Recordings of normal running as what a baseline is learned from: what `enroll` and `replay --evaluate` have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Failure;
use super::sound::FileQueue;
use crate::config::Channel;
use crate::scoring::baseline::Sample;
use crate::scoring::{Done, MachineModel, ScorerPool};

/// With fewer windows side by side than this, one more is taken between each two ...
const HALVED_BELOW: usize = 60;
/// ... and with fewer than this, four more: every second with windows of 5 s.
const FIFTHS_BELOW: usize = 40;
/// Between the recordings of one block, s: more than any window is a neighbour in time.
const APART_S: f64 = 600.0;

/// Where a window stands: the block and the seconds at which it ended, and the recording it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    block: u32,
    at_s: f64,
    recording: usize,
}

/// What the recordings hold.
#[derive(Default)]
pub(super) struct NormalRunning {
    pub samples: Vec<Sample>,
    /// Windows that cannot be assessed, by reason.
    pub left_out: BTreeMap<String, u64>,
    pub recordings: u32,
    /// From window to window, s.
    pub hop_s: f64,
    /// The sound of each recording with where its first window ended, as long as it is little.
    sound: Vec<(Place, Vec<f32>)>,
    windows: usize,
}

impl NormalRunning {
    /// All windows of all files, through the encoder; where there are few, they overlap. `block` says which block a
    /// file belongs to: what is learned is judged by leaving out whole blocks. `None`: each file is one.
    ///
    /// # Errors
    /// Where scoring threads end, or a front-end cannot be computed with.
    pub fn hear(
        files: &mut FileQueue,
        block: impl Fn(&std::path::Path) -> Option<u32>,
        channel: Channel,
        model: &Arc<MachineModel>,
        pool: &mut ScorerPool<Place>,
    ) -> Result<NormalRunning, Failure> {
        let window_s = model.front_end.window_s;
        let mut heard = NormalRunning { hop_s: window_s, ..NormalRunning::default() };
        let mut ends: BTreeMap<u32, f64> = BTreeMap::new();
        while let Some(file) = files.next() {
            let Some(mut windows) = files.open(&file, channel, &model.front_end) else { continue };
            let block = block(&file).unwrap_or(heard.recordings);
            let end_s = ends.entry(block).or_insert(-APART_S);
            *end_s += APART_S;
            while let Some(window) = files.next_window(&mut windows) {
                *end_s += window_s;
                let place = Place { block, at_s: *end_s, recording: heard.recordings as usize };
                if let Some(done) = pool.push(place, model, window)? {
                    heard.take(done)?;
                }
            }
            heard.recordings += 1;
        }
        while let Some(done) = pool.oldest()? {
            heard.take(done)?;
        }
        heard.take_between(model, pool)?;
        Ok(heard)
    }

    /// The windows between those that stand side by side, where there are few.
    fn take_between(&mut self, model: &Arc<MachineModel>, pool: &mut ScorerPool<Place>) -> Result<(), Failure> {
        let parts = match self.windows {
            0..FIFTHS_BELOW => 5,
            FIFTHS_BELOW..HALVED_BELOW => 2,
            _ => return Ok(()),
        };
        let length = model.front_end.window_samples();
        self.hop_s = model.front_end.window_s / f64::from(parts);
        for (first, sound) in std::mem::take(&mut self.sound) {
            for number in 1u32.. {
                let start = (number as usize * length) / parts as usize;
                let Some(window) = sound.get(start..start + length) else { break };
                if number.is_multiple_of(parts) {
                    continue;
                }
                let place = Place { at_s: first.at_s + f64::from(number) * self.hop_s, ..first };
                if let Some(done) = pool.push(place, model, window.to_vec())? {
                    self.take(done)?;
                }
            }
        }
        while let Some(done) = pool.oldest()? {
            self.take(done)?;
        }
        self.sound = Vec::new();
        Ok(())
    }

    fn take(&mut self, done: Done<Place>) -> Result<(), Failure> {
        let (place, scored) = (done.tag, done.scored?);
        self.windows += 1;
        if self.windows < HALVED_BELOW {
            match self.sound.last_mut().filter(|(first, _)| first.recording == place.recording) {
                Some((_, sound)) => sound.extend(done.window),
                None => self.sound.push((place, done.window)),
            }
        } else {
            self.sound = Vec::new();
        }
        let level_dbfs = scored.assessment.level_dbfs;
        match (scored.embedding, scored.features) {
            (Some(embedding), Some(features)) => {
                let Place { block, at_s, .. } = place;
                self.samples.push(Sample::new(block, at_s, level_dbfs, embedding, features));
            }
            _ => {
                let reason = scored.assessment.reason.map_or("not_assessed".into(), |reason| reason.to_string());
                *self.left_out.entry(reason).or_default() += 1;
            }
        }
        Ok(())
    }
}
