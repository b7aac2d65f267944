//! Reading of FLAC, Ogg Vorbis and MP3 in blocks: recordings as phones and recorders make them.
//!
//! The decoders are symphonia's. They see the sound alone: tags, pictures and cue sheets, which may be long and are of no
//! use here, are skipped before.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use symphonia::core::codecs::audio::well_known::{CODEC_ID_OPUS, CODEC_ID_VORBIS};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::default::formats::{FlacReader, MpaReader, OggReader};

use super::source::{Format, SourceError, SourceProblem};
use crate::audio::wav::MAX_CHANNELS;
use crate::window::RATES_HZ;

/// Sound that one file may hold, s: a few bytes of FLAC can stand for hours of silence.
const MOST_S: u64 = 48 * 3600;
/// Packets in a row that may be without sound: headers, tags, and what an MP3 begins with.
const MOST_EMPTY: u32 = 1000;

/// What a file holds, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Flac,
    Ogg,
    Mp3,
    /// Sound that is not read, and what it is called.
    Other(&'static str),
}

impl Kind {
    /// `None` where the bytes are none of what is known.
    pub fn of(start: &[u8]) -> Option<Kind> {
        let at = |from: usize, magic: &[u8]| start.get(from..from + magic.len()) == Some(magic);
        Some(match start {
            _ if at(0, b"fLaC") => Kind::Flac,
            _ if at(0, b"OggS") => Kind::Ogg,
            _ if at(0, b"ID3") => Kind::Mp3,
            // The sync word of an MPEG frame of layer 3.
            [0xff, second, ..] if second & 0xe6 == 0xe2 => Kind::Mp3,
            // The same of AAC, which calls itself layer 0.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Kind::Other("AAC"),
            _ if at(4, b"ftyp") => Kind::Other("M4A or MP4"),
            _ if at(0, b"FORM") => Kind::Other("AIFF"),
            _ if at(0, b"caff") => Kind::Other("CAF"),
            _ if at(0, b"#!AMR") => Kind::Other("AMR"),
            _ if at(0, &[0x30, 0x26, 0xb2, 0x75]) => Kind::Other("WMA"),
            _ if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) => Kind::Other("Matroska or WebM"),
            _ if at(0, b"MAC ") => Kind::Other("Monkey's Audio"),
            _ if at(0, b"wvpk") => Kind::Other("WavPack"),
            _ => return None,
        })
    }
}

/// Endings of files that are read, in lower case, without those of WAV.
pub const ENDINGS: [&str; 4] = ["flac", "ogg", "oga", "mp3"];

/// An opened file.
pub struct CompressedReader {
    path: PathBuf,
    demuxer: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    format: Format,
    /// Frames that the header promises, where it must keep to that.
    promised: Option<u64>,
    frames_read: u64,
    ended: bool,
    samples: Vec<f32>,
}

/// What is wrong with a file; its name is put before it.
type Problem = SourceProblem;

impl CompressedReader {
    /// Opens a file of this kind.
    ///
    /// # Errors
    /// `Data`, naming the file, what was expected and what was found.
    pub fn open(path: &Path, kind: Kind) -> Result<CompressedReader, SourceError> {
        let wrong = |problem: Problem| SourceError::Data(SourceProblem::of(path.display(), problem));
        let file = File::open(path).map_err(|error| SourceError::Data(SourceProblem::of(path.display(), error)))?;
        let source = BufReader::with_capacity(1 << 16, file);
        CompressedReader::new(source, kind, path).map_err(wrong)
    }

