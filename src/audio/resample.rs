//! Resampling to the bundle's rate, the same for files and for live sound.
//!
//! The encoder looks at everything up to half its rate, so the filter must be flat nearly up to there: one that rolls
//! off at 7.3 kHz of 8 moves embeddings by several thresholds. `rubato`'s FFT resampler holds that with blocks long
//! enough: a windowed sinc of one block, applied by overlap-add in the frequency domain, where it also costs little.

use auscult_signal::BlockResampler;

use super::source::{SourceError, SourceProblem};
use crate::window::RATES_HZ;

/// Least length of the filter, in samples of the lower of the two rates: its transition ends at half that rate and
/// begins about `2 * 8 / 1536` (Blackman-Harris) of it below.
const FILTER_SAMPLES: usize = 1536;

/// Streams mono samples from one rate to another. Output sample `n` belongs to the time `n / to_hz` of the input:
/// the filter's delay is taken out.
///
/// A sample that is not finite makes the block around it and the next not finite, and nothing beyond.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` where the rates are equal.
    filter: Option<Filter>,
}

struct Filter {
    blocks: BlockResampler,
    /// Input that does not make up a block yet; never longer than one.
    pending: Vec<f32>,
    block_out: Vec<f32>,
    /// Samples taken in and given out so far.
    taken: u64,
    given: u64,
    /// Output samples still to be dropped: the filter's delay.
    to_drop: usize,
    /// Blocks to come that a broken sample reaches into.
    broken: usize,
}

/// Samples as large count as not finite: their transform could overflow, which `rubato` answers with a panic.
const LARGEST_SAMPLE: f32 = 1e18;

impl Resampler {
    /// # Errors
    /// `Config` for rates outside 8..192 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, SourceError> {
        for rate_hz in [from_hz, to_hz] {
            if !RATES_HZ.contains(&rate_hz) {
                let (least, most) = (RATES_HZ.start(), RATES_HZ.end());
                let problem = format!("expected a rate of {least} to {most} Hz, found {rate_hz} Hz");
                return Err(SourceError::Config(problem.into()));
            }
        }
        let filter = if from_hz == to_hz { None } else { Some(Filter::new(from_hz, to_hz)?) };
        Ok(Resampler { from_hz, to_hz, filter })
    }

    /// Takes `input` in and appends to `output` what is ready.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        match &mut self.filter {
            Some(filter) => filter.push(input, output),
            None => output.extend_from_slice(input),
        }
    }

    /// The input has ended: appends the rest, so that `ceil(samples in * to / from)` have come out in all. Then it is
    /// ready for another stream.
    pub fn finish(&mut self, output: &mut Vec<f32>) {
        let Some(filter) = &mut self.filter else { return };
        let total = (filter.taken * u64::from(self.to_hz)).div_ceil(u64::from(self.from_hz));
        let silence = vec![0.0; filter.blocks.block_in()];
        while filter.given < total {
            let before = output.len();
            filter.push(&silence, output);
            let beyond = filter.given.saturating_sub(total) as usize;
            output.truncate(output.len().saturating_sub(beyond).max(before));
        }
        filter.reset();
    }
}

impl Filter {
    fn new(from_hz: u32, to_hz: u32) -> Result<Self, SourceError> {
        let common = gcd(from_hz, to_hz);
        let (step_in, step_out) = ((from_hz / common) as usize, (to_hz / common) as usize);
        // Even, so that the filter's centre falls on an output sample and the delay is a whole number.
        let steps = FILTER_SAMPLES.div_ceil(step_in.min(step_out)).next_multiple_of(2);
        let blocks = BlockResampler::new(from_hz, to_hz, steps * step_in).map_err(|error| {
            SourceError::Config(SourceProblem::of(format!("cannot resample {from_hz} to {to_hz} Hz"), error))
        })?;
        Ok(Filter {
            pending: Vec::with_capacity(blocks.block_in()),
            block_out: vec![0.0; blocks.block_out()],
            taken: 0,
            given: 0,
            to_drop: blocks.delay(),
            broken: 0,
            blocks,
        })
    }

    fn push(&mut self, mut input: &[f32], output: &mut Vec<f32>) {
        self.taken += input.len() as u64;
        let block_in = self.blocks.block_in();
        while self.pending.len() + input.len() >= block_in {
            let (now, later) = input.split_at(block_in - self.pending.len());
            input = later;
            self.pending.extend_from_slice(now);
            // Written so that NaN is broken too. What a block holds comes out with it and with the next.
            if !self.pending.iter().all(|sample| sample.abs() < LARGEST_SAMPLE) {
                self.pending.fill(0.0);
                self.broken = 2;
            }
            let block_out = self.block_out.len();
            self.blocks.process(&self.pending, &mut self.block_out);
            self.pending.clear();
            if self.broken > 0 {
                self.block_out.fill(f32::NAN);
                self.broken -= 1;
            }
            let dropped = self.to_drop.min(block_out);
            self.to_drop -= dropped;
            output.extend_from_slice(&self.block_out[dropped..]);
            self.given += (block_out - dropped) as u64;
        }
        self.pending.extend_from_slice(input);
    }

