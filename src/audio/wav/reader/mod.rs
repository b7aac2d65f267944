//! Reading of WAV files in blocks, whatever their size says: RIFF, RF64, WAVE_FORMAT_EXTENSIBLE, integer and float.
//!
//! Not by a crate: `hound` stumbles over chunks of odd length, over headers that a recorder could not go back to, over
//! 64-bit float and RF64, and cannot say what it expected.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use auscult_signal::push_i16;

use crate::audio::source::{Format, SourceError, SourceProblem};
use crate::window::RATES_HZ;

/// Most channels that are read.
pub const MAX_CHANNELS: usize = 32;

/// Frames that one read brings at most.
const BLOCK_FRAMES: usize = 4096;

/// Lengths from here on are no lengths but what recorders write that do not know it yet (`sox`, `ffmpeg`, `arecord`
/// into a pipe, or cut off): the sound then goes on to the end of the file.
const UNKNOWN_LENGTH: u64 = 0x7fff_f000;

/// An opened WAV file.
pub struct WavReader {
    path: PathBuf,
    reader: BufReader<File>,
    format: Format,
    sample: Sample,
    /// Frames that the header promises; `None` where it does not know.
    frames: Option<u64>,
    frames_read: u64,
    ended: bool,
    bytes: Vec<u8>,
}

/// How one sample is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sample {
    /// 8 bits, unsigned.
    Byte,
    /// Signed, of `bytes` bytes; to be shifted left by `shift` bits to fill 32.
    Int {
        bytes: usize,
        shift: u32,
    },
    Float,
    Double,
}

impl Sample {
    fn bytes(self) -> usize {
        match self {
            Sample::Byte => 1,
            Sample::Int { bytes, .. } => bytes,
            Sample::Float => 4,
            Sample::Double => 8,
        }
    }
}

impl WavReader {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// `Data`, naming the file, what was expected and what was found.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |error: io::Error| SourceError::Data(SourceProblem::of(path.display(), error));
        let wrong = |problem: String| SourceError::Data(format!("{}: {problem}", path.display()).into());
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(wrong("expected a WAV file, found a directory".into()));
        }
        let file = File::open(path).map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let header = read_header(&mut reader).map_err(wrong)?;
        // A header promises what it likes; what a regular file can hold is known.
        let mut frames = header.data_bytes.map(|bytes| bytes / header.frame_bytes() as u64);
        if metadata.is_file() && header.data_bytes.is_some_and(|bytes| bytes >= UNKNOWN_LENGTH) {
            let here = reader.stream_position().map_err(unreadable)?;
            if header.data_bytes.is_some_and(|bytes| bytes > metadata.len().saturating_sub(here)) {
                frames = None;
            }
        }
        Ok(WavReader {
            path: path.to_owned(),
            reader,
            format: header.format,
            sample: header.sample,
            frames,
            frames_read: 0,
            ended: false,
            bytes: vec![0; BLOCK_FRAMES * header.frame_bytes()],
        })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Appends the next frames to `samples`, interleaved, full scale is 1, and says how many they are; 0 at the end.
    /// Samples that are not finite are passed on.
    ///
    /// # Errors
    /// `Data` where the file ends before what its header promises; all whole frames have been given before.
    pub fn read(&mut self, samples: &mut Vec<f32>) -> Result<usize, SourceError> {
        if self.ended {
            return Ok(0);
        }
        let frame_bytes = self.sample.bytes() * self.format.channels;
        let left = self.frames.map_or(u64::MAX, |frames| frames - self.frames_read);
        let wanted = left.min(BLOCK_FRAMES as u64) as usize;
        let bytes = &mut self.bytes[..wanted * frame_bytes];
        let filled = fill(&mut self.reader, bytes)
            .map_err(|error| SourceError::Data(SourceProblem::of(self.path.display(), error)))?;
        let frames = filled / frame_bytes;
        decode(self.sample, &bytes[..frames * frame_bytes], samples);
        self.frames_read += frames as u64;
        if frames == 0 {
            self.ended = true;
            if let Some(promised) = self.frames
                && promised > self.frames_read
            {
                let (path, found) = (self.path.display(), self.frames_read);
                let problem = format!("{path}: truncated: expected {promised} frames, found {found}");
                return Err(SourceError::Data(problem.into()));
            }
        }
        Ok(frames)
    }
}

/// How files begin that are taken for WAV files, and what they are.
const KNOWN: [(&[u8], &str); 4] =
    [(b"RIFF", "RIFF without WAVE"), (b"OggS", "an Ogg file"), (b"fLaC", "a FLAC file"), (b"ID3", "an MP3 file")];

struct Header {
    format: Format,
    sample: Sample,
    data_bytes: Option<u64>,
}

impl Header {
    fn frame_bytes(&self) -> usize {
        self.sample.bytes() * self.format.channels
    }
}

