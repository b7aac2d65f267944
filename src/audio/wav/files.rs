//! Files of sound: found in directories, cut into windows for offline scoring, or played as a [`Source`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::audio::config::{Channel, take_channel};
use crate::audio::resample::Resampler;
use crate::audio::sound_file::{SoundFile, has_known_ending};
use crate::audio::source::{Format, Read, Source, SourceError, SourceProblem};
use crate::causes::with_causes;

/// What [`find`] came upon.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their names, directory by directory.
    pub files: Vec<PathBuf>,
    /// One line for each directory that cannot be listed.
    pub unreadable: Vec<String>,
}

/// `path` itself if it is no directory, else every `.wav`, `.flac`, `.ogg`, `.oga` and `.mp3` file below it. Links to files are followed, links to
/// directories are not, so that there is an end.
///
/// # Errors
/// `Config` where `path` is not there.
pub fn find(path: &Path) -> Result<Found, SourceError> {
    let metadata = path.metadata().map_err(|error| SourceError::Config(SourceProblem::of(path.display(), error)))?;
    let mut found = Found::default();
    if metadata.is_dir() {
        walk(path, &mut found);
    } else {
        found.files.push(path.to_owned());
    }
    Ok(found)
}

fn walk(root: &Path, found: &mut Found) {
    // Entries still to be looked at, the next one last.
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if path == root || (path.is_dir() && !is_link) {
            let listed = std::fs::read_dir(&path).and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
            });
            match listed {
                Ok(mut entries) => {
                    entries.sort_by(|a, b| b.cmp(a));
                    ahead.extend(entries);
                }
                Err(error) => found.unreadable.push(format!("{}: {error}", path.display())),
            }
        } else if path.is_file() && has_known_ending(&path) {
            found.files.push(path);
        }
    }
}

/// One channel of a file, or the mean of all, at the file's own rate.
struct MonoReader {
    sound: SoundFile,
    channel: Channel,
    frames: Vec<f32>,
    mono: Vec<f32>,
}

impl MonoReader {
    fn open(path: &Path, channel: Channel) -> Result<Self, SourceError> {
        let sound = SoundFile::open(path)?;
        let channels = sound.format().channels;
        if let Channel::One(wanted) = channel
            && wanted >= channels
        {
            let (path, last) = (path.display(), channels - 1);
            let problem = format!("{path}: expected a channel of 0 to {last}, found {wanted}");
            return Err(SourceError::Data(problem.into()));
        }
        Ok(MonoReader { sound, channel, frames: Vec::new(), mono: Vec::new() })
    }

    fn rate_hz(&self) -> u32 {
        self.sound.format().rate_hz
    }

    /// The next samples; none at the end.
    fn read(&mut self) -> Result<&[f32], SourceError> {
        self.frames.clear();
        self.sound.read(&mut self.frames)?;
        take_channel(&self.frames, self.sound.format().channels, self.channel, &mut self.mono);
        Ok(&self.mono)
    }
}

/// The windows of one file, one after the other, at the rate asked for. What does not fill a window at the end is
/// left over. A file that turns out broken gives its whole windows first, then the error.
pub struct Windows {
    reader: MonoReader,
    resampler: Resampler,
    window_samples: usize,
    /// From window to window.
    step: usize,
    /// Resampled and not given out yet.
    ready: Vec<f32>,
    ended: bool,
    fault: Option<SourceError>,
}

impl Windows {
    /// # Errors
    /// `Data` for a file that cannot be read or lacks the channel, `Config` for a rate that cannot be resampled to.
    pub fn open(path: &Path, channel: Channel, rate_hz: u32, window_samples: usize) -> Result<Self, SourceError> {
        let reader = MonoReader::open(path, channel)?;
        let resampler = Resampler::new(reader.rate_hz(), rate_hz)?;
        let window_samples = window_samples.max(1);
        // And a block of frames, so that it does not grow to twice the size.
        let (step, ready) = (window_samples, Vec::with_capacity(window_samples + window_samples / 8));
        Ok(Windows { reader, resampler, window_samples, step, ready, ended: false, fault: None })
    }

    /// Lets windows overlap: the next one begins `samples` after the one before, 1 to a window's length.
    pub fn step(&mut self, samples: usize) {
        self.step = samples.clamp(1, self.window_samples);
    }

    /// The file's own format.
    pub fn format(&self) -> Format {
        self.reader.sound.format()
    }

    /// Samples that were read and did not fill a window; of use once the windows have come to their end.
    pub fn left_over(&self) -> usize {
        self.ready.len()
    }
}

impl Iterator for Windows {
    type Item = Result<Vec<f32>, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.len() < self.window_samples && !self.ended {
            match self.reader.read() {
                Ok([]) => self.ended = true,
                Ok(mono) => self.resampler.push(mono, &mut self.ready),
                Err(error) => (self.ended, self.fault) = (true, Some(error)),
            }
            if self.ended {
                self.resampler.finish(&mut self.ready);
            }
        }
        if self.ready.len() >= self.window_samples {
            let window = self.ready[..self.window_samples].to_vec();
            self.ready.drain(..self.step);
            return Some(Ok(window));
        }
        self.fault.take().map(Err)
    }
}