    /// Reads what is in `source`; `path` is what messages call it.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn new(
        source: impl Read + Send + Sync + 'static,
        kind: Kind,
        path: &Path,
    ) -> Result<CompressedReader, Problem> {
        let (demuxer, promised) = demuxer(source, kind, path)?;
        let (track, codec) = {
            let track = demuxer.default_track(TrackType::Audio).ok_or("expected sound, found none")?;
            let codec = track.codec_params.as_ref().and_then(|codec| codec.audio()).cloned();
            (track.id, codec.ok_or("expected sound of a known kind, found none")?)
        };
        if codec.codec == CODEC_ID_OPUS {
            return Err(not_read("Ogg Opus", path).into());
        }
        if kind == Kind::Ogg && codec.codec != CODEC_ID_VORBIS {
            return Err(not_read("Ogg with another codec than Vorbis", path).into());
        }
        let format = format_of(&codec)?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(&codec, &AudioDecoderOptions::default())
            .map_err(described)?;
        Ok(CompressedReader {
            path: path.to_owned(),
            demuxer,
            decoder,
            track,
            format,
            promised,
            frames_read: 0,
            ended: false,
            samples: Vec::new(),
        })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Appends the next frames to `samples`, interleaved, full scale is 1, and says how many they are; 0 at the end.
    ///
    /// # Errors
    /// `Data` where the file is damaged or ends before what its header promises; what came before has been given.
    pub fn read(&mut self, samples: &mut Vec<f32>) -> Result<usize, SourceError> {
        if self.ended {
            return Ok(0);
        }
        match self.next_block(samples) {
            Ok(0) => {
                self.ended = true;
                match self.promised.filter(|promised| *promised > self.frames_read) {
                    Some(promised) => {
                        let found = self.frames_read;
                        Err(self.wrong(format!("truncated: expected {promised} frames, found {found}").into()))
                    }
                    None => Ok(0),
                }
            }
            Ok(frames) => Ok(frames),
            Err(problem) => {
                self.ended = true;
                Err(self.wrong(problem))
            }
        }
    }

    fn wrong(&self, problem: Problem) -> SourceError {
        SourceError::Data(SourceProblem::of(self.path.display(), problem))
    }

    fn next_block(&mut self, samples: &mut Vec<f32>) -> Result<usize, Problem> {
        for _ in 0..MOST_EMPTY {
            let packet = match self.demuxer.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(0),
                Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(Error::ResetRequired) => return Err("expected one stream of sound, found another after it".into()),
                Err(error) => return Err(described(error)),
            };
            if packet.track_id != self.track {
                continue;
            }
            let decoded = match self.decoder.decode(&packet) {
                Ok(decoded) => decoded,
                // The first frames of an MP3 may lean on ones that were cut off before it.
                Err(Error::DecodeError(_)) if self.frames_read == 0 => continue,
                Err(error) => return Err(described(error)),
            };
            let spec = decoded.spec();
            let found = Format { rate_hz: spec.rate(), channels: spec.channels().count() };
            if found != self.format {
                let Format { rate_hz, channels } = self.format;
                let problem = format!(
                    "expected {rate_hz} Hz and {channels} channels throughout, found {} Hz and {} channels further on",
                    found.rate_hz, found.channels
                );
                return Err(problem.into());
            }
            let frames = decoded.frames();
            if frames == 0 {
                continue;
            }
            decoded.copy_to_vec_interleaved(&mut self.samples);
            samples.extend_from_slice(&self.samples);
            self.frames_read += frames as u64;
            if self.frames_read > MOST_S * u64::from(self.format.rate_hz) {
                return Err(format!("expected at most {} h of sound, found more", MOST_S / 3600).into());
            }
            return Ok(frames);
        }
        Err(format!("expected sound, found {MOST_EMPTY} packets without any").into())
    }
}

/// What to do about sound that is not read.
pub fn not_read(what: &str, path: &Path) -> String {
    let wav = path.with_extension("wav");
    format!(
        "expected WAV, FLAC, Ogg Vorbis or MP3, found {what}; `ffmpeg -i {} {}` converts it",
        path.display(),
        wav.display()
    )
}

