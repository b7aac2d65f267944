//! Sound into WAV files: a new file every so often and after each gap, named by machine and time, and never onto a disk
//! that is nearly full.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use hound::{SampleFormat, WavSpec, WavWriter};

/// Bits of a sample in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bits {
    #[value(name = "16")]
    Int16,
    #[value(name = "24")]
    Int24,
    #[value(name = "32f")]
    Float32,
}

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    pub dir: PathBuf,
    /// First part of the files' names.
    pub machine: String,
    pub rate_hz: u32,
    pub bits: Bits,
    /// Length of one file.
    pub file_length: Duration,
    /// Space that must stay free on the disk, bytes.
    pub keep_free: u64,
    /// Makes room by deleting the oldest of the machine's recordings in `dir`, instead of ending.
    pub delete_oldest: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: only {free_mb} MB are free, {keep_mb} MB must stay so: recording has ended", .dir.display())]
    Full { dir: PathBuf, free_mb: u64, keep_mb: u64 },
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    pub file: PathBuf,
    pub begin: SystemTime,
    pub seconds: f64,
    /// Largest absolute value; full scale is 1.
    pub peak: f32,
}

/// Looks up the free space of a directory, bytes.
pub type FreeSpace = fn(&Path) -> io::Result<u64>;

/// Writes one machine's recordings.
pub struct Recorder {
    options: RecorderOptions,
    free_space: FreeSpace,
    open: Option<Open>,
}

struct Open {
    writer: WavWriter<BufWriter<File>>,
    recording: Recording,
    samples: u64,
}

impl Recorder {
    pub fn new(options: RecorderOptions) -> Self {
        Self::with_free_space(options, free_space)
    }

    /// As [`Recorder::new`], for disks that are not there.
    pub fn with_free_space(options: RecorderOptions, free_space: FreeSpace) -> Self {
        Recorder { options, free_space, open: None }
    }

