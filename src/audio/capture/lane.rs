//! One machine on a stream: its channel, resampled and cut into windows that go into the queue.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::cutter::{Cut, Cutter};
use super::event::{CaptureEvent, Captured};
use super::live::LiveTap;
use super::output::CaptureOutput;
use super::recent::RecentTap;
use crate::audio::config::{Channel, MachineInput, take_channel};
use crate::audio::resample::Resampler;
use crate::audio::source::Format;
use crate::causes::with_causes;
use crate::window::{Reason, Window, level_dbfs};

/// Gaps are reported as events no more often than this; the counts go on.
const GAP_EVENTS: Duration = Duration::from_secs(10);

/// One machine on the stream.
pub(super) struct CaptureLane {
    input: MachineInput,
    channel: Channel,
    output: Arc<CaptureOutput>,
    live: Option<Arc<LiveTap>>,
    recent: Option<Arc<RecentTap>>,
    /// Live sound never waits for room in the queue.
    realtime: bool,
    hop: Duration,
    cutter: Cutter,
    hop_samples: u64,
    /// Where the last window ended, in the cutter's samples.
    last_cut: Option<u64>,
    /// Made anew with each opening and after each gap.
    resampler: Option<Resampler>,
    /// Samples at the source's rate that came or were lost since it was opened: the resampler gives them out later.
    taken: u64,
    mono: Vec<f32>,
    resampled: Vec<f32>,
    /// When the next window is due at the latest; past it, a machine without sound says so.
    due: Instant,
    /// No sound comes, or not yet enough for a window.
    blind: bool,
    /// The open source has what the machine wants.
    fits: bool,
    /// Gaps and seconds lost that no event has reported yet, and when the last event was.
    unreported: (u64, f64),
    reported: Option<Instant>,
}

impl CaptureLane {
    pub fn new(
        input: MachineInput,
        channel: Channel,
        realtime: bool,
        output: Arc<CaptureOutput>,
        now: Instant,
    ) -> Self {
        let hop = Duration::from_secs_f64(input.hop_s);
        let hop_samples = (input.hop_s * f64::from(input.rate_hz)).round().max(1.0);
        CaptureLane {
            channel,
            live: output.live(input.machine),
            recent: output.recent(input.machine),
            output,
            realtime,
            hop,
            cutter: Cutter::new(input.window_samples, hop_samples as usize),
            hop_samples: hop_samples as u64,
            last_cut: None,
            resampler: None,
            taken: 0,
            mono: Vec::new(),
            resampled: Vec::new(),
            due: now + hop,
            blind: false,
            fits: false,
            unreported: (0, 0.0),
            reported: None,
            input,
        }
    }

    /// Number of the machine in the configuration.
    pub fn machine(&self) -> usize {
        self.input.machine
    }

    /// Whether a source that is open in this way has the machine's channel.
    pub fn finds_channel(&self, format: Format) -> bool {
        match self.channel {
            Channel::One(channel) => channel < format.channels,
            Channel::Mix => true,
        }
    }

    /// The source called `name` was opened and its first frames have come, or the machine joins it: windows begin anew.
    ///
    /// # Errors
    /// A channel that the source does not have, a rate that cannot be resampled: the machine stays without sound.
    pub fn begin(&mut self, name: &str, format: Format) -> Result<(), String> {
        self.fits = false;
        if !self.finds_channel(format) {
            let (id, channel, there) = (&self.input.id, self.channel, format.channels);
            return Err(format!("machine {id:?} wants channel {channel}, but {name} has {there} (from 0)"));
        }
        let resampler = Resampler::new(format.rate_hz, self.input.rate_hz).map_err(|error| with_causes(&error))?;
        self.resampler = Some(resampler);
        self.taken = 0;
        self.cutter.restart();
        self.last_cut = None;
        self.fits = true;
        Ok(())
    }

