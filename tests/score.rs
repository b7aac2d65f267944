//! Parity with the reference, from samples to verdicts.

mod common;

use auscult::features::{FrontEnd, MelExtractor};
use ndarray::{Array3, Axis};

/// Mean of all channels of a 16-bit file.
fn mono(file: &std::path::Path) -> Vec<f32> {
    let mut reader = hound::WavReader::open(file).unwrap();
    let channels = usize::from(reader.spec().channels);
    let samples: Vec<f32> = reader.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32768.0).collect();
    samples.chunks(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect()
}

#[test]
fn spectrogram_is_librosas() {
    let Some(shared) = common::shared() else { return };
    let mut compared = 0;
    for entry in std::fs::read_dir(shared.join("golden")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut golden = ndarray_npy::NpzReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let expected: Array3<f32> = golden.by_name("spectrogram").unwrap();
        let clip = if name.starts_with("normal") { "normal_00000126" } else { "abnormal_00000055" };
        let wav = std::fs::read_dir(shared.join("audio")).unwrap().map(|e| e.unwrap().path());
        let wav = wav.into_iter().find(|p| p.to_str().unwrap().contains(clip)).unwrap();
        let fmax_hz = if name.ends_with("id_08") { 2000.0 } else { 8000.0 };
        let mut extractor = MelExtractor::new(&FrontEnd { fmax_hz, ..FrontEnd::default() }).unwrap();
        for (window, expected) in mono(&wav).chunks_exact(80_000).zip(expected.axis_iter(Axis(0))) {
            let image = extractor.compute(window).unwrap();
            let worst = image.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name}: {worst:e}");
            assert!(worst < 1e-5, "{name}: {worst}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
}