    /// Appends mono samples, the last of which was captured at `end`; gives back a file that became complete.
    ///
    /// # Errors
    /// A file that cannot be written; a disk that is nearly full.
    pub fn write(&mut self, samples: &[f32], end: SystemTime) -> Result<Option<Recording>, RecordError> {
        let length = Duration::from_secs_f64(samples.len() as f64 / f64::from(self.options.rate_hz));
        self.make_room()?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(end - length)?,
        };
        let failed = |error, file: &Path| RecordError::File { file: file.into(), source: io_error(error) };
        for &sample in samples {
            let written = match self.options.bits {
                Bits::Int16 => open.writer.write_sample(scaled(sample, 15)),
                Bits::Int24 => open.writer.write_sample(scaled(sample, 23)),
                Bits::Float32 => open.writer.write_sample(sample),
            };
            written.map_err(|error| failed(error, &open.recording.file))?;
            open.recording.peak = open.recording.peak.max(sample.abs());
        }
        open.samples += samples.len() as u64;
        open.recording.seconds = open.samples as f64 / f64::from(self.options.rate_hz);
        // The header says how long it is: a power cut costs no more than what came since.
        open.writer.flush().map_err(|error| failed(error, &open.recording.file))?;
        let complete = open.recording.seconds >= self.options.file_length.as_secs_f64();
        self.open = Some(open);
        if complete { self.close() } else { Ok(None) }
    }

    /// Completes the file that is being written, if there is one: at the end, and where sound is missing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn close(&mut self) -> Result<Option<Recording>, RecordError> {
        let Some(Open { writer, recording, .. }) = self.open.take() else { return Ok(None) };
        let failed = |error| RecordError::File { file: recording.file.clone(), source: io_error(error) };
        writer.finalize().map_err(failed)?;
        Ok(Some(recording))
    }

    fn begin(&self, begin: SystemTime) -> Result<Open, RecordError> {
        let time: DateTime<Utc> = begin.into();
        let name = format!("{}_{}.wav", self.options.machine, time.format("%Y%m%dT%H%M%S%.3fZ"));
        let file = self.options.dir.join(name);
        let (bits_per_sample, sample_format) = match self.options.bits {
            Bits::Int16 => (16, SampleFormat::Int),
            Bits::Int24 => (24, SampleFormat::Int),
            Bits::Float32 => (32, SampleFormat::Float),
        };
        let spec = WavSpec { channels: 1, sample_rate: self.options.rate_hz, bits_per_sample, sample_format };
        let create = || -> io::Result<WavWriter<BufWriter<File>>> {
            std::fs::create_dir_all(&self.options.dir)?;
            // Never over another recording, whatever the clock says.
            let created = File::create_new(&file)?;
            WavWriter::new(BufWriter::new(created), spec).map_err(io_error)
        };
        let writer = create().map_err(|source| RecordError::File { file: file.clone(), source })?;
        Ok(Open { writer, recording: Recording { file, begin, seconds: 0.0, peak: 0.0 }, samples: 0 })
    }

    /// Sees to the space that must stay free.
    fn make_room(&mut self) -> Result<(), RecordError> {
        let RecorderOptions { dir, keep_free, delete_oldest, .. } = &self.options;
        let mut oldest = None;
        loop {
            // Where the disk does not answer, writing will show it.
            let Some(free) = nearest_existing(dir).and_then(|dir| (self.free_space)(dir).ok()) else { return Ok(()) };
            if free >= *keep_free {
                return Ok(());
            }
            let files = oldest.get_or_insert_with(|| if *delete_oldest { self.recordings() } else { VecDeque::new() });
            let Some(file) = files.pop_front() else {
                let (free_mb, keep_mb) = (free / 1_000_000, keep_free / 1_000_000);
                let dir = dir.clone();
                // What is written so far stays whole.
                self.close()?;
                return Err(RecordError::Full { dir, free_mb, keep_mb });
            };
            tracing::info!(file = %file.display(), "deleting the oldest recording to make room");
            std::fs::remove_file(&file).map_err(|source| RecordError::File { file, source })?;
        }
    }

    /// The machine's complete recordings, oldest first: their names are their times.
    fn recordings(&self) -> VecDeque<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.options.dir) else { return VecDeque::new() };
        let ours = |file: &PathBuf| {
            let time = file.file_name()?.to_str()?.strip_prefix(&self.options.machine)?.strip_prefix('_')?;
            let time = time.strip_suffix(".wav")?;
            let is_time = time.len() == 20 && time.starts_with(|c: char| c.is_ascii_digit()) && time.ends_with('Z');
            let is_open = self.open.as_ref().is_some_and(|open| open.recording.file == *file);
            (is_time && !is_open).then_some(())
        };
        let mut files: Vec<_> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| ours(file).is_some()).collect();
        files.sort();
        files.into()
    }
}

