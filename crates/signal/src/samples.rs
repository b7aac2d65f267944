//! From samples as a file stores them to the mean of their channels.

/// Appends whole numbers of 16 bits, little-endian, as parts of full scale.
pub fn push_i16(bytes: &[u8], samples: &mut Vec<f32>) {
    let stored = bytes.as_chunks().0.iter();
    samples.extend(stored.map(|&stored| f32::from(i16::from_le_bytes(stored)) * (1.0 / 32_768.0)));
}

/// Appends the mean of each frame's channels.
pub fn push_means(frames: &[f32], channels: usize, means: &mut Vec<f32>) {
    let frames = frames.chunks_exact(channels.max(1));
    means.extend(frames.map(|frame| frame.iter().sum::<f32>() / frame.len() as f32));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_parts_of_full_scale_and_channels_are_averaged() {
        let mut samples = Vec::new();
        push_i16(&[0x00, 0x80, 0x00, 0x40, 0xff, 0xff, 9], &mut samples);
        assert_eq!(samples, [-1.0, 0.5, -1.0 / 32_768.0]);
        let mut means = vec![7.0];
        push_means(&[0.25, 0.75, -1.0, 1.0, 0.5], 2, &mut means);
        assert_eq!(means, [7.0, 0.5, 0.0]);
    }
}
