//! The spectrum that distinguishes the hiss of a dead preamplifier from a machine.

use std::sync::LazyLock;

use auscult_signal::PairedPower;
use auscult_signal::sums::{add_each, total};

/// Frame of the spectrum that noise is recognised by, in samples.
const FRAME: usize = 512;
/// The bins of it that are looked at: from 1/64 of half the rate (125 Hz of 8 kHz), where mains hum does not reach, to
/// 15/16 (7.5 kHz), where anti-alias filters begin.
const BINS: std::ops::Range<usize> = 4..240;
/// Shorter windows show too little of a spectrum.
const LEAST_FRAMES: usize = 16;

/// What distinguishes hiss from a machine: hiss is flat, has no tones and is steady.
pub(super) struct Spectrum {
    pub flatness: f64,
    /// Highest tone above the bins around it, dB.
    tone_db: f64,
    /// Spread of the frames' energy over that of steady noise.
    unrest: f64,
    frames: usize,
}

impl Spectrum {
    /// `None` for windows that are too short.
    pub fn of(window: &[f32]) -> Option<Spectrum> {
        let (frames, _) = window.as_chunks::<FRAME>();
        if frames.len() < LEAST_FRAMES {
            return None;
        }
        static TRANSFORM: LazyLock<PairedPower<f32>> = LazyLock::new(|| PairedPower::new(FRAME));
        let mut transform = TRANSFORM.clone();
        let [mut first, mut second] = [[0.0; FRAME / 2 + 1]; 2];
        let mut power = [0.0_f64; BINS.end - BINS.start];
        let mut energies = Vec::with_capacity(frames.len());
        for pair in frames.chunks(2) {
            transform.powers([&pair[0], &pair[pair.len() - 1]], [&mut first, &mut second]);
            energies.push(add_power(&first[BINS], &mut power));
            if pair.len() == 2 {
                energies.push(add_power(&second[BINS], &mut power));
            }
        }
        let frames = frames.len();
        let mean = power.iter().sum::<f64>() / power.len() as f64;
        if mean <= 0.0 {
            return None;
        }
        let log_mean = power.iter().map(|power| (power / mean).max(1e-12).ln()).sum::<f64>() / power.len() as f64;
        let energy = energies.iter().sum::<f64>() / frames as f64;
        let variance = energies.iter().map(|e| (e / energy - 1.0).powi(2)).sum::<f64>() / frames as f64;
        // Hann-windowed white noise: each bin's power is exponential, 35/18 bins are as good as one independent one.
        let of_steady_noise = (35.0 / 18.0 / BINS.len() as f64).sqrt();
        Some(Spectrum {
            flatness: log_mean.exp(),
            tone_db: tone_db(&power),
            unrest: variance.sqrt() / of_steady_noise,
            frames,
        })
    }

    pub fn is_hiss(&self, flatness: f64) -> bool {
        // What chance does to the average of so many frames, five standard deviations of it.
        let chance_db = 5.0 * 4.34 / (self.frames as f64).sqrt();
        self.flatness >= flatness && self.tone_db < 3.0 + chance_db && self.unrest < 3.0
    }
}

/// Adds a frame's power to what the frames before had, bin by bin; the sum over all bins.
fn add_power(of_frame: &[f32], power: &mut [f64]) -> f64 {
    add_each(power, of_frame);
    f64::from(total(of_frame))
}

/// How far the highest bin is above the mean of those around it, dB.
fn tone_db(power: &[f64]) -> f64 {
    const AROUND: usize = 8;
    let above = |(n, &here): (usize, &f64)| {
        let around = &power[n.saturating_sub(AROUND)..(n + AROUND + 1).min(power.len())];
        let others = (around.iter().sum::<f64>() - here) / (around.len() - 1) as f64;
        10.0 * (here / others.max(f64::MIN_POSITIVE)).log10()
    };
    power.iter().enumerate().map(above).fold(0.0, f64::max)
}