/// What takes the file apart, and the frames that it promises.
fn demuxer(
    mut source: impl Read + Send + Sync + 'static,
    kind: Kind,
    path: &Path,
) -> Result<(Box<dyn FormatReader>, Option<u64>), Problem> {
    let options = FormatOptions::default();
    match kind {
        Kind::Flac => {
            let (head, frames) = flac_head(&mut source)?;
            let stream = stream(Cursor::new(head).chain(source));
            Ok((Box::new(FlacReader::try_new(stream, options).map_err(described)?), frames))
        }
        Kind::Ogg => Ok((Box::new(OggReader::try_new(stream(source), options).map_err(described)?), None)),
        Kind::Mp3 => {
            let head = skip_id3(&mut source)?;
            let stream = stream(Cursor::new(head).chain(source));
            Ok((Box::new(MpaReader::try_new(stream, options).map_err(described)?), None))
        }
        Kind::Other(what) => Err(not_read(what, path).into()),
    }
}

fn stream(source: impl Read + Send + Sync + 'static) -> MediaSourceStream<'static> {
    MediaSourceStream::new(Box::new(ReadOnlySource::new(source)), Default::default())
}

/// The head of a FLAC file without tags and pictures, and the frames that it promises.
fn flac_head(source: &mut impl Read) -> Result<(Vec<u8>, Option<u64>), Problem> {
    const STREAM_INFO: usize = 34;
    let mut head = vec![0; 4 + 4 + STREAM_INFO];
    exact(source, &mut head)?;
    let [kind, long, longer, length] = [head[4], head[5], head[6], head[7]];
    if &head[..4] != b"fLaC"
        || kind & 0x7f != 0
        || [long, longer, usize::from(length) as u8] != [0, 0, STREAM_INFO as u8]
    {
        return Err("expected a FLAC file that begins with its stream's properties, found another".into());
    }
    let mut is_last = kind & 0x80 != 0;
    while !is_last {
        let mut block = [0; 4];
        exact(source, &mut block)?;
        is_last = block[0] & 0x80 != 0;
        let length = u32::from_be_bytes([0, block[1], block[2], block[3]]);
        skip(source, u64::from(length))?;
    }
    head[4] = 0x80;
    // 36 bits; 0 means that the encoder did not know.
    let info = &head[8..];
    let frames =
        u64::from(info[13] & 0x0f) << 32 | u64::from(u32::from_be_bytes([info[14], info[15], info[16], info[17]]));
    Ok((head, Some(frames).filter(|frames| *frames > 0)))
}

/// The first bytes after tags of the kind ID3v2.
fn skip_id3(source: &mut impl Read) -> Result<Vec<u8>, Problem> {
    loop {
        let mut head = vec![0; 10];
        exact(source, &mut head)?;
        if &head[..3] != b"ID3" {
            return Ok(head);
        }
        // Seven bits in each byte; a footer repeats the head.
        let length = head[6..].iter().fold(0u64, |length, byte| length << 7 | u64::from(byte & 0x7f));
        skip(source, length + if head[5] & 0x10 != 0 { 10 } else { 0 })?;
    }
}

fn exact(source: &mut impl Read, bytes: &mut [u8]) -> Result<(), Problem> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "expected sound, found the end of the file".into(),
        _ => SourceProblem::from(error.to_string()),
    })
}

fn skip(source: &mut impl Read, bytes: u64) -> Result<(), Problem> {
    io::copy(&mut source.take(bytes), &mut io::sink()).map(|_| ()).map_err(|error| error.to_string().into())
}

/// Rate and channels, where they are ones that are read.
fn format_of(codec: &AudioCodecParameters) -> Result<Format, Problem> {
    let rate_hz = codec.sample_rate.ok_or("expected a rate, found none")?;
    let channels = codec.channels.as_ref().map_or(0, |channels| channels.count());
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(format!("expected 1 to {MAX_CHANNELS} channels, found {channels}").into());
    }
    if !RATES_HZ.contains(&rate_hz) {
        let (least, most) = (RATES_HZ.start(), RATES_HZ.end());
        return Err(format!("expected a rate of {least} to {most} Hz, found {rate_hz} Hz").into());
    }
    Ok(Format { rate_hz, channels })
}

/// symphonia's words, as the end of ours.
fn described(error: Error) -> Problem {
    format!("damaged: {error}").into()
}
