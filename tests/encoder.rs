//! The encoder's engines: the real model against the golden values, every operator against LiteRT, hostile models.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use auscult::encoder::{EncoderConfig, EncoderError, EncoderShape, EngineChoice, load};
use ndarray::{Array1, Array2, Array3};
use ndarray_npy::NpzReader;

fn config(engine: EngineChoice) -> EncoderConfig {
    let library = (engine == EngineChoice::Litert).then(common::litert_library);
    EncoderConfig { engine, library }
}

fn read(path: &Path) -> Arc<[u8]> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Embeddings and distances of the real model, for all golden files.
fn golden_parity(engine: EngineChoice) {
    let Some(shared) = common::shared() else { return };
    let bundle = shared.join("escoita-bundle");
    let bank: Array2<f32> = ndarray_npy::read_npy(bundle.join("emb_train.npy")).unwrap();
    let rows: Array1<i64> = ndarray_npy::read_npy(bundle.join("ids_train.npy")).unwrap();
    let mut encoder = load(read(&bundle.join("encoder.tflite")), &config(engine)).unwrap();
    assert_eq!(encoder.shape(), EncoderShape { bands: 128, frames: 128, embedding: 32, machines: Some(5) });
    let mut files = 0;
    for entry in fs::read_dir(shared.join("golden")).unwrap() {
        let path = entry.unwrap().path();
        let mut npz = NpzReader::new(File::open(&path).unwrap()).unwrap();
        let images: Array3<f32> = npz.by_name("spectrogram").unwrap();
        let embeddings: Array2<f32> = npz.by_name("embedding").unwrap();
        let distances: Array1<f32> = npz.by_name("distance").unwrap();
        // "..._id_04.npz": the machines are numbered 0 to 4 in steps of two.
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let index = stem[stem.len() - 2..].parse::<u32>().unwrap() / 2;
        for (window, image) in images.outer_iter().enumerate() {
            let found = encoder.embed(image.as_slice().unwrap(), index).unwrap();
            for (found, expected) in found.iter().zip(embeddings.row(window)) {
                assert!((found - expected).abs() <= 1e-3, "{stem} window {window}: {found}, golden {expected}");
            }
            let distance = bank
                .outer_iter()
                .zip(&rows)
                .filter(|(_, row)| **row == i64::from(index))
                .map(|(row, _)| row.iter().zip(&found).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt())
                .fold(f32::INFINITY, f32::min);
            let expected = distances[window];
            assert!((distance - expected).abs() <= 1e-4, "{stem} window {window}: {distance}, golden {expected}");
        }
        files += 1;
    }
    assert_eq!(files, 6);
}

#[test]
fn tract_gives_the_golden_embeddings_and_distances() {
    golden_parity(EngineChoice::Tract);
}

#[test]
fn litert_gives_the_golden_embeddings_and_distances() {
    golden_parity(EngineChoice::Litert);
}

#[test]
fn images_and_indices_that_do_not_fit_are_refused() {
    let Some(shared) = common::shared() else { return };
    let model = read(&shared.join("escoita-bundle/encoder.tflite"));
    for engine in [EngineChoice::Tract, EngineChoice::Litert] {
        let mut encoder = load(model.clone(), &config(engine)).unwrap();
        let image = vec![0.5; 128 * 128];
        let refused = |result: Result<Vec<f32>, EncoderError>, words: &[&str]| {
            let Err(EncoderError::Run(message)) = result else { panic!("expected a refusal, found {result:?}") };
            words.iter().for_each(|word| assert!(message.contains(word), "{message}"));
        };
        refused(encoder.embed(&image, 5), &["machine index", "0 to 4", "found 5"]);
        refused(encoder.embed(&image, u32::MAX), &["machine index"]);
        refused(encoder.embed(&image[1..], 0), &["128 x 128", "16383"]);
        let mut odd = image.clone();
        odd[7] = f32::NAN;
        refused(encoder.embed(&odd, 0), &["finite", "NaN", "7"]);
        let ours = encoder.embed(&image, 4).unwrap();
        assert!(ours.len() == 32 && ours.iter().all(|value| value.is_finite()));
        assert_ne!(ours, encoder.embed(&image, 3).unwrap(), "the machine's index must count");
    }
}
