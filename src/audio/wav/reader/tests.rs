use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A file of chunks under a RIFF head of the right length.
fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WAVE".to_vec();
    for (name, content) in chunks {
        body.extend(*name);
        body.extend((content.len() as u32).to_le_bytes());
        body.extend(*content);
        body.extend(vec![0; content.len() % 2]);
    }
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}

fn fmt(tag: u16, channels: u16, rate_hz: u32, bytes: u16, bits: u16) -> Vec<u8> {
    let frame_bytes = bytes.wrapping_mul(channels);
    let mut fmt = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    fmt.extend(rate_hz.to_le_bytes());
    fmt.extend(rate_hz.wrapping_mul(u32::from(frame_bytes)).to_le_bytes());
    fmt.extend([frame_bytes.to_le_bytes(), bits.to_le_bytes()].concat());
    fmt
}

/// All that comes out of `bytes`, and how it ended.
fn read(bytes: &[u8]) -> (Vec<f32>, Result<Format, String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    std::fs::write(&path, bytes).unwrap();
    let mut samples = Vec::new();
    let mut reader = match WavReader::open(&path) {
        Ok(reader) => reader,
        Err(error) => return (samples, Err(error.to_string())),
    };
    loop {
        match reader.read(&mut samples) {
            Ok(0) => return (samples, Ok(reader.format())),
            Ok(_) => {}
            Err(error) => return (samples, Err(error.to_string())),
        }
    }
}

#[test]
fn every_depth_has_full_scale_one() {
    /// Tag, bytes a sample, bits, data.
    type Stored = (u16, u16, u16, &'static [u8]);
    let cases: [(Stored, &[f32]); 9] = [
        ((1, 1, 8, &[0, 128, 255, 128]), &[-1.0, 0.0, 127.0 / 128.0, 0.0]),
        ((1, 2, 16, &[0, 0x80, 0, 0x40]), &[-1.0, 0.5]),
        ((1, 2, 12, &[0, 0x80, 0, 0x40]), &[-1.0, 0.5]),
        ((1, 3, 24, &[0, 0, 0x80, 0, 0, 0x40]), &[-1.0, 0.5]),
        ((1, 4, 32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40]), &[-1.0, 0.5]),
        ((1, 4, 24, &[0, 0, 0x80, 0xff, 0, 0, 0x40, 0]), &[-1.0, 0.5]),
        ((1, 4, 24, &[0, 0, 0x80, 0, 0, 0, 0x40, 0]), &[-1.0, 0.5]),
        ((3, 4, 32, &[0, 0, 0, 0x3f, 0, 0, 0x80, 0x7f]), &[0.5, f32::INFINITY]),
        ((3, 8, 64, &[0, 0, 0, 0, 0, 0, 0xe0, 0x3f]), &[0.5]),
    ];
    for ((tag, bytes, bits, data), expected) in cases {
        let (samples, end) = read(&riff(&[(b"fmt ", &fmt(tag, 1, 16_000, bytes, bits)), (b"data", data)]));
        assert_eq!((samples.as_slice(), end.is_ok()), (expected, true), "{tag} {bytes} {bits}: {end:?}");
    }
}

#[test]
fn other_chunks_are_passed_over_odd_ones_too() {
    let fmt = fmt(1, 2, 48_000, 2, 16);
    let (samples, end) =
        read(&riff(&[(b"LIST", b"odd"), (b"fmt ", &fmt), (b"fact", &[0; 4]), (b"data", &[0, 0x40, 0, 0xc0])]));
    assert_eq!(samples, [0.5, -0.5]);
    assert_eq!(end, Ok(Format { rate_hz: 48_000, channels: 2 }));
}

