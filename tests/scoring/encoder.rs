//! The encoder's engines: the real model against the golden values, every operator against LiteRT, hostile models.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use auscult::encoder::{EncoderConfig, EncoderError, EncoderShape, EngineChoice, load};
use ndarray::{Array1, Array2, Array3};
use ndarray_npy::NpzReader;
use rand::{RngExt as _, SeedableRng as _};
use tract_tflite::tflite;

const ENGINES: [EngineChoice; 3] = [EngineChoice::Native, EngineChoice::Tract, EngineChoice::Litert];

/// Fixtures that the native engine leaves to another, and why.
const NOT_NATIVE: [(&str, &str); 4] = [
    ("cast", "CAST of fractions"),
    ("cast_bool", "CAST of fractions"),
    ("cast_int64", "CAST of fractions"),
    ("integer_arithmetic", "MUL on integers"),
];

fn config(engine: EngineChoice) -> EncoderConfig {
    let library = (engine == EngineChoice::Litert).then(crate::common::litert_library);
    EncoderConfig { engine, library }
}

fn read(path: &Path) -> Arc<[u8]> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

/// Embeddings and distances of the real model, for all golden files.
fn golden_parity(engine: EngineChoice, embedding_limit: f32, distance_limit: f32) {
    let Some(shared) = crate::common::shared() else { return };
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
                assert!(
                    (found - expected).abs() <= embedding_limit,
                    "{stem} window {window}: {found}, golden {expected}"
                );
            }
            let distance = bank
                .outer_iter()
                .zip(&rows)
                .filter(|(_, row)| **row == i64::from(index))
                .map(|(row, _)| row.iter().zip(&found).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt())
                .fold(f32::INFINITY, f32::min);
            let expected = distances[window];
            assert!(
                (distance - expected).abs() <= distance_limit,
                "{stem} window {window}: {distance}, golden {expected}"
            );
        }
        files += 1;
    }
    assert_eq!(files, 6);
}

#[test]
fn native_gives_the_golden_embeddings_and_distances() {
    golden_parity(EngineChoice::Native, 1e-5, 1e-5);
}

#[test]
fn tract_gives_the_golden_embeddings_and_distances() {
    golden_parity(EngineChoice::Tract, 1e-3, 1e-4);
}

#[test]
fn litert_gives_the_golden_embeddings_and_distances() {
    golden_parity(EngineChoice::Litert, 1e-3, 1e-4);
}

#[test]
fn images_and_indices_that_do_not_fit_are_refused() {
    let Some(shared) = crate::common::shared() else { return };
    let model = read(&shared.join("escoita-bundle/encoder.tflite"));
    for engine in ENGINES {
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

/// Every model in tests/fixtures/ops whose name begins with `prefix`.
fn fixtures(keep: impl Fn(&str) -> bool) -> Vec<(String, Arc<[u8]>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ops");
    let mut models: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path)))
        .filter(|(name, _)| keep(name))
        .collect();
    models.sort();
    models
}

fn runs_on_both(name: &str) -> bool {
    !name.starts_with("refused_") && !name.starts_with("invalid_")
}

/// Noise around a level for each band, in 0..1.
fn random_image(shape: EncoderShape, seed: u64) -> Vec<f32> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut image = Vec::with_capacity(shape.bands * shape.frames);
    for _ in 0..shape.bands {
        let level = random.random_range(0.0..0.7);
        image.extend((0..shape.frames).map(|_| level + random.random_range(0.0..0.3)));
    }
    image
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f32::max)
}

/// `engine` and LiteRT on the same images and indices: nothing but rounding between them.
fn agrees_with_litert(engine: EngineChoice, keep: impl Fn(&str) -> bool) {
    let models = fixtures(|name| runs_on_both(name) && keep(name));
    let mut faults = Vec::new();
    for (name, model) in &models {
        let (mut ours, mut theirs) =
            match (load(model.clone(), &config(engine)), load(model.clone(), &config(EngineChoice::Litert))) {
                (Ok(ours), Ok(theirs)) => (ours, theirs),
                (ours, theirs) => {
                    faults.push(format!("{name}: {engine:?} {:?}, litert {:?}", ours.err(), theirs.err()));
                    continue;
                }
            };
        let shape = ours.shape();
        assert_eq!(shape, theirs.shape(), "{name}");
        assert!(
            shape.bands < 128 && shape.frames < 128 && shape.embedding != 32,
            "{name}: sizes unlike the real model's"
        );
        let mut seen: Vec<Vec<f32>> = Vec::new();
        for round in 0..6 {
            let image = random_image(shape, round);
            let index = round as u32 % shape.machines.unwrap_or(3) as u32;
            let found = ours.embed(&image, index).unwrap_or_else(|error| panic!("{name}: {error}"));
            let expected = theirs.embed(&image, index).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.len(), shape.embedding, "{name}");
            let worst = furthest(&found, &expected);
            if found.iter().any(|value| !value.is_finite()) || worst > 2e-5 {
                faults.push(format!("{name}: off by {worst:e} in round {round}"));
                break;
            }
            seen.push(expected);
        }
        if seen.windows(2).any(|pair| furthest(&pair[0], &pair[1]) < 0.005) {
            faults.push(format!("{name}: nearly the same for two images, so this tests little"));
        }
    }
    assert!(faults.is_empty(), "{} of {} models:\n{}", faults.len(), models.len(), faults.join("\n"));
}

