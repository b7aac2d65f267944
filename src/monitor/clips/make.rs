//! From the last minute of a machine to the files of a clip, in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::clip::{ABOUT, Clip, FORMAT, Like, NORMAL, PICTURE, SOUND, WINDOWS};
use super::normal::{self, NormalWindow};
use crate::audio::capture::RecentSound;
use crate::audio::flac::{self, FlacError};
use crate::audio::wav::to_floats;
use crate::clock::Timestamp;
use crate::features::picture::Picture;
use crate::features::{FrontEnd, MelExtractor};
use crate::monitor::heard::HeardWindow;
use crate::scoring::alarm::Kind;
use crate::scoring::baseline::Origin;
use crate::sha256::check_sum;
use crate::state_files::seal;
use crate::window::level_dbfs;

/// Step of the level over time.
const LEVEL_STEP_S: f64 = 0.5;
/// Columns of the spectrogram.
const COLUMNS: usize = 900;

/// What a clip is made of.
pub struct Material {
    pub machine: String,
    pub kind: Kind,
    pub since: DateTime<Utc>,
    /// Why the alarm was raised.
    pub text: String,
    pub sound: RecentSound,
    pub windows: Vec<HeardWindow>,
    pub origin: Option<Origin>,
    pub like: Option<Like>,
    /// Stand beside it.
    pub normal: Vec<NormalWindow>,
}

/// A clip that is not on the disk yet.
pub struct Made {
    pub clip: Clip,
    /// Names and contents.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Made {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, content)| content.len() as u64).sum()
    }

    /// One of its files.
    pub fn into_file(self, name: &str) -> Option<Vec<u8>> {
        self.files.into_iter().find_map(|(file, content)| (file == name).then_some(content))
    }
}

/// Takes a second of a small computer's time, and for that the room of the picture, some 12 MB: what has been used is given
/// back before the next needs room.
///
/// # Errors
/// Sound that cannot be encoded.
pub fn make(material: Material) -> Result<Made, FlacError> {
    let Material { machine, kind, since, text, sound, windows, origin, like, normal } = material;
    let step = ((LEVEL_STEP_S * f64::from(sound.rate_hz)) as usize).max(1);
    let level = |part: &[i16]| (10.0 * level_dbfs(&to_floats(part))).round() / 10.0;
    let without_sample = |window: &HeardWindow| HeardWindow { sample: None, ..window.clone() };
    let mut clip = Clip {
        format: FORMAT,
        from: sound.begin().into(),
        to: sound.end.into(),
        rate_hz: sound.rate_hz,
        sums: BTreeMap::new(),
        level_step_s: LEVEL_STEP_S,
        level_dbfs: sound.samples.chunks(step).map(level).collect(),
        windows: windows.iter().map(without_sample).collect(),
        fault: None,
        like,
        normal: normal.iter().map(|window| window.at).collect(),
        machine,
        kind,
        since,
        text,
        origin,
    };
    let drawn = picture(&clip, &sound.samples);
    let normal = drawn.as_ref().and_then(|(_, range_db)| normal::picture(&clip, &normal, *range_db));
    let mut files = vec![(SOUND, flac::encode(&sound.samples, sound.rate_hz)?)];
    drop(sound);
    files.extend(drawn.map(|(png, _)| (PICTURE, png)));
    files.extend(normal.map(|png| (NORMAL, png)));
    files.push((WINDOWS, json(&windows).into()));
    clip.sums = files.iter().map(|(name, content)| ((*name).to_owned(), check_sum(content))).collect();
    files.push((ABOUT, seal(&clip.key().about(), &json(&clip)).into()));
    Ok(Made { clip, files })
}

/// A file's content.
pub fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("scored numbers are finite, keys are text")
}

/// With the dB that its darkest and its brightest stand for; `None` where the sound is too short for one.
fn picture(clip: &Clip, samples: &[i16]) -> Option<(Vec<u8>, (f32, f32))> {
    let front_end = front_end(clip, samples.len())?;
    let (image, (least_db, most_db)) = {
        let mut extractor = MelExtractor::new(&front_end).ok()?;
        let image = extractor.compute(&to_floats(samples)).ok()?.to_vec();
        (image, extractor.range_db())
    };
    let title =
        format!("{}   {} since {}   {}", clip.machine, clip.kind.word(), Timestamp::from(clip.since), clip.text);
    let png = Picture { title: &title, front_end: &front_end, image: &image, range_db: most_db - least_db }.to_png();
    Some((png.ok()?, (least_db, most_db)))
}

/// The machine's own bands over the whole clip.
fn front_end(clip: &Clip, samples: usize) -> Option<FrontEnd> {
    let own = clip.origin.as_ref().map(|origin| origin.front_end.clone());
    let own = own.filter(|own| own.rate_hz == clip.rate_hz).unwrap_or_else(|| FrontEnd {
        rate_hz: clip.rate_hz,
        fmax_hz: (f64::from(clip.rate_hz) / 2.0).min(8000.0),
        ..FrontEnd::default()
    });
    let window_s = samples as f64 / f64::from(clip.rate_hz);
    let mut front_end = FrontEnd { window_s, hop: (samples / COLUMNS).max(own.n_fft / 32).max(1), ..own };
    if front_end.window_samples() != samples || samples < front_end.n_fft {
        return None;
    }
    front_end.frames = front_end.frames_total();
    Some(front_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn sound(rate_hz: u32, seconds: f64) -> RecentSound {
        let count = (seconds * f64::from(rate_hz)) as usize;
        let samples = (0..count).map(|n| (8000.0 * (n as f64 * 0.3).sin()) as i16 + (n % 97) as i16).collect();
        RecentSound { rate_hz, samples, end: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) }
    }

    fn made(sound: RecentSound) -> Made {
        let since = DateTime::from(sound.end - Duration::from_secs(20));
        let (machine, kind, text) = ("fan-1".to_owned(), Kind::Fault, "burst".to_owned());
        make(Material {
            machine,
            kind,
            since,
            text,
            sound,
            windows: Vec::new(),
            origin: None,
            like: None,
            normal: Vec::new(),
        })
        .expect("made")
    }

    #[test]
    fn a_clip_has_its_sound_a_picture_and_the_level_over_time() {
        let sound = sound(16_000, 60.0);
        let Made { clip, files } = made(sound.clone());
        assert_eq!((clip.seconds(), clip.level_dbfs.len()), (60.0, 120));
        assert!(clip.level_dbfs.iter().all(|level| (-16.0..-14.0).contains(level)), "{:?}", clip.level_dbfs);
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [SOUND, PICTURE, WINDOWS, ABOUT]);
        assert_eq!(flac::decode(&files[0].1).expect("FLAC").0, sound.samples);
        assert!(files[1].1.starts_with(b"\x89PNG"), "a picture");
        let read: Clip = serde_json::from_slice(&files[3].1).expect("readable");
        assert_eq!(read, clip);
        assert_eq!(clip.sums.len(), 3);
    }

    #[test]
    fn short_sound_and_other_rates_make_clips_too() {
        for (rate_hz, seconds, pictured) in [(8_000, 5.0, true), (48_000, 60.0, true), (16_000, 0.01, false)] {
            let files = made(sound(rate_hz, seconds)).files;
            assert_eq!(files.iter().any(|(name, _)| *name == PICTURE), pictured, "{rate_hz} Hz, {seconds} s");
        }
    }
}
