//! The small parts that a simulated machine is made of: noise, filters, tones, slow wander, reflections.

use std::f64::consts::TAU;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::RATE_HZ;

/// The simulation's rate as a factor.
pub const RATE: f64 = RATE_HZ as f64;

/// A generator for one purpose: `stream` keeps the purposes of one seed apart.
pub fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// White noise of unit variance, near normal (the sum of four uniform variables, so never beyond 3.5).
#[derive(Debug, Clone)]
pub struct Noise(ChaCha8Rng);

impl Noise {
    pub fn new(seed: u64, stream: u64) -> Self {
        Noise(rng(seed, stream))
    }

    pub fn next(&mut self) -> f64 {
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        const UNIT_VARIANCE: f64 = 1.732_050_807_568_877_2 / 65_536.0;
        (sum as f64 - 2.0 * 65_535.0) * UNIT_VARIANCE
    }

    /// Uniform in `0..1`.
    pub fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }
}

/// Band-pass, second order. Formula: R. Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients".
/// White noise of unit variance comes out with unit variance, whatever the band.
#[derive(Debug, Clone)]
pub struct Band {
    gain: f64,
    a1: f64,
    a2: f64,
    x: [f64; 2],
    y: [f64; 2],
}

impl Band {
    pub fn new(hz: f64, q: f64) -> Self {
        let mut band = Band { gain: 0.0, a1: 0.0, a2: 0.0, x: [0.0; 2], y: [0.0; 2] };
        band.tune(hz, q);
        band
    }

    /// Moves the band; what is ringing goes on.
    pub fn tune(&mut self, hz: f64, q: f64) {
        let w = TAU * hz.clamp(10.0, 0.45 * RATE) / RATE;
        let alpha = w.sin() / (2.0 * q);
        let a0 = 1.0 + alpha;
        // With a gain of 1 at its peak this filter is (1 - allpass) / 2, and lets alpha/a0 of white noise's power through.
        self.gain = (alpha / a0).sqrt();
        self.a1 = -2.0 * w.cos() / a0;
        self.a2 = (1.0 - alpha) / a0;
    }

    /// Gain of a tone in the middle of the band.
    pub fn peak_gain(&self) -> f64 {
        1.0 / self.gain
    }

    pub fn next(&mut self, input: f64) -> f64 {
        let output = self.gain * (input - self.x[1]) - self.a1 * self.y[0] - self.a2 * self.y[1];
        self.x = [input, self.x[0]];
        self.y = [output, self.y[0]];
        output
    }
}

/// A struck body: each impact rings at one frequency and dies away. An impact of 1 starts a ring of amplitude 1.
#[derive(Debug, Clone)]
pub struct Ring {
    feedback: [f64; 2],
    gain: f64,
    y: [f64; 2],
}

impl Ring {
    /// `decay_s`: time until 1/e is left.
    pub fn new(hz: f64, decay_s: f64) -> Self {
        let w = TAU * hz / RATE;
        let r = (-1.0 / (decay_s * RATE)).exp();
        Ring { feedback: [2.0 * r * w.cos(), -r * r], gain: w.sin(), y: [0.0; 2] }
    }

    pub fn next(&mut self, impact: f64) -> f64 {
        let output = self.gain * impact + self.feedback[0] * self.y[0] + self.feedback[1] * self.y[1];
        self.y = [output, self.y[0]];
        output
    }
}

/// Low-pass, first order.
#[derive(Debug, Clone)]
pub struct LowPass {
    keep: f64,
    y: f64,
}

impl LowPass {
    pub fn new(hz: f64) -> Self {
        LowPass { keep: (-TAU * hz / RATE).exp(), y: 0.0 }
    }

    pub fn next(&mut self, input: f64) -> f64 {
        self.y = input + self.keep * (self.y - input);
        self.y
    }

    /// For white noise of unit variance at the input: what makes the output's variance 1 again.
    pub fn noise_gain(&self) -> f64 {
        ((1.0 + self.keep) / (1.0 - self.keep)).sqrt()
    }
}

/// A phase that turns at a speed set from outside, and the tones of its orders.
#[derive(Debug, Clone)]
pub struct Rotor {
    /// Part of the present turn, 0..1.
    pub turn: f64,
    step: f64,
    unit: (f64, f64),
    rotation: (f64, f64),
}

impl Rotor {
    pub fn new(turn: f64) -> Self {
        let (sin, cos) = (TAU * turn).sin_cos();
        Rotor { turn, step: 0.0, unit: (cos, sin), rotation: (1.0, 0.0) }
    }

    /// Sets the speed, turns a second, and takes the rounding out of the phasor.
    pub fn set_speed(&mut self, hz: f64) {
        self.step = hz / RATE;
        let (sin, cos) = (TAU * self.step).sin_cos();
        self.rotation = (cos, sin);
        let (sin, cos) = (TAU * self.turn).sin_cos();
        self.unit = (cos, sin);
    }

    /// One sample on; true where a new turn begins.
    pub fn advance(&mut self) -> bool {
        self.unit = multiply(self.unit, self.rotation);
        self.turn += self.step;
        let wrapped = self.turn >= 1.0;
        if wrapped {
            self.turn -= 1.0;
        }
        wrapped
    }

