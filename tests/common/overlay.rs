//! Faults laid over recordings of healthy machines, to see what is found: the fault models that the original project
//! published, at a strength of 0..1. Pure and deterministic.

use auscult_signal::Real;
use rand::RngExt;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

/// What can be laid over a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// Blades touch: eight bursts of 20 ms above 3 kHz in 10 s, amplitude `0.3 * strength` of full scale.
    Rubbing,
    /// Flow blocked: a band of 300 to 800 Hz somewhere in 500 to 2300 Hz, weakened by the factor `1 - strength`.
    BlockedFlow,
    /// Unbalance: the level swells 4 to 12 times a second, by `0.3 * strength`.
    Unbalance,
    /// Three bursts of white noise of 50 ms, amplitude `0.2 * strength` of full scale.
    NoiseBursts,
}

impl Overlay {
    pub const ALL: [Overlay; 4] = [Overlay::Rubbing, Overlay::BlockedFlow, Overlay::Unbalance, Overlay::NoiseBursts];

    pub fn name(self) -> &'static str {
        match self {
            Overlay::Rubbing => "rubbing",
            Overlay::BlockedFlow => "blocked flow",
            Overlay::Unbalance => "unbalance",
            Overlay::NoiseBursts => "noise bursts",
        }
    }

    /// Lays the fault over `sound`, mono at `rate_hz`.
    pub fn apply(self, sound: &mut [f32], rate_hz: f64, strength: f64, rng: &mut StdRng) {
        let seconds = sound.len() as f64 / rate_hz;
        match self {
            // Eight in a clip of 10 s.
            Overlay::Rubbing => {
                let count = (0.8 * seconds).round() as usize;
                bursts(sound, count, (0.02 * rate_hz) as usize, 0.3 * strength, rng, |burst| {
                    shape(burst, |bin_hz| (1.0 + (3000.0 / bin_hz.max(1.0)).powi(8)).sqrt().recip(), rate_hz);
                });
            }
            Overlay::NoiseBursts => bursts(sound, 3, (0.05 * rate_hz) as usize, 0.2 * strength, rng, |_| ()),
            Overlay::BlockedFlow => {
                let low = rng.random_range(500.0..1500.0);
                let high = low + rng.random_range(300.0..800.0);
                let stop = |hz: f64| {
                    // Butterworth, order 4.
                    let off = (hz * hz - low * high).abs() / (hz * (high - low)).max(1e-9);
                    1.0 / (1.0 + off.max(1e-9).powi(-8)).sqrt()
                };
                shape(sound, |hz| 1.0 - strength + strength * stop(hz), rate_hz);
            }
            Overlay::Unbalance => {
                let turn = std::f64::consts::TAU * rng.random_range(4.0..12.0) / rate_hz;
                for (n, sample) in sound.iter_mut().enumerate() {
                    *sample *= (1.0 + 0.3 * strength * (turn * n as f64).sin()) as f32;
                }
            }
        }
        sound.iter_mut().for_each(|sample| *sample = sample.clamp(-1.0, 1.0));
    }
}

fn bursts(
    sound: &mut [f32],
    count: usize,
    length: usize,
    amplitude: f64,
    rng: &mut StdRng,
    colour: impl Fn(&mut [f32]),
) {
    for _ in 0..count {
        let start = rng.random_range(0..sound.len().saturating_sub(length).max(1));
        let mut burst: Vec<f32> = (0..length).map(|_| StandardNormal.sample(rng)).collect();
        colour(&mut burst);
        for (sample, noise) in sound[start..].iter_mut().zip(burst) {
            *sample += amplitude as f32 * noise;
        }
    }
}

/// Multiplies the spectrum by `gain` of the frequency in Hz.
fn shape(sound: &mut [f32], gain: impl Fn(f64) -> f64, rate_hz: f64) {
    let count = sound.len();
    let (forward, inverse) = (f32::forward(count), f32::inverse(count));
    let (mut input, mut bins) = (sound.to_vec(), forward.make_output_vec());
    forward.process(&mut input, &mut bins).expect("the buffers fit the plan");
    for (number, bin) in bins.iter_mut().enumerate() {
        *bin *= (gain(number as f64 * rate_hz / count as f64) / count as f64) as f32;
    }
    inverse.process(&mut bins, sound).expect("the ends of a filtered spectrum are real");
}
