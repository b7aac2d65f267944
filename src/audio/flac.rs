//! FLAC files in memory: mono, 16 bits, without loss.

use std::io::Cursor;

use flac_codec::decode::FlacSampleReader;
use flac_codec::encode::{FlacSampleWriter, Options};
use flac_codec::metadata::Metadata as _;

/// Samples that are decoded at a time.
const CHUNK: usize = 1 << 14;
/// Longest sound that is decoded: ten minutes at the highest rate.
const MOST_SAMPLES: usize = 600 * 192_000;

/// What cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum FlacError {
    #[error("FLAC: {0}")]
    Codec(#[from] flac_codec::Error),
    #[error("FLAC: expected mono with 16 bits, found {channels} channels with {bits} bits")]
    Format { channels: u8, bits: u32 },
    #[error("FLAC: expected at most {MOST_SAMPLES} samples, found more")]
    TooLong,
}

/// The file's bytes.
///
/// # Errors
/// No samples, or a rate that FLAC does not have.
pub fn encode(samples: &[i16], rate_hz: u32) -> Result<Vec<u8>, FlacError> {
    let mut file = Cursor::new(Vec::new());
    let options = Options::default().no_padding();
    let mut writer = FlacSampleWriter::new(&mut file, options, rate_hz, 16, 1, Some(samples.len() as u64))?;
    let mut wide = Vec::with_capacity(CHUNK);
    for chunk in samples.chunks(CHUNK) {
        wide.clear();
        wide.extend(chunk.iter().map(|&sample| i32::from(sample)));
        writer.write(&wide)?;
    }
    writer.finalize()?;
    Ok(file.into_inner())
}

/// Samples and rate of a file's bytes.
///
/// # Errors
/// What is no FLAC file, or another than [`encode`] makes.
pub fn decode(bytes: &[u8]) -> Result<(Vec<i16>, u32), FlacError> {
    let mut reader = FlacSampleReader::new(Cursor::new(bytes))?;
    let metadata = reader.metadata();
    let (channels, bits, rate_hz) = (metadata.channel_count(), metadata.bits_per_sample(), metadata.sample_rate());
    if (channels, bits) != (1, 16) {
        return Err(FlacError::Format { channels, bits });
    }
    let (mut samples, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            return Ok((samples, rate_hz));
        }
        if samples.len() + count > MOST_SAMPLES {
            return Err(FlacError::TooLong);
        }
        samples.extend(chunk[..count].iter().map(|&sample| sample as i16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::compressed::{CompressedReader, Kind};

    fn sound(samples: usize) -> Vec<i16> {
        let hum = |n: usize| 9000.0 * (n as f64 * 0.05).sin() + 3000.0 * (n as f64 * 1.7).sin();
        (0..samples).map(|n| hum(n) as i16).collect()
    }

    #[test]
    fn what_was_encoded_is_decoded_sample_by_sample() {
        for samples in [1, 15, 4096, 100_003] {
            let mut sound = sound(samples);
            sound[samples / 2] = i16::MIN;
            let bytes = encode(&sound, 16_000).expect("encoded");
            assert_eq!(decode(&bytes).expect("decoded"), (sound, 16_000), "{samples} samples");
        }
        assert!(encode(&[], 16_000).is_err());
        assert!(decode(b"RIFF and something else").is_err());
    }

    #[test]
    fn other_programs_read_it_and_it_is_smaller() {
        let sound = sound(50_000);
        let bytes = encode(&sound, 16_000).expect("encoded");
        assert!(bytes.len() < sound.len(), "{} bytes for {} samples", bytes.len(), sound.len());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("sound.flac");
        std::fs::write(&path, &bytes).expect("written");
        let mut reader = CompressedReader::open(&path, Kind::of(&bytes).expect("FLAC")).expect("readable");
        let mut read = Vec::new();
        while reader.read(&mut read).expect("whole") > 0 {}
        let read: Vec<i16> = read.iter().map(|sample| (sample * 32_768.0).round() as i16).collect();
        assert_eq!(read, sound);
    }
}
