//! The spectrum of what a machine sounds like now, about ten times a second, for those who look.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::audio::capture::{Capture, LIVE_SAMPLES, LiveSound};
use crate::clock::Clock;
use crate::features::{FrontEnd, MelExtractor};

/// Everybody who looks within this time sees the same frame.
const SAME_WITHIN: Duration = Duration::from_millis(80);
/// What 0 and 255 stand for, dB of full scale.
const FLOOR_DB: f64 = -100.0;
const BANDS: usize = 128;
const FMAX_HZ: f64 = 8000.0;
/// The frames of [`LIVE_SAMPLES`] are centred on their beginning, middle and end: the middle one is whole.
const FRAMES: usize = 3;
const WHOLE: usize = 1;

/// Frames of every machine that somebody looks at.
#[derive(Default)]
pub struct LiveView {
    spectra: HashMap<u32, Spectrum>,
    newest: HashMap<usize, (Instant, Option<String>)>,
}

impl LiveView {
    /// The frame of machine number `machine`, as the payload of its `live` topic; `None`: no new sound.
    pub fn frame(&mut self, machine: usize, capture: &Capture, clock: &Clock) -> Option<String> {
        if let Some((made, frame)) = self.newest.get(&machine)
            && made.elapsed() < SAME_WITHIN
        {
            return frame.clone();
        }
        let frame = capture.live(machine).and_then(|sound| self.payload(&sound, clock));
        self.newest.insert(machine, (Instant::now(), frame.clone()));
        frame
    }

    fn payload(&mut self, sound: &LiveSound, clock: &Clock) -> Option<String> {
        let spectrum = match self.spectra.get_mut(&sound.rate_hz) {
            Some(spectrum) => spectrum,
            None => self.spectra.entry(sound.rate_hz).or_insert(Spectrum::new(sound.rate_hz)?),
        };
        let bands = spectrum.bands(&sound.samples)?;
        let decibels = |value: f64| (200.0 * value.max(1e-6).log10()).round() / 10.0;
        let payload = json!({
            "schema": 1,
            "ts": clock.now(),
            "level_dbfs": decibels(sound.rms),
            "peak_dbfs": decibels(sound.peak),
            "bands": BASE64.encode(bands),
        });
        Some(payload.to_string())
    }
}

/// Mel bands of a short piece of sound.
struct Spectrum {
    mel: MelExtractor,
    /// What each band of a full-scale sine at its peak has, dB: it becomes 0.
    full_scale_db: Vec<f64>,
}

impl Spectrum {
    fn new(rate_hz: u32) -> Option<Spectrum> {
        let front_end = FrontEnd {
            rate_hz,
            window_s: LIVE_SAMPLES as f64 / f64::from(rate_hz),
            n_fft: LIVE_SAMPLES,
            hop: LIVE_SAMPLES / 2,
            n_mels: BANDS,
            fmin_hz: 20.0,
            fmax_hz: FMAX_HZ.min(f64::from(rate_hz) / 2.0),
            pre_emphasis: 0.0,
            top_db: 200.0,
            frames: 1,
        };
        let mel = MelExtractor::new(&front_end)
            .map_err(|error| tracing::warn!(%error, "no live spectrum at {rate_hz} Hz"))
            .ok()?;
        // Under a Hann taper a full-scale sine has the amplitude n/4; Slaney's triangles have the area 1.
        let sine_db = 20.0 * (LIVE_SAMPLES as f64 / 4.0).log10();
        let edges = front_end.mel_edges_hz();
        let full_scale_db = edges.windows(3).map(|edges| sine_db + 10.0 * (2.0 / (edges[2] - edges[0])).log10());
        Some(Spectrum { mel, full_scale_db: full_scale_db.collect() })
    }

    /// One byte a band; `None` for sound that is not finite.
    fn bands(&mut self, samples: &[f32]) -> Option<Vec<u8>> {
        self.mel.compute(samples).ok()?;
        let rows = self.mel.mel_db().chunks_exact(FRAMES).zip(&self.full_scale_db);
        let byte = |(row, full_scale_db): (&[f32], &f64)| {
            let dbfs = f64::from(row[WHOLE]) - full_scale_db;
            (255.0 * (1.0 - dbfs / FLOOR_DB)).round().clamp(0.0, 255.0) as u8
        };
        Some(rows.map(byte).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, amplitude: f64, rate_hz: u32) -> Vec<f32> {
        let step = std::f64::consts::TAU * hz / f64::from(rate_hz);
        (0..LIVE_SAMPLES).map(|n| (amplitude * (step * n as f64).sin()) as f32).collect()
    }

    #[test]
    fn a_sine_stands_in_its_band_at_its_level() {
        for rate_hz in [8_000, 16_000, 48_000] {
            let mut spectrum = Spectrum::new(rate_hz).expect("a front-end");
            for (hz, amplitude, dbfs) in [(1000.0, 1.0, 0.0), (1000.0, 0.01, -40.0), (3000.0, 0.1, -20.0)] {
                let bands = spectrum.bands(&sine(hz, amplitude, rate_hz)).expect("finite");
                let (loudest, byte) = bands.iter().enumerate().max_by_key(|(_, byte)| **byte).expect("there are bands");
                let edges = spectrum.mel.front_end().mel_edges_hz();
                assert!((edges[loudest]..edges[loudest + 2]).contains(&hz), "{hz} Hz in band {loudest}");
                let found = FLOOR_DB * (1.0 - f64::from(*byte) / 255.0);
                // The sine lies between two peaks of bands and between two bins.
                assert!((found - dbfs).abs() < 7.0, "{rate_hz} Hz: {hz} Hz at {dbfs}: {found}");
            }
        }
    }

    #[test]
    fn silence_is_the_floor_and_what_is_not_finite_is_nothing() {
        let mut spectrum = Spectrum::new(16_000).expect("a front-end");
        assert_eq!(spectrum.bands(&[0.0; LIVE_SAMPLES]), Some(vec![0; BANDS]));
        assert_eq!(spectrum.bands(&[f32::NAN; LIVE_SAMPLES]), None);
    }
}