/// A file of sound, or the files of a directory in the order of their names, as fast as they are read ([`Paced`](crate::audio::Paced) slows
/// them down). It gives mono at the rate asked for, whatever the files' formats; one follows the other without a gap.
/// A broken file is named in the log and passed over.
pub struct WavSource {
    root: PathBuf,
    channel: Channel,
    rate_hz: u32,
    repeat: bool,
    /// Files still to be played in this round.
    ahead: std::vec::IntoIter<PathBuf>,
    playing: Option<MonoReader>,
    /// With the rate that it takes; kept from file to file while that is the same.
    resampler: Option<(u32, Resampler)>,
    /// Something was delivered in this round.
    delivered: bool,
    /// Problems of broken files that were logged: once each, however often the files come round.
    warned: BTreeSet<String>,
}

fn warn_once(warned: &mut BTreeSet<String>, problem: String) {
    if !warned.contains(&problem) {
        tracing::warn!("{problem}");
        warned.insert(problem);
    }
}

impl WavSource {
    /// `root` is a file or a directory; with `repeat` it begins again at the end.
    ///
    /// # Errors
    /// `Config` where there is no such file or directory, `Data` where nothing in it can be read.
    pub fn open(root: &Path, channel: Channel, rate_hz: u32, repeat: bool) -> Result<Self, SourceError> {
        Resampler::new(rate_hz, rate_hz)?;
        let mut source = WavSource {
            root: root.to_owned(),
            channel,
            rate_hz,
            repeat,
            ahead: Vec::new().into_iter(),
            playing: None,
            resampler: None,
            delivered: false,
            warned: BTreeSet::new(),
        };
        source.begin_round()?;
        Ok(source)
    }

    /// Lists the files and opens the first that can be read.
    fn begin_round(&mut self) -> Result<(), SourceError> {
        let found = find(&self.root)?;
        for unreadable in &found.unreadable {
            warn_once(&mut self.warned, unreadable.to_string());
        }
        if let [file] = found.files.as_slice()
            && *file == self.root
        {
            self.playing = Some(MonoReader::open(file, self.channel)?);
        } else {
            let count = found.files.len();
            self.ahead = found.files.into_iter();
            if !self.open_next() {
                let root = self.root.display();
                let problem = match count {
                    0 => format!("{root}: expected WAV, FLAC, Ogg or MP3 files, found none"),
                    _ => {
                        let why = self.warned.iter().next_back().map_or(String::new(), |why| format!("; {why}"));
                        format!("{root}: none of its {count} files can be read{why}")
                    }
                };
                return Err(SourceError::Data(problem.into()));
            }
        }
        self.delivered = false;
        Ok(())
    }

    /// Opens the next file that can be read; `false` at the end of the round.
    fn open_next(&mut self) -> bool {
        self.playing = self.ahead.by_ref().find_map(|file| {
            MonoReader::open(&file, self.channel)
                .inspect_err(|error| {
                    warn_once(&mut self.warned, format!("passing over a broken file: {}", with_causes(error)));
                })
                .ok()
        });
        self.playing.is_some()
    }

    /// Appends the next samples of the file being played; `false` at its end.
    fn play(&mut self, samples: &mut Vec<f32>) -> Result<bool, SourceError> {
        let Some(playing) = &mut self.playing else { return Ok(false) };
        let rate_hz = playing.rate_hz();
        let mono = match playing.read() {
            Ok([]) => return Ok(false),
            Ok(mono) => mono,
            Err(error) => {
                let why = with_causes(&error);
                warn_once(&mut self.warned, format!("passing over the rest of a broken file: {why}"));
                return Ok(false);
            }
        };
        self.delivered = true;
        if self.resampler.as_ref().is_none_or(|(from_hz, _)| *from_hz != rate_hz) {
            let next = (rate_hz, Resampler::new(rate_hz, self.rate_hz)?);
            if let Some((_, mut last)) = self.resampler.replace(next) {
                last.finish(samples);
            }
        }
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.push(mono, samples);
        }
        Ok(true)
    }
}

