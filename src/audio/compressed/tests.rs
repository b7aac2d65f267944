use super::*;
use crate::audio::sound_file::SoundFile;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sound").join(name)
}

/// Everything in the file, and how it ended.
fn all(path: &Path) -> (Format, Vec<f32>, Option<String>) {
    let mut file = SoundFile::open(path).unwrap_or_else(|error| panic!("{error:?}"));
    let mut samples = Vec::new();
    loop {
        match file.read(&mut samples) {
            Ok(0) => return (file.format(), samples, None),
            Ok(_) => {}
            Err(error) => return (file.format(), samples, Some(crate::causes::with_causes(&error))),
        }
    }
}

fn problem(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a writable file");
    match SoundFile::open(&path) {
        Err(error) => crate::causes::with_causes(&error),
        Ok(_) => all(&path).2.expect("a fault"),
    }
}

#[test]
fn two_tones_come_out_of_each_format_as_they_went_in() {
    for (name, frames) in [("tone.flac", 16_000..=16_000), ("tone.ogg", 16_000..=16_000), ("tone.mp3", 16_000..=18_500)]
    {
        let (format, samples, fault) = all(&fixture(name));
        assert_eq!((format, fault), (Format { rate_hz: 16_000, channels: 2 }, None), "{name}");
        assert!(frames.contains(&(samples.len() / 2)), "{name}: {} frames", samples.len() / 2);
        for (channel, hz) in [(0, 440), (1, 1000)] {
            // In the middle, away from what an encoder does at the ends.
            let tone: Vec<f32> = samples.iter().skip(channel).step_by(2).skip(4000).take(8000).copied().collect();
            let rms = (tone.iter().map(|sample| sample * sample).sum::<f32>() / tone.len() as f32).sqrt();
            assert!((0.32..0.38).contains(&rms), "{name}, channel {channel}: {rms}");
            let crossings = tone.windows(2).filter(|pair| (pair[0] < 0.0) != (pair[1] < 0.0)).count();
            assert!(crossings.abs_diff(hz) <= 2, "{name}, channel {channel}: {crossings} crossings in half a second");
        }
    }
}

/// The name says nothing, and tags before the sound do not matter.
#[test]
fn a_file_is_what_its_first_bytes_say() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mp3 = std::fs::read(fixture("tone.mp3")).expect("a fixture");
    let mut tagged = b"ID3\x04\0\0\0\0\x02\0".to_vec();
    tagged.extend([0; 256]);
    tagged.extend(&mp3);
    let path = dir.path().join("recording.wav");
    std::fs::write(&path, &tagged).expect("a writable file");
    let (_, samples, fault) = all(&path);
    assert!(fault.is_none() && samples.len() > 32_000, "{fault:?}");

    // A picture of 70 kB between the stream's properties and the sound.
    let flac = std::fs::read(fixture("tone.flac")).expect("a fixture");
    let mut long = flac[..42].to_vec();
    long[4] &= 0x7f;
    long.extend([6, 1, 0x11, 0x70]);
    long.extend(vec![0xff; 0x1_1170]);
    long.extend(&flac[42..]);
    std::fs::write(&path, &long).expect("a writable file");
    let (_, samples, fault) = all(&path);
    assert!(fault.is_none() && samples.len() == 32_000, "{fault:?}");
}

#[test]
fn a_file_that_is_cut_off_gives_what_it_has_and_says_so() {
    let flac = std::fs::read(fixture("tone.flac")).expect("a fixture");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("cut.flac");
    std::fs::write(&path, &flac[..flac.len() / 2]).expect("a writable file");
    let (_, samples, fault) = all(&path);
    assert!(!samples.is_empty() && samples.len() < 32_000);
    let fault = fault.expect("it is cut off");
    assert!(fault.contains("cut.flac: truncated: expected 16000 frames, found "), "{fault}");
    assert!(problem("head.flac", &flac[..20]).contains("found the end of the file"));
    assert!(problem("empty.ogg", b"OggS").contains("damaged"));
}

#[test]
fn what_is_not_read_is_called_by_its_name_and_what_to_do() {
    for (name, start, words) in [
        ("a.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0".as_slice(), "found M4A or MP4; `ffmpeg -i "),
        ("a.aac", b"\xff\xf1\x50\x80\x01\x3f\xfc", "found AAC"),
        ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "found WMA"),
        ("a.aiff", b"FORM\0\0\0\0AIFF", "found AIFF"),
    ] {
        let problem = problem(name, start);
        assert!(problem.contains(words) && problem.contains("/a.wav` converts it"), "{problem}");
        assert!(problem.contains("expected WAV, FLAC, Ogg Vorbis or MP3"), "{problem}");
    }
    assert!(problem("a.txt", b"hello").contains("expected a WAV file"));
}
