//! What is computed sample by sample: Fourier transforms, resampling, the mel spectrogram, sums over windows.
//!
//! A crate of its own for two reasons. It is optimised fully, where the agent around it is built quickly: what many samples go
//! through belongs here. And rustfft, realfft and rubato are generic: each crate that plans a transform compiles all of their
//! algorithms again. Here that is done once, for the agent, its unit tests and every test binary, and nothing public that plans a
//! transform is generic: that would have it compiled where it is called.

pub mod decibels;
mod fft;
mod front_end;
mod mel;
mod overview;
mod resampling;
mod runs;
mod samples;
mod short_frames;
pub mod sums;

pub use fft::{Complex, Complex32, ComplexToReal, PairedPower, Real, RealToComplex, hann};
pub use front_end::{FeatureError, FrontEnd, RATES_HZ, hz_to_mel};
pub use mel::{MelExtractor, emphasise};
pub use overview::{BLOCK, Overview};
pub use resampling::BlockResampler;
pub use runs::longest_run;
pub use samples::{push_i16, push_means};
pub use short_frames::{LEAST_POWER, ShortFrames};