#[test]
fn every_operator_agrees_with_litert() {
    agrees_with_litert(EngineChoice::Tract, |_| true);
}

#[test]
fn every_operator_of_the_native_engine_agrees_with_litert() {
    agrees_with_litert(EngineChoice::Native, |name| NOT_NATIVE.iter().all(|(not, _)| *not != name));
}

#[test]
fn what_the_native_engine_lacks_is_named_and_goes_to_another() {
    for (name, word) in NOT_NATIVE {
        let models = fixtures(|fixture| fixture == name);
        let Err(EncoderError::Model(message)) = load(models[0].1.clone(), &config(EngineChoice::Native)) else {
            panic!("{name}: expected a refusal")
        };
        assert!(message.contains(word) && message.contains("native engine"), "{name}: {message}");
        let auto = EncoderConfig { engine: EngineChoice::Auto, library: None };
        assert_ne!(load(models[0].1.clone(), &auto).unwrap().name(), "native");
    }
}

/// What the fixtures must cover.
#[test]
fn the_fixtures_hold_every_operator() {
    let mut found = BTreeSet::new();
    for (_, model) in fixtures(runs_on_both) {
        let model = tflite::root_as_model(&model).unwrap();
        let codes = model.operator_codes().unwrap();
        for operator in model.subgraphs().unwrap().get(0).operators().unwrap() {
            let code = codes.get(operator.opcode_index() as usize);
            let number = code.builtin_code().0.max(i32::from(code.deprecated_builtin_code()));
            found.insert(tflite::BuiltinOperator(number).variant_name().unwrap());
        }
    }
    for operator in "CONV_2D DEPTHWISE_CONV_2D MAX_POOL_2D AVERAGE_POOL_2D FULLY_CONNECTED ADD SUB MUL DIV MEAN SUM \
        RESHAPE SQUEEZE EXPAND_DIMS CONCATENATION PAD LEAKY_RELU RELU RELU6 LOGISTIC TANH SOFTMAX GATHER CAST LESS \
        SELECT SELECT_V2 SHAPE PACK STRIDED_SLICE DEQUANTIZE"
        .split_whitespace()
    {
        assert!(found.contains(operator), "{operator}");
    }
}

#[test]
fn what_only_litert_runs_is_named_and_runs_there() {
    let words = [
        ("refused_arg_max", "ARG_MAX"),
        ("refused_batch_gather", "batch_dims 1"),
        ("refused_dynamic_range", "INT8"),
        ("refused_elu", "ELU"),
        ("refused_fused_relu_n1", "RELU_N1_TO_1"),
        ("refused_int8", "INT8"),
        ("refused_integer_div", "DIV on [I32, I32]"),
    ];
    let models = fixtures(|name| name.starts_with("refused_"));
    assert_eq!(models.len(), words.len());
    for ((name, model), (expected, word)) in models.iter().zip(words) {
        assert_eq!(name, expected);
        let Err(EncoderError::Model(message)) = load(model.clone(), &config(EngineChoice::Tract)) else {
            panic!("{name}: expected a refusal")
        };
        assert!(message.contains(word) && message.contains("encoder.engine = \"litert\""), "{name}: {message}");
        assert!(!message.contains('\n') && message.len() < 300, "{name}: {message}");
        let mut litert =
            load(model.clone(), &config(EngineChoice::Litert)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let embedded = [1, 2].map(|seed| litert.embed(&random_image(litert.shape(), seed), 0).unwrap());
        assert!(furthest(&embedded[0], &embedded[1]) > 0.005, "{name}");
        let auto = EncoderConfig { engine: EngineChoice::Auto, library: Some(crate::common::litert_library()) };
        assert_eq!(load(model.clone(), &auto).unwrap().name(), "litert");
    }
}

#[test]
fn inputs_that_are_no_image_and_index_are_named() {
    for (name, model) in fixtures(|name| name.starts_with("invalid_")) {
        for engine in ENGINES {
            let Err(EncoderError::Model(message)) = load(model.clone(), &config(engine)) else { panic!("{name}") };
            assert!(message.contains("expected two inputs") && message.contains("INT8"), "{name}: {message}");
        }
    }
}
