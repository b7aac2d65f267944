//! The short-time Fourier transform of a window, as fast or as exact as it must be.

use std::sync::Arc;

use auscult_fft::{Complex, Real, RealToComplex};

/// The short-time Fourier transform, in `f32` or `f64`; keeps its plan and buffers between calls.
pub(super) struct Stft<T> {
    fft: Arc<dyn RealToComplex<T>>,
    /// Periodic Hann, `[n_fft]`.
    taper: Vec<T>,
    frame: Vec<T>,
    spectrum: Vec<Complex<T>>,
    scratch: Vec<Complex<T>>,
}

/// A number that samples are transformed in.
pub(super) trait Number: Real {
    fn of(value: f64) -> Self;
    fn wide(sample: f32) -> Self;
    fn narrow(self) -> f32;
}

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn wide(sample: f32) -> Self {
        sample
    }
    fn narrow(self) -> f32 {
        self
    }
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn wide(sample: f32) -> Self {
        f64::from(sample)
    }
    fn narrow(self) -> f32 {
        self as f32
    }
}

impl<T: Number> Stft<T> {
    pub fn new(n_fft: usize) -> Self {
        let fft = T::forward(n_fft);
        let turn = std::f64::consts::TAU / n_fft as f64;
        Stft {
            taper: (0..n_fft).map(|n| T::of(0.5 - 0.5 * (turn * n as f64).cos())).collect(),
            frame: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            fft,
        }
    }

    /// Fills `power`, `[frames, bins]`, with the frames of `padded` that begin every `hop` samples.
    pub fn power(&mut self, padded: &[f32], hop: usize, power: &mut [f32]) {
        let Stft { fft, taper, frame, spectrum, scratch } = self;
        for (number, power) in power.chunks_exact_mut(spectrum.len()).enumerate() {
            let samples = &padded[number * hop..][..taper.len()];
            for ((out, sample), taper) in frame.iter_mut().zip(samples).zip(taper.iter()) {
                *out = T::wide(*sample) * *taper;
            }
            fft.process_with_scratch(frame, spectrum, scratch).expect("the buffers were made by this plan");
            for (out, value) in power.iter_mut().zip(spectrum.iter()) {
                let (re, im) = (value.re.narrow(), value.im.narrow());
                *out = re * re + im * im;
            }
        }
    }
}