#[test]
fn rf64_has_its_length_elsewhere() {
    let mut long = vec![0; 28];
    long[8] = 4;
    let mut file =
        riff(&[(b"ds64", &long), (b"fmt ", &fmt(1, 1, 16_000, 2, 16)), (b"data", &[0, 0x40, 0, 0xc0, 9, 9])]);
    file[..4].copy_from_slice(b"RF64");
    file[4..8].fill(0xff);
    let length_at = file.len() - 10;
    file[length_at..length_at + 4].fill(0xff);
    let (samples, end) = read(&file);
    assert_eq!((samples.as_slice(), end.is_ok()), ([0.5, -0.5].as_slice(), true));
}

#[test]
fn a_length_never_filled_in_means_to_the_end() {
    for (riff_length, data_length) in [(u32::MAX, u32::MAX), (0, 0), (0x7fff_f024, 0x7fff_f000)] {
        let mut file = riff(&[(b"fmt ", &fmt(1, 1, 16_000, 2, 16)), (b"data", &[0, 0x40, 0, 0xc0, 1])]);
        file.pop();
        file[4..8].copy_from_slice(&riff_length.to_le_bytes());
        let length_at = file.len() - 9;
        file[length_at..length_at + 4].copy_from_slice(&data_length.to_le_bytes());
        let (samples, end) = read(&file);
        assert_eq!((samples.as_slice(), end.is_ok()), ([0.5, -0.5].as_slice(), true));
    }
}

#[test]
fn what_is_wrong_is_one_line() {
    let sound = |fmt: &[u8]| riff(&[(b"fmt ", fmt), (b"data", &[0; 8])]);
    let good = fmt(1, 1, 16_000, 2, 16);
    let mut truncated = riff(&[(b"fmt ", &good), (b"data", &[1; 2000])]);
    truncated.truncate(1001);
    let mut extensible = fmt(0xfffe, 1, 16_000, 2, 16);
    extensible.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
    extensible.extend([7; 14]);
    let cases: [(Vec<u8>, &str); 17] = [
        (vec![], "found an empty one"),
        (b"RIFF".to_vec(), "found RIFF without WAVE"),
        (b"OggS and something else".to_vec(), "found an Ogg file"),
        (b"a password".to_vec(), "found another kind of file"),
        (riff(&[]), "expected a chunk \"fmt \", found the end"),
        (riff(&[(b"fmt ", &good)]), "expected a chunk \"data\", found the end"),
        (riff(&[(b"data", &[0; 4])]), "expected a chunk \"fmt \" before"),
        (riff(&[(b"fmt ", &good[..14])]), "at least 16 bytes, found 14"),
        (sound(&fmt(1, 0, 16_000, 2, 16)), "1 to 32 channels, found 0"),
        (sound(&fmt(1, 33, 16_000, 2, 16)), "1 to 32 channels, found 33"),
        (sound(&fmt(1, 1, 0, 2, 16)), "found 0 Hz"),
        (sound(&fmt(1, 1, u32::MAX, 2, 16)), "found 4294967295 Hz"),
        (sound(&fmt(1, 1, 16_000, 0, 16)), "found 16-bit integer in 0 bytes"),
        (sound(&fmt(2, 1, 16_000, 1, 4)), "found 4-bit ADPCM"),
        (sound(&fmt(3, 1, 16_000, 2, 16)), "found 16-bit float"),
        (sound(&extensible), "found another sub-format"),
        (truncated, "truncated: expected 1000 frames, found 478"),
    ];
    for (file, expected) in cases {
        let (_, end) = read(&file);
        let error = end.expect_err(expected);
        assert!(error.contains(expected) && error.contains("a.wav: ") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn no_file_makes_it_panic() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut next = || rng.next_u32() as usize;
    let good = riff(&[(b"LIST", b"odd"), (b"fmt ", &fmt(1, 2, 16_000, 2, 16)), (b"data", &[5; 64])]);
    for _ in 0..1000 {
        let mut file = good.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % file.len();
            file[at] = next() as u8;
        }
        file.truncate(next() % (file.len() + 1) + 40);
        let (samples, _) = read(&file);
        assert!(samples.len() <= file.len());
    }
}