/// Walks the chunks up to the samples.
fn read_header(reader: &mut impl Read) -> Result<Header, String> {
    let mut riff = [0; 12];
    let found = fill(reader, &mut riff).map_err(|error| error.to_string())?;
    if found == 0 {
        return Err("expected a WAV file, found an empty one".into());
    }
    let (kind, form) = (&riff[..4], &riff[8..]);
    if found < riff.len() || !matches!(kind, b"RIFF" | b"RF64") || form != b"WAVE" {
        // Nothing else of what is in it: a command may name any file.
        let begins = |magic: &(&[u8], &'static str)| riff[..found].starts_with(magic.0).then_some(magic.1);
        let found = KNOWN.iter().find_map(begins).unwrap_or("another kind of file");
        return Err(format!("expected a WAV file (RIFF ... WAVE), found {found}"));
    }
    let unfinished = matches!(u64::from(u32_at(&riff, 4)), 0 | UNKNOWN_LENGTH..);
    let (mut long_data_bytes, mut layout) = (None, None);
    loop {
        let mut head = [0; 8];
        if fill(reader, &mut head).map_err(|error| error.to_string())? < head.len() {
            let missing = if layout.is_none() { "\"fmt \"" } else { "\"data\"" };
            return Err(format!("expected a chunk {missing}, found the end of the file"));
        }
        let bytes = u64::from(u32_at(&head, 4));
        match &head[..4] {
            b"data" => {
                let (format, sample) = layout.ok_or("expected a chunk \"fmt \" before \"data\", found none")?;
                let data_bytes = match long_data_bytes {
                    Some(long) if bytes == u64::from(u32::MAX) => Some(long),
                    _ if bytes == 0 && unfinished => None,
                    _ => Some(bytes),
                };
                return Ok(Header { format, sample, data_bytes });
            }
            b"fmt " => {
                let body = chunk_start(reader, bytes)?;
                layout = Some(read_format(&body)?);
            }
            b"ds64" => {
                let body = chunk_start(reader, bytes)?;
                let long = body.get(8..16).and_then(|long| long.try_into().ok());
                long_data_bytes = Some(u64::from_le_bytes(long.ok_or("expected a chunk \"ds64\" of 28 bytes")?));
            }
            _ => skip(reader, bytes + bytes % 2)?,
        }
    }
}

/// The first bytes of a chunk, up to the 40 that the longest known format has; the rest is skipped.
fn chunk_start(reader: &mut impl Read, bytes: u64) -> Result<Vec<u8>, String> {
    let mut body = vec![0; bytes.min(40) as usize];
    if fill(reader, &mut body).map_err(|error| error.to_string())? < body.len() {
        return Err("expected the rest of the header, found the end of the file".into());
    }
    skip(reader, bytes - body.len() as u64 + bytes % 2)?;
    Ok(body)
}

/// The chunk `fmt `: WAVEFORMAT, WAVEFORMATEX or WAVEFORMATEXTENSIBLE.
fn read_format(body: &[u8]) -> Result<(Format, Sample), String> {
    if body.len() < 16 {
        return Err(format!("expected a chunk \"fmt \" of at least 16 bytes, found {}", body.len()));
    }
    let (mut tag, channels, rate_hz) = (u16_at(body, 0), usize::from(u16_at(body, 2)), u32_at(body, 4));
    let (frame_bytes, bits) = (usize::from(u16_at(body, 12)), usize::from(u16_at(body, 14)));
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(format!("expected 1 to {MAX_CHANNELS} channels, found {channels}"));
    }
    if !RATES_HZ.contains(&rate_hz) {
        let (least, most) = (RATES_HZ.start(), RATES_HZ.end());
        return Err(format!("expected a rate of {least} to {most} Hz, found {rate_hz} Hz"));
    }
    if tag == 0xfffe {
        // The sub-format is a GUID that begins with the tag and goes on as every tag's does.
        let tail = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
        if body.get(26..40) != Some(&tail) {
            return Err("expected a WAVE_FORMAT_EXTENSIBLE of integers or floats, found another sub-format".into());
        }
        tag = u16_at(body, 24);
    }
    let bytes = frame_bytes / channels;
    let sample = match (tag, bits, bytes) {
        _ if frame_bytes % channels != 0 => None,
        (1, 1..=8, 1) => Some(Sample::Byte),
        // Fewer bits than the container has are its upper ones, unless whole bytes of it are left out.
        (1, 1.., 2..=4) if bits <= 8 * bytes => {
            Some(Sample::Int { bytes, shift: 32 - 8 * (bits.div_ceil(8).max(2)) as u32 })
        }
        (3, 32, 4) => Some(Sample::Float),
        (3, 64, 8) => Some(Sample::Double),
        _ => None,
    };
    let sample = sample.ok_or_else(|| {
        let kind = match tag {
            1 => "integer".into(),
            3 => "float".into(),
            2 | 17 => "ADPCM".into(),
            6 => "A-law".into(),
            7 => "mu-law".into(),
            0x55 => "MP3".into(),
            other => format!("format {other:#06x}"),
        };
        format!("expected 8 to 32-bit integer or 32 or 64-bit float, found {bits}-bit {kind} in {bytes} bytes")
    })?;
    Ok((Format { rate_hz, channels }, sample))
}

fn decode(sample: Sample, bytes: &[u8], samples: &mut Vec<f32>) {
    const FULL_SCALE: f32 = 1.0 / (1u32 << 31) as f32;
    match sample {
        Sample::Byte => samples.extend(bytes.iter().map(|&byte| (f32::from(byte) - 128.0) / 128.0)),
        // What nearly every file holds, without a loop over the bytes of each sample.
        Sample::Int { bytes: 2, .. } => push_i16(bytes, samples),
        Sample::Int { bytes: width, shift } => samples.extend(bytes.chunks_exact(width).map(|stored| {
            let mut word = [0; 4];
            word[..width].copy_from_slice(stored);
            (i32::from_le_bytes(word) << shift) as f32 * FULL_SCALE
        })),
        Sample::Float => samples.extend(bytes.as_chunks().0.iter().map(|&stored| f32::from_le_bytes(stored))),
        Sample::Double => samples.extend(bytes.as_chunks().0.iter().map(|&stored| f64::from_le_bytes(stored) as f32)),
    }
}

/// Reads until `bytes` is full or the file ends; how many came.
fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn skip(reader: &mut impl Read, bytes: u64) -> Result<(), String> {
    io::copy(&mut reader.take(bytes), &mut io::sink()).map(|_| ()).map_err(|error| error.to_string())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