impl Source for WavSource {
    fn format(&self) -> Format {
        Format { rate_hz: self.rate_hz, channels: 1 }
    }

    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError> {
        let before = frames.len();
        while frames.len() == before {
            if self.play(frames)? || self.open_next() {
                continue;
            }
            if !self.repeat {
                let Some((_, mut last)) = self.resampler.take() else { return Ok(Read::End) };
                last.finish(frames);
            } else if self.delivered {
                self.begin_round()?;
            } else {
                let problem = format!("{}: expected sound, found none", self.root.display());
                return Err(SourceError::Data(problem.into()));
            }
        }
        Ok(Read::Frames { end: SystemTime::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, rate_hz: u32, channels: &[&[i16]]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: channels.len() as u16,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for n in 0..channels[0].len() {
            for channel in channels {
                writer.write_sample(channel[n]).unwrap();
            }
        }
        writer.finalize().unwrap();
    }

    fn ramp(from: i16, samples: i16) -> Vec<i16> {
        (from..from + samples).collect()
    }

    /// Everything that comes, in units of 16 bits.
    fn play(source: &mut WavSource, least: usize) -> Vec<i32> {
        let mut samples = Vec::new();
        while samples.len() < least && source.read(&mut samples).unwrap() != Read::End {}
        samples.iter().map(|sample| (sample * 32768.0).round() as i32).collect()
    }

    #[test]
    fn directories_are_walked_by_name_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.wav", "a/2.WAV", "a/10.wav", "c/d/e.wav", "a/notes.txt", "a.wav"] {
            write(&dir.path().join(name), 16_000, &[&[0]]);
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("c/loop")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("b.wav"), dir.path().join("c/link.wav")).unwrap();
        let found = find(dir.path()).unwrap();
        let names: Vec<_> =
            found.files.iter().map(|file| file.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a/10.wav", "a/2.WAV", "a.wav", "b.wav", "c/d/e.wav", "c/link.wav"]);
        assert!(found.unreadable.is_empty());
        assert!(matches!(find(&dir.path().join("none")), Err(SourceError::Config(_))));
    }

    #[test]
    fn files_follow_each_other_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("1.wav"), 16_000, &[&ramp(0, 5000)]);
        std::fs::write(dir.path().join("2.wav"), "broken").unwrap();
        write(&dir.path().join("3.wav"), 16_000, &[&ramp(4990, 7000), &ramp(5010, 7000)]);
        let mut source = WavSource::open(dir.path(), Channel::Mix, 16_000, false).unwrap();
        assert_eq!(play(&mut source, usize::MAX), (0..12_000).collect::<Vec<i32>>());
        let mut source = WavSource::open(dir.path(), Channel::Mix, 16_000, true).unwrap();
        assert_eq!(play(&mut source, 30_000)[..30_000], (0..30_000).map(|n| n % 12_000).collect::<Vec<i32>>());
    }

    #[test]
    fn cuts_between_files_do_not_show_after_resampling() {
        let dir = tempfile::tempdir().unwrap();
        let tone: Vec<i16> = (0..48_000).map(|n| ((f64::from(n) * 0.05).sin() * 20_000.0) as i16).collect();
        write(&dir.path().join("whole.wav"), 48_000, &[&tone]);
        write(&dir.path().join("parts/1.wav"), 48_000, &[&tone[..10_001]]);
        write(&dir.path().join("parts/2.wav"), 48_000, &[&tone[10_001..]]);
        let play = |name: &str| {
            let path = dir.path().join(name);
            play(&mut WavSource::open(&path, Channel::One(0), 16_000, false).unwrap(), usize::MAX)
        };
        assert_eq!(play("parts").len(), 16_000);
        assert_eq!(play("parts"), play("whole.wav"));
    }

    #[test]
    fn another_rate_goes_on_at_the_one_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("1.wav"), 48_000, &[&[8000; 48_000]]);
        write(&dir.path().join("2.wav"), 16_000, &[&[8000; 16_000]]);
        let mut source = WavSource::open(dir.path(), Channel::Mix, 16_000, false).unwrap();
        let samples = play(&mut source, usize::MAX);
        assert_eq!(samples.len(), 32_000);
        assert!(samples[16_000..].iter().all(|&sample| sample == 8000));
    }

    #[test]
    fn nothing_to_play_is_an_error_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let open = |channel, repeat| WavSource::open(dir.path(), channel, 16_000, repeat).err().unwrap().to_string();
        assert!(open(Channel::Mix, true).ends_with("expected WAV, FLAC, Ogg or MP3 files, found none"));
        write(&dir.path().join("a.wav"), 16_000, &[&[1]]);
        let problem = open(Channel::One(1), true);
        assert!(problem.contains("none of its 1 files can be read") && problem.contains("channel"), "{problem}");
        write(&dir.path().join("a.wav"), 16_000, &[&[]]);
        let mut source = WavSource::open(dir.path(), Channel::Mix, 16_000, true).unwrap();
        assert!(matches!(source.read(&mut Vec::new()), Err(SourceError::Data(_))));
    }

    #[test]
    fn windows_come_whole_and_a_broken_end_comes_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        write(&path, 16_000, &[&ramp(0, 250), &ramp(100, 250)]);
        let mut windows = Windows::open(&path, Channel::One(1), 16_000, 100).unwrap();
        let starts: Vec<_> = windows.by_ref().map(|window| window.unwrap()[0] * 32768.0).collect();
        assert_eq!((starts.as_slice(), windows.left_over()), ([100.0, 200.0].as_slice(), 50));

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        let windows: Vec<_> = Windows::open(&path, Channel::Mix, 16_000, 100).unwrap().collect();
        assert!(matches!(windows.as_slice(), [Ok(_), Ok(_), Err(SourceError::Data(_))]));
        assert!(Windows::open(&path, Channel::One(2), 16_000, 100).is_err());
    }
}