    /// Takes its channel of `frames`, whose last frame was captured at `end`.
    pub fn feed(&mut self, frames: &[f32], format: Format, end: SystemTime) {
        if !self.fits {
            return;
        }
        take_channel(frames, format.channels, self.channel, &mut self.mono);
        let level = level_dbfs(&self.mono);
        self.output.update(self.input.machine, |stats| {
            (stats.last_frame, stats.level_dbfs) = (Some(Instant::now()), Some(level));
        });
        let mut resampled = std::mem::take(&mut self.resampled);
        resampled.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.push(&self.mono, &mut resampled);
        }
        if let Some(live) = &self.live {
            live.leave(&resampled);
        }
        if let Some(recent) = self.recent.as_ref().filter(|_| self.output.keeps_recent()) {
            recent.leave(&resampled, end);
        }
        self.taken += self.mono.len() as u64;
        self.cut(&resampled, format, end);
        self.resampled = resampled;
    }

    /// Sound is missing: what the resampler still holds comes first, then the hole.
    pub fn skip(&mut self, format: Format, frames: u64) {
        if !self.fits {
            return;
        }
        let (mut rest, mut cuts) = (Vec::new(), Vec::new());
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut rest);
        }
        self.resampler = Resampler::new(format.rate_hz, self.input.rate_hz).ok();
        self.cutter.push(&rest, &mut |cut| cuts.push(cut));
        let missing = frames as f64 * f64::from(self.input.rate_hz) / f64::from(format.rate_hz);
        self.cutter.lose((missing.round() as u64).max(1), &mut |cut| cuts.push(cut));
        self.taken += frames;
        self.emit(cuts, format, SystemTime::now());
        self.report_gap(frames as f64 / f64::from(format.rate_hz));
    }

    /// The source has ended: what the resampler still holds comes out.
    pub fn finish(&mut self, format: Format) {
        let mut rest = Vec::new();
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut rest);
        }
        self.cut(&rest, format, SystemTime::now());
    }

    /// The source is lost: from now on the machine's windows are due without sound.
    pub fn lose_sound(&mut self) {
        self.blind = true;
    }

    /// Emits a `no_signal` window for every hop that has passed without sound.
    pub fn emit_overdue(&mut self, now: Instant) {
        while self.blind && self.due <= now {
            let end = SystemTime::now() - (now - self.due);
            self.due += self.hop;
            let (machine, fault) = (self.input.machine, Some(Reason::NoSignal));
            self.output.update(machine, |stats| stats.windows += 1);
            let window = Window { machine, end, samples: Vec::new(), fault, follows: false };
            self.output.queue.push(Captured::Window(window), false);
        }
    }

    /// Counts a gap, and reports it with those before unless the last report was a moment ago.
    fn report_gap(&mut self, lost_s: f64) {
        self.unreported = (self.unreported.0 + 1, self.unreported.1 + lost_s);
        self.output.update(self.input.machine, |stats| {
            stats.gaps += 1;
            stats.lost_s += lost_s;
        });
        if self.reported.is_none_or(|reported| reported.elapsed() > GAP_EVENTS) {
            let (gaps, lost_s) = std::mem::take(&mut self.unreported);
            self.reported = Some(Instant::now());
            self.output.event(self.input.machine, CaptureEvent::Overrun { gaps, lost_s });
        }
    }

    /// Cuts resampled sound, whose last frame was captured at `end`.
    fn cut(&mut self, samples: &[f32], format: Format, end: SystemTime) {
        let mut cuts = Vec::new();
        self.cutter.push(samples, &mut |cut| cuts.push(cut));
        self.emit(cuts, format, end);
    }

    /// Puts the windows into the queue; the last sample that was taken was captured at `end`.
    fn emit(&mut self, cuts: Vec<Cut>, format: Format, end: SystemTime) {
        for Cut { end: position, samples, fault } in cuts {
            let taken_s = self.taken as f64 / f64::from(format.rate_hz);
            let behind_s = taken_s - position as f64 / f64::from(self.input.rate_hz);
            let end = end - Duration::from_secs_f64(behind_s.max(0.0));
            self.due = Instant::now() + self.hop;
            self.blind = false;
            self.output.update(self.input.machine, |stats| stats.windows += 1);
            let follows = self.last_cut.is_some_and(|last| last + self.hop_samples == position);
            self.last_cut = Some(position);
            let window = Window { machine: self.input.machine, end, samples, fault, follows };
            self.output.queue.push(Captured::Window(window), !self.realtime);
        }
    }
}
