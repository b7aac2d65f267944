//! A file of sound, whatever it is: WAV, FLAC, Ogg Vorbis or MP3.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::compressed::{CompressedReader, ENDINGS, Kind};
use super::source::{Format, SourceError};
use super::wav::WavReader;

/// An opened file of sound.
pub enum SoundFile {
    Wav(Box<WavReader>),
    Compressed(Box<CompressedReader>),
}

impl SoundFile {
    /// Opens `path` as what its first bytes say that it is, whatever its name says.
    ///
    /// # Errors
    /// `Data`, naming the file, what was expected and what was found.
    pub fn open(path: &Path) -> Result<SoundFile, SourceError> {
        match kind_of(path) {
            Some(kind) => CompressedReader::open(path, kind).map(|reader| SoundFile::Compressed(Box::new(reader))),
            None => WavReader::open(path).map(|reader| SoundFile::Wav(Box::new(reader))),
        }
    }

    pub fn format(&self) -> Format {
        match self {
            SoundFile::Wav(reader) => reader.format(),
            SoundFile::Compressed(reader) => reader.format(),
        }
    }

    /// Appends the next frames to `samples`, interleaved, full scale is 1, and says how many they are; 0 at the end.
    ///
    /// # Errors
    /// `Data` where the file is damaged or ends before what its header promises; what came before has been given.
    pub fn read(&mut self, samples: &mut Vec<f32>) -> Result<usize, SourceError> {
        match self {
            SoundFile::Wav(reader) => reader.read(samples),
            SoundFile::Compressed(reader) => reader.read(samples),
        }
    }
}

/// What the file is, where it is no WAV file. A pipe is always one: what is read from it is gone.
fn kind_of(path: &Path) -> Option<Kind> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    File::open(path).ok()?.take(16).read_to_end(&mut start).ok()?;
    Kind::of(&start)
}

/// By its name, `path` is a file of sound that is read.
pub fn has_known_ending(path: &Path) -> bool {
    let Some(ending) = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()) else { return false };
    ending == "wav" || ENDINGS.contains(&ending.as_str())
}
