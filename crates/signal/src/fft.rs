//! The Fourier transforms of real samples, in `f32` and `f64`, by realfft on rustfft.

use std::sync::Arc;

pub use realfft::num_complex::{Complex, Complex32};
pub use realfft::{ComplexToReal, RealToComplex};
use realfft::{FftNum, RealFftPlanner};
use rustfft::{Fft, FftPlanner};

/// A number that samples are transformed in.
pub trait Real: FftNum {
    const ZERO: Self;
    const HALF: Self;
    /// Of `length` samples into `length / 2 + 1` bins.
    fn forward(length: usize) -> Arc<dyn RealToComplex<Self>> {
        RealFftPlanner::new().plan_fft_forward(length)
    }
    /// Of `length / 2 + 1` bins into `length` samples, `length` times what [`Real::forward`] was given.
    fn inverse(length: usize) -> Arc<dyn ComplexToReal<Self>> {
        RealFftPlanner::new().plan_fft_inverse(length)
    }
    /// Of `length` complex samples.
    fn complex(length: usize) -> Arc<dyn Fft<Self>> {
        FftPlanner::new().plan_fft_forward(length)
    }
    /// The nearest one.
    fn of(value: f64) -> Self;
    fn of_sample(sample: f32) -> Self;
    fn to_sample(self) -> f32;
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const HALF: f32 = 0.5;
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn of_sample(sample: f32) -> f32 {
        sample
    }
    #[inline(always)]
    fn to_sample(self) -> f32 {
        self
    }
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const HALF: f64 = 0.5;
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn of_sample(sample: f32) -> f64 {
        f64::from(sample)
    }
    #[inline(always)]
    fn to_sample(self) -> f32 {
        self as f32
    }
}

/// Hann's window, periodic: one period of it is `length` long.
pub fn hann<T: Real>(length: usize) -> Vec<T> {
    let turn = std::f64::consts::TAU / length as f64;
    (0..length).map(|n| T::of(0.5 - 0.5 * (turn * n as f64).cos())).collect()
}

/// The power spectra of real frames under [`hann`]'s window, two at a time: one complex transform takes both, one as its real
/// and one as its imaginary part. That is cheaper than transforming each by itself, and where only the power is wanted they
/// are soon told apart. What rounding leaves of one frame in the other is some 140 dB below it in `f32`.
///
/// Keeps its plan and buffers between calls; a clone shares the plan.
#[derive(Clone)]
pub struct PairedPower<T> {
    fft: Arc<dyn Fft<T>>,
    taper: Vec<T>,
    frames: Vec<Complex<T>>,
    scratch: Vec<Complex<T>>,
}

impl<T: Real> PairedPower<T> {
    /// For frames of `length` samples.
    pub fn new(length: usize) -> PairedPower<T> {
        let fft = T::complex(length);
        let zeros = |count| vec![Complex::new(T::ZERO, T::ZERO); count];
        let scratch = zeros(fft.get_inplace_scratch_len());
        PairedPower { taper: hann(length), frames: zeros(length), scratch, fft }
    }

    /// Fills `powers`, `[length / 2 + 1]` each, with those of two frames of `length` samples.
    ///
    /// # Panics
    /// Where a slice is shorter.
    #[allow(clippy::needless_range_loop, reason = "what iterators are given may be compiled apart, and slower")]
    pub fn powers(&mut self, frames: [&[f32]; 2], powers: [&mut [f32]; 2]) {
        let length = self.frames.len();
        let bins = length / 2 + 1;
        let [first, second] = frames.map(|frame| &frame[..length]);
        let taper = &self.taper[..length];
        for n in 0..length {
            self.frames[n] = Complex::new(T::of_sample(first[n]) * taper[n], T::of_sample(second[n]) * taper[n]);
        }
        self.fft.process_with_scratch(&mut self.frames, &mut self.scratch);

        let spectrum = &self.frames[..length];
        let [first, second] = powers.map(|power| &mut power[..bins]);
        (first[0], second[0]) = apart(spectrum[0], spectrum[0]);
        // Each other bin `n` with its mirror, `length - n`, in lanes.
        let (bins_up, rest_up) = spectrum[1..bins].as_chunks::<LANES>();
        let (rest_down, bins_down) = spectrum[length - bins + 1..].as_rchunks::<LANES>();
        let (first, first_rest) = first[1..].as_chunks_mut::<LANES>();
        let (second, second_rest) = second[1..].as_chunks_mut::<LANES>();
        let (last, rest) = (bins_up.len(), rest_up.len());
        for n in 0..last {
            let (up, down) = (&bins_up[n], &bins_down[last - 1 - n]);
            for lane in 0..LANES {
                (first[n][lane], second[n][lane]) = apart(up[lane], down[LANES - 1 - lane]);
            }
        }
        for n in 0..rest {
            (first_rest[n], second_rest[n]) = apart(rest_up[n], rest_down[rest - 1 - n]);
        }
    }
}

const LANES: usize = 4;

/// The powers of the two frames in a bin, by it and its mirror: their mean and half their difference are the frames' own
/// spectra.
#[inline(always)]
fn apart<T: Real>(bin: Complex<T>, mirror: Complex<T>) -> (f32, f32) {
    let half = |value: T| (value * T::HALF).to_sample();
    let (re, im) = (half(bin.re + mirror.re), half(bin.im - mirror.im));
    let (other_re, other_im) = (half(bin.im + mirror.im), half(mirror.re - bin.re));
    (re * re + im * im, other_re * other_re + other_im * other_im)
}