    fn reset(&mut self) {
        self.blocks.reset();
        self.pending.clear();
        (self.taken, self.given, self.broken) = (0, 0, 0);
        self.to_drop = self.blocks.delay();
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resample(from_hz: u32, to_hz: u32, input: &[f32], piece: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from_hz, to_hz).unwrap();
        let mut output = Vec::new();
        for piece in input.chunks(piece) {
            resampler.push(piece, &mut output);
        }
        resampler.finish(&mut output);
        output
    }

    fn tone(hz: f64, rate_hz: u32, samples: usize) -> Vec<f32> {
        let turn = std::f64::consts::TAU * hz / f64::from(rate_hz);
        (0..samples).map(|n| (turn * n as f64).cos() as f32).collect()
    }

    /// Every pair of a usual or an odd rate with the bundle's.
    const FROM_HZ: [u32; 10] = [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000];

    #[test]
    fn tones_keep_their_time_and_level() {
        for from_hz in FROM_HZ.into_iter().chain([16_000, 15_999, 37_800]) {
            for to_hz in [16_000, 22_050] {
                let half_hz = f64::from(from_hz.min(to_hz)) / 2.0;
                for hz in [100.0, 1000.0, 0.5 * half_hz, 0.98 * half_hz] {
                    let input = tone(hz, from_hz, from_hz as usize);
                    let output = resample(from_hz, to_hz, &input, 977);
                    let expected = tone(hz, to_hz, to_hz as usize);
                    assert_eq!(output.len(), expected.len(), "{from_hz} to {to_hz}");
                    // Away from the ends, where the tone sets in at once and is no tone.
                    let inner = to_hz as usize / 4..to_hz as usize * 3 / 4;
                    let pairs = output[inner.clone()].iter().zip(&expected[inner]);
                    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < 2e-3, "{hz} Hz from {from_hz} to {to_hz}: {worst}");
                }
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for from_hz in [22_050, 32_000, 44_100, 48_000, 96_000, 192_000] {
            for hz in [8_010.0, 8_500.0, 10_500.0] {
                let output = resample(from_hz, 16_000, &tone(hz, from_hz, from_hz as usize), 4096);
                let worst = output[4000..12_000].iter().fold(0.0f32, |worst, v| worst.max(v.abs()));
                assert!(worst < 1e-4, "{hz} Hz from {from_hz}: {worst}");
            }
        }
    }

    #[test]
    fn the_way_it_is_cut_up_does_not_matter() {
        let input = tone(440.0, 44_100, 50_000);
        let whole = resample(44_100, 16_000, &input, input.len());
        for piece in [1, 480, 4799] {
            assert_eq!(resample(44_100, 16_000, &input, piece), whole);
        }
    }

    #[test]
    fn lengths_are_exact_and_streams_follow_each_other() {
        for from_hz in FROM_HZ {
            let mut resampler = Resampler::new(from_hz, 16_000).unwrap();
            for samples in [0, 1, 100, 5001, 80_000] {
                let mut output = Vec::new();
                resampler.push(&vec![0.5; samples], &mut output);
                resampler.finish(&mut output);
                let expected = (samples as u64 * 16_000).div_ceil(u64::from(from_hz)) as usize;
                assert_eq!(output.len(), expected, "{samples} samples at {from_hz} Hz");
            }
        }
    }

    #[test]
    fn a_broken_sample_breaks_its_surroundings_only() {
        for broken in [f32::NAN, f32::INFINITY, -1e30] {
            let mut input = tone(440.0, 48_000, 96_000);
            input[48_000] = broken;
            let output = resample(48_000, 16_000, &input, 480);
            assert!(output[16_000].is_nan());
            let count = output.iter().filter(|value| !value.is_finite()).count();
            assert!(count <= 2 * FILTER_SAMPLES, "{count} for {broken}");
        }
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for (from_hz, to_hz) in [(0, 16_000), (7_999, 16_000), (192_001, 16_000), (u32::MAX, 16_000), (48_000, 1)] {
            assert!(matches!(Resampler::new(from_hz, to_hz), Err(SourceError::Config(_))));
        }
    }
}