    /// Sum of the orders 1, 2, 3, ... with these amplitudes.
    pub fn tones(&self, amplitudes: &[f64]) -> f64 {
        let mut unit = self.unit;
        let mut sum = 0.0;
        for amplitude in amplitudes {
            sum += amplitude * unit.1;
            unit = multiply(unit, self.unit);
        }
        sum
    }

    pub fn sin(&self) -> f64 {
        self.unit.1
    }
}

fn multiply(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// Slow random wander about zero (an Ornstein-Uhlenbeck process) of standard deviation 1.
#[derive(Debug, Clone)]
pub struct Wander {
    value: f64,
    keep: f64,
    kick: f64,
}

impl Wander {
    /// `time_s`: how long it remembers; `step_s`: time between two calls of [`Wander::next`].
    pub fn new(time_s: f64, step_s: f64, noise: &mut Noise) -> Self {
        let keep = (-step_s / time_s).exp();
        Wander { value: noise.next(), keep, kick: (1.0 - keep * keep).sqrt() }
    }

    pub fn next(&mut self, noise: &mut Noise) -> f64 {
        self.value = self.keep * self.value + self.kick * noise.next();
        self.value
    }
}

/// First reflections of a room, and one that goes round.
#[derive(Debug, Clone)]
pub struct Room {
    line: Vec<f64>,
    position: usize,
    taps: Vec<(usize, f64)>,
    round: (usize, f64),
    damping: LowPass,
}

impl Room {
    pub fn new(rng: &mut ChaCha8Rng) -> Self {
        let line = vec![0.0; 1024];
        let taps = (0..5)
            .map(|_| {
                let delay_s = rng.random_range(0.002..0.040);
                let sign = if rng.random::<bool>() { 1.0 } else { -1.0 };
                ((delay_s * RATE) as usize, sign * 0.5 * (-delay_s / 0.015_f64).exp())
            })
            .collect();
        let round = ((rng.random_range(0.035..0.060) * RATE) as usize, rng.random_range(0.15..0.35));
        Room { line, position: 0, taps, round, damping: LowPass::new(3000.0) }
    }

    pub fn next(&mut self, input: f64) -> f64 {
        let mask = self.line.len() - 1;
        let at = |line: &[f64], position: usize, delay: usize| line[position.wrapping_sub(delay) & mask];
        let back = self.damping.next(at(&self.line, self.position, self.round.0));
        let dry = input + self.round.1 * back;
        self.line[self.position & mask] = dry;
        let wet: f64 = self.taps.iter().map(|&(delay, gain)| gain * at(&self.line, self.position, delay)).sum();
        self.position = self.position.wrapping_add(1);
        dry + wet
    }
}

/// Colour of a cheap microphone: no lows, a presence peak, falling highs.
#[derive(Debug, Clone)]
pub struct Microphone {
    lows: LowPass,
    peak: Band,
    peak_gain: f64,
    highs: LowPass,
}

impl Microphone {
    pub fn new(rng: &mut ChaCha8Rng) -> Self {
        let peak = Band::new(rng.random_range(2500.0..6500.0), 1.2);
        Microphone {
            lows: LowPass::new(rng.random_range(20.0..50.0)),
            peak_gain: rng.random_range(0.3..0.8) / peak.peak_gain(),
            peak,
            highs: LowPass::new(rng.random_range(4500.0..7500.0)),
        }
    }

    pub fn next(&mut self, input: f64) -> f64 {
        let input = input - self.lows.next(input);
        let coloured = input + self.peak_gain * self.peak.next(input);
        self.highs.next(coloured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variance(samples: impl Iterator<Item = f64>) -> f64 {
        let samples: Vec<_> = samples.collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn noise_and_bands_keep_unit_variance() {
        let mut noise = Noise::new(1, 0);
        let white = variance((0..100_000).map(|_| noise.next()));
        assert!((white - 1.0).abs() < 0.02, "{white}");
        for (hz, q) in [(100.0, 1.0), (1000.0, 4.0), (4000.0, 1.5)] {
            let mut band = Band::new(hz, q);
            let banded = variance((0..200_000).map(|_| band.next(noise.next())));
            assert!((0.9..1.1).contains(&banded), "{hz} Hz: {banded}");
        }
        let mut low = LowPass::new(60.0);
        let gain = low.noise_gain();
        let low = variance((0..400_000).map(|_| gain * low.next(noise.next())));
        assert!((0.8..1.2).contains(&low), "{low}");
    }

    #[test]
    fn a_rotor_turns_at_its_speed_and_makes_its_orders() {
        let mut rotor = Rotor::new(0.0);
        rotor.set_speed(50.0);
        let turns = (0..RATE_HZ).filter(|_| rotor.advance()).count();
        assert!((49..=50).contains(&turns), "{turns}");
        assert!((rotor.sin() - (TAU * rotor.turn).sin()).abs() < 1e-6);
        assert!((rotor.tones(&[0.0, 2.0]) - 2.0 * (2.0 * TAU * rotor.turn).sin()).abs() < 1e-6);
    }
}
