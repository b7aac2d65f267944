//! WAV files in memory: mono, 16 bits.

use std::io::Cursor;

/// The file's bytes.
///
/// # Errors
/// More sound than a WAV file can hold.
pub fn to_bytes(samples: &[i16], rate_hz: u32) -> Result<Vec<u8>, hound::Error> {
    let (channels, bits_per_sample, sample_format) = (1, 16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels, sample_rate: rate_hz, bits_per_sample, sample_format };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    samples.iter().try_for_each(|sample| writer.write_sample(*sample))?;
    writer.finalize()?;
    Ok(bytes.into_inner())
}

/// Samples and rate of a file that [`to_bytes`] has made.
///
/// # Errors
/// Another file.
pub fn from_bytes(bytes: &[u8]) -> Result<(Vec<i16>, u32), hound::Error> {
    let reader = hound::WavReader::new(Cursor::new(bytes))?;
    let rate_hz = reader.spec().sample_rate;
    Ok((reader.into_samples::<i16>().collect::<Result<_, _>>()?, rate_hz))
}

/// A sample of 1 at full scale as one of 16 bits.
pub fn to_16_bits(sample: f32) -> i16 {
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

/// The other way round; exact.
pub fn from_16_bits(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

/// The same of many.
pub fn to_floats(samples: &[i16]) -> Vec<f32> {
    samples.iter().copied().map(from_16_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let samples: Vec<i16> = vec![0, i16::MAX, i16::MIN, -1, 7];
        let bytes = to_bytes(&samples, 22_050).expect("written");
        assert_eq!(from_bytes(&bytes).expect("read"), (samples, 22_050));
        assert!(from_bytes(b"something else").is_err());
    }
}
