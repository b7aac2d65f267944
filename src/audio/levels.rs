//! How loud each channel of a device is, for those who look: measured only while somebody asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::window::level_dbfs;

/// Levels are measured for this long after they were asked for.
const WANTED_FOR: Duration = Duration::from_secs(5);
/// The loudest of so long is shown: who asks once a second misses no tap at the microphone.
const SHOWN: Duration = Duration::from_millis(1200);
/// Blocks that are remembered; one has 0.2 s or less.
const BLOCKS: usize = 64;

/// Where whoever reads a device leaves its levels. Costs one comparison while nobody looks.
#[derive(Debug)]
pub struct ChannelLevels {
    made: Instant,
    /// Milliseconds after `made`.
    wanted_until: AtomicU64,
    blocks: Mutex<VecDeque<(Instant, Vec<f64>)>>,
}

impl Default for ChannelLevels {
    fn default() -> Self {
        ChannelLevels { made: Instant::now(), wanted_until: AtomicU64::new(0), blocks: Mutex::default() }
    }
}

impl ChannelLevels {
    fn age_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether somebody has asked lately.
    pub fn is_wanted(&self) -> bool {
        self.wanted_until.load(Ordering::Relaxed) > self.age_ms()
    }

    /// Measures interleaved `frames`, for those who look.
    pub fn leave(&self, frames: &[f32], channels: usize) {
        if channels == 0 || !self.is_wanted() {
            return;
        }
        let mut mono = Vec::with_capacity(frames.len() / channels);
        let levels = (0..channels).map(|channel| {
            mono.clear();
            mono.extend(frames.iter().skip(channel).step_by(channels));
            level_dbfs(&mono)
        });
        let block = (Instant::now(), levels.collect());
        let mut blocks = self.blocks.lock();
        blocks.truncate(BLOCKS - 1);
        blocks.push_front(block);
    }

    /// The loudest of each channel within about a second, and that it is wanted; empty before the first sound.
    pub fn take(&self) -> Vec<f64> {
        let wanted = u64::try_from(WANTED_FOR.as_millis()).unwrap_or(u64::MAX);
        self.wanted_until.store(self.age_ms().saturating_add(wanted), Ordering::Relaxed);
        let mut blocks = self.blocks.lock();
        blocks.retain(|(at, _)| at.elapsed() < SHOWN);
        let mut loudest: Vec<f64> = blocks.front().map_or_else(Vec::new, |(_, levels)| levels.clone());
        for (_, levels) in blocks.iter().skip(1) {
            for (most, level) in loudest.iter_mut().zip(levels) {
                *most = most.max(*level);
            }
        }
        loudest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_block_of_each_channel_is_shown_once_somebody_asks() {
        let levels = ChannelLevels::default();
        levels.leave(&[1.0, 0.1], 2);
        assert_eq!(levels.take(), Vec::<f64>::new(), "nobody had asked");
        levels.leave(&[1.0, 0.1, -1.0, 0.1], 2);
        levels.leave(&[0.1, 0.1], 2);
        let shown: Vec<_> = levels.take().iter().map(|level| level.round()).collect();
        assert_eq!(shown, [0.0, -20.0]);
    }
}
