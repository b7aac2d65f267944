//! The Fourier transforms of real samples, in `f32` and `f64`, by realfft on rustfft.
//!
//! Both crates are generic, so that each crate that plans a transform compiles all of their algorithms again. Here they
//! are compiled once, for the agent, its unit tests and every test binary: a sixth of the code of each.

use std::sync::Arc;

pub use realfft::num_complex::{Complex, Complex32};
pub use realfft::{ComplexToReal, RealToComplex};
use realfft::{FftNum, RealFftPlanner};

/// A number that samples are transformed in.
pub trait Real: FftNum {
    /// Of `length` samples into `length / 2 + 1` bins.
    fn forward(length: usize) -> Arc<dyn RealToComplex<Self>>;
    /// Of `length / 2 + 1` bins into `length` samples, `length` times what [`Real::forward`] was given.
    fn inverse(length: usize) -> Arc<dyn ComplexToReal<Self>>;
}

impl Real for f32 {
    fn forward(length: usize) -> Arc<dyn RealToComplex<f32>> {
        RealFftPlanner::new().plan_fft_forward(length)
    }
    fn inverse(length: usize) -> Arc<dyn ComplexToReal<f32>> {
        RealFftPlanner::new().plan_fft_inverse(length)
    }
}

impl Real for f64 {
    fn forward(length: usize) -> Arc<dyn RealToComplex<f64>> {
        RealFftPlanner::new().plan_fft_forward(length)
    }
    fn inverse(length: usize) -> Arc<dyn ComplexToReal<f64>> {
        RealFftPlanner::new().plan_fft_inverse(length)
    }
}