/// hound's error as the one that it stands for.
fn io_error(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

fn scaled(sample: f32, bits: u32) -> i32 {
    let scale = f64::from(1_u32 << bits);
    (f64::from(sample) * scale).round().clamp(-scale, scale - 1.0) as i32
}

fn nearest_existing(dir: &Path) -> Option<&Path> {
    let here = |dir: &&Path| dir.as_os_str().is_empty() || dir.is_dir();
    dir.ancestors().find(here).map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

fn free_space(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 8000;

    fn options(dir: &Path) -> RecorderOptions {
        RecorderOptions {
            dir: dir.join("new"),
            machine: "fan-1".into(),
            rate_hz: RATE,
            bits: Bits::Int16,
            file_length: Duration::from_secs(3),
            keep_free: 1_000_000,
            delete_oldest: false,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn ramp(second: usize) -> Vec<f32> {
        (0..RATE as usize).map(|n| ((second * RATE as usize + n) % 30_000) as f32 / 32_768.0).collect()
    }

    fn read(file: &Path) -> Vec<i32> {
        hound::WavReader::open(file).unwrap().samples::<i32>().map(Result::unwrap).collect()
    }

    #[test]
    fn files_follow_each_other_and_break_where_sound_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::with_free_space(options(dir.path()), |_| Ok(u64::MAX));
        let mut files = Vec::new();
        for second in 0..8 {
            files.extend(recorder.write(&ramp(second), at(second as u64 + 1)).unwrap());
            if second == 4 {
                files.extend(recorder.close().unwrap());
            }
        }
        // The last file is not complete, and can be read up to here all the same.
        assert_eq!(recorder.close().unwrap(), None);
        let written: Vec<_> = files.iter().map(|file| (file.seconds, file.begin)).collect();
        assert_eq!(written, [(3.0, at(0)), (2.0, at(3)), (3.0, at(5))]);
        assert_eq!(files[0].file.file_name().unwrap(), "fan-1_20270115T080000.000Z.wav");
        let all: Vec<i32> = files.iter().flat_map(|file| read(&file.file)).collect();
        assert_eq!(all, (0..8 * RATE as i32).map(|n| n % 30_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_can_be_read_before_the_file_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        for (bits, scale) in [(Bits::Int16, 32_768.0), (Bits::Int24, 8_388_608.0)] {
            let options = RecorderOptions { bits, machine: format!("{bits:?}"), ..options(dir.path()) };
            let mut recorder = Recorder::with_free_space(options, |_| Ok(u64::MAX));
            recorder.write(&[0.5, -1.0, 1.0, -0.25], at(1)).unwrap();
            let file = recorder.open.as_ref().unwrap().recording.file.clone();
            let expected = [0.5 * scale, -scale, scale - 1.0, -0.25 * scale].map(|sample| sample as i32);
            assert_eq!(read(&file), expected);
        }
    }

    #[test]
    fn a_nearly_full_disk_ends_the_recording_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::with_free_space(options(dir.path()), |_| Ok(999_999));
        let error = recorder.write(&ramp(0), at(1)).unwrap_err().to_string();
        assert!(error.contains("only 0 MB are free, 1 MB must stay so"), "{error}");
        assert!(!dir.path().join("new").exists());
    }

    #[test]
    fn the_oldest_recordings_make_room_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let options = RecorderOptions { delete_oldest: true, ..options(dir.path()) };
        std::fs::create_dir(&options.dir).unwrap();
        let name = |name: &str| options.dir.join(name);
        for other in ["fan-10_20200101T000000.000Z.wav", "fan-1_notes.wav", "fan-1_20200101T000000.000Z.txt"] {
            std::fs::write(name(other), "x").unwrap();
        }
        for hour in 0..5 {
            std::fs::write(name(&format!("fan-1_20200101T0{hour}0000.000Z.wav")), "x").unwrap();
        }
        // Two of them make room enough.
        let free = |dir: &Path| Ok(if std::fs::read_dir(dir)?.count() > 6 { 0 } else { 2_000_000 });
        let mut recorder = Recorder::with_free_space(options.clone(), free);
        recorder.write(&ramp(0), at(1)).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&options.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 7);
        assert!(left.iter().any(|name| name.starts_with("fan-10_")) && left.iter().any(|name| name.contains("notes")));
        assert!(
            !left
                .iter()
                .any(|name| name == "fan-1_20200101T000000.000Z.wav" || name == "fan-1_20200101T010000.000Z.wav")
        );
    }

    #[test]
    fn another_recording_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let record = || {
            let mut recorder = Recorder::with_free_space(options(dir.path()), |_| Ok(u64::MAX));
            recorder.write(&ramp(0), at(1)).map(|_| recorder.close().unwrap())
        };
        record().unwrap();
        let error = crate::causes::with_causes(&record().unwrap_err());
        assert!(error.contains("fan-1_20270115T080000.000Z.wav: ") && error.contains("exists"), "{error}");
    }

    #[test]
    fn the_free_space_is_known() {
        assert!(free_space(&std::env::temp_dir()).unwrap() > 0);
        assert_eq!(nearest_existing(Path::new("no/such/dir")), Some(Path::new(".")));
    }
}
