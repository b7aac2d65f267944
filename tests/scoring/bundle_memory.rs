//! What a hostile bundle costs: `auscult bundle verify` stays within bounds of memory and time, whatever a file asks for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use ndarray::{Array1, Array2};
use tract_tflite::tflite::BuiltinOperator as Op;

use crate::common::bundles::{
    self, BANK, GOLDEN_EMBEDDINGS, GOLDEN_WINDOWS, NAMES, Parts, ROW_IDS, THRESHOLDS, npy, npy_of,
};
use crate::common::models::Model;
use crate::cost::{self, Cost};

/// Most memory above the bundle's own files, bytes.
const MEMORY_LIMIT: u64 = 150_000_000;
/// A reader that does work without bound takes minutes; one beside other tests stays far below.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The same for the processor's time, which other tests do not take away.
const CPU_LIMIT: Duration = Duration::from_secs(10);

/// What `verify` said, its exit code, and the largest resident memory that it had, bytes.
fn verify(dir: &Path) -> (String, Option<i32>, u64) {
    let Cost { out, err, code, peak, .. } = verify_with(dir, &[]);
    (out + &err, code, peak)
}

fn verify_with(dir: &Path, more: &[&str]) -> Cost {
    let words = ["bundle", "verify"].iter().chain(more).map(OsStr::new);
    cost::of(words.chain([dir.as_os_str()]))
}

fn size(parts: &Parts) -> u64 {
    parts.0.values().map(|bytes| bytes.len() as u64).sum()
}

/// Verifies a bundle that must be refused with these words, within the limits.
fn assert_cheaply_refused(what: &str, parts: &Parts, words: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts.write(dir.path());
    let begun = Instant::now();
    let (text, code, peak) = verify(dir.path());
    assert_eq!(code, Some(65), "{what}: {text}");
    assert!(text.contains(words), "{what}: expected {words:?} in: {text}");
    let limit = size(parts) + MEMORY_LIMIT;
    assert!(peak < limit, "{what}: {peak} bytes at the peak, expected below {limit}");
    assert!(begun.elapsed() < TIME_LIMIT, "{what}: took {:?}", begun.elapsed());
}

/// A pickle with one text of 128 KiB in its memo and as many calls of `module.name` on it as fit into the file's limit.
fn calls(module: &str, name: &str, text: &str) -> Vec<u8> {
    let mut bytes = format!("\u{0}c{module}\n{name}\nq\u{0}X").into_bytes();
    bytes.splice(0..1, [0x80, 2]);
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.bytes());
    bytes.extend(b"q\x01X\x06\x00\x00\x00latin1\x86q\x02");
    while bytes.len() + 8 < 256 << 10 {
        bytes.extend(b"h\x00h\x02R0");
    }
    bytes.extend(b"}.");
    bytes
}

#[test]
fn bombs_are_refused_before_they_are_made() {
    let Some(encoder) = bundles::encoder() else { return };
    let valid = Parts::valid(&encoder);
    let long = "a".repeat(128 << 10);
    for file in [NAMES, THRESHOLDS] {
        let mut parts = valid.clone();
        parts.set(file, calls("_codecs", "encode", &long));
        assert_cheaply_refused("texts encoded again and again", &parts, "copied once or twice");
        parts.set(file, calls("numpy", "dtype", &format!("{}f8", "<".repeat(128 << 10))));
        assert_cheaply_refused("types read again and again", &parts, "copied once or twice");
    }

    let mut parts = valid.clone();
    parts.set(GOLDEN_WINDOWS, npy(&Array2::<f32>::zeros((1, 1_860_000))));
    parts.set(GOLDEN_EMBEDDINGS, npy(&Array2::<f32>::zeros((1, 32))));
    let rest = "[front_end]\nhop = 1\nn_fft = 16\nwindow_s = 116.25\n\
                [[golden]]\nname = \"long\"\nmachine = \"fan-1\"\ndistance = 0.1\n";
    parts.manifest("bomb", "1", rest);
    assert_cheaply_refused("a front-end of two million frames", &parts, "front_end.hop: expected at least");

    let mut parts = valid.clone();
    parts.manifest("bomb", "1", "[front_end]\nrate_hz = 192000\nhop = 1\nn_fft = 65536\nn_mels = 2048\nframes = 128\n");
    assert_cheaply_refused("a front-end of large frames at each sample", &parts, "front_end.hop: expected at least");

    for (file, header) in [
        (BANK, "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 32), }"),
        (ROW_IDS, "{'descr': '<i8', 'fortran_order': False, 'shape': (4000000000,), }"),
    ] {
        let mut parts = valid.clone();
        parts.set(file, npy_of(header, &[0; 64]));
        assert_cheaply_refused("an array that is larger than its file", &parts, "bytes of data for shape");
    }

    let mut parts = valid.clone();
    let entries: Vec<String> = (0..1_500_000).map(|number| format!("\"{number:x}\":1")).collect();
    parts.set("baselines.json", format!("{{\"fan-1\":{{\"format\":1,\"left_out\":{{{}}}}}}}", entries.join(",")));
    assert_cheaply_refused("a baseline of a million reasons", &parts, "expected at most 524288 values");
}

/// Encoders of the largest legal size, each large in another way; accepted or refused, on every engine.
#[test]
fn hostile_encoders_stay_within_bounds() {
    let Some(encoder) = bundles::encoder() else { return };
    let valid = Parts::valid(&encoder);
    for (what, model) in hostile_encoders() {
        let mut parts = valid.clone();
        parts.set(bundles::ENCODER, model);
        assert_encoder_within_bounds(what, &parts);
    }
}

/// Much work for each window, times many machines or golden cases.
#[test]
fn much_work_for_many_machines_is_bounded() {
    let Some(encoder) = bundles::encoder() else { return };
    let mut parts = Parts::valid(&encoder);
    parts.set(bundles::ENCODER, much_work());
    assert_encoder_within_bounds("much work", &parts);

    let mut many = parts.clone();
    let names: BTreeMap<String, u32> = (0..1024).map(|number| (format!("fan-{number}"), number)).collect();
    many.set(NAMES, bundles::pickle(&names));
    many.set(ROW_IDS, npy(&Array1::from_shape_fn(1024, |row| row as i64)));
    many.set(BANK, npy(&Array2::from_shape_fn((1024, 32), |(row, column)| (row + column) as f32)));
    many.set(THRESHOLDS, bundles::pickle(&(0..1024).map(|number| (number, 0.5)).collect::<BTreeMap<u32, f64>>()));
    assert_encoder_within_bounds("much work for 1024 machines", &many);

    parts.set(GOLDEN_WINDOWS, npy(&Array2::from_shape_fn((24, 80_000), |(row, n)| ((row + n) % 17) as f32 / 64.0)));
    parts.set(GOLDEN_EMBEDDINGS, npy(&Array2::<f32>::zeros((24, 32))));
    parts.manifest("work", "1", &golden_cases(24));
    assert_encoder_within_bounds("much work for 24 golden cases", &parts);
}

fn assert_encoder_within_bounds(what: &str, parts: &Parts) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts.write(dir.path());
    let limit = size(parts) + MEMORY_LIMIT;
    let library = crate::common::litert_library();
    let library = library.to_str().expect("a path in UTF-8");
    for engine in ["native", "tract", "litert"] {
        let Cost { out, err, code, peak, cpu } = verify_with(dir.path(), &["--engine", engine, "--library", library]);
        let text = out + &err;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{what}, {engine}: {:.0} MB above {:.0} MB, {:.1} s",
            mb(peak) - mb(size(parts)),
            mb(size(parts)),
            cpu.as_secs_f64()
        );
        assert!(matches!(code, Some(0 | 65)) && !text.contains("panicked"), "{what}, {engine}: {code:?} {text}");
        assert!(peak < limit, "{what}, {engine}: {peak} bytes at the peak, expected below {limit}: {text}");
        assert!(cpu < CPU_LIMIT, "{what}, {engine}: {cpu:?}: {text}");
    }
}

/// Each within the largest size of an encoder.
fn hostile_encoders() -> Vec<(&'static str, Vec<u8>)> {
    let embed = |mut model: Model, last: i32, length: i32| {
        let flat = model.reshape(last, &[1, length]);
        let embedding = model.dense(flat, length, 32);
        model.finish(embedding)
    };
    let mut dense = Model::new();
    let flat = dense.reshape(0, &[1, 16_384]);
    let hidden = dense.dense(flat, 16_384, 630);

    let mut half = Model::new();
    let (flat, packed) = (half.reshape(0, &[1, 16_384]), half.half_weights(&[760, 16_384]));
    let unpacked = half.add(Op::DEQUANTIZE, &[packed], &[760, 16_384]);
    let of_half = half.add(Op::FULLY_CONNECTED, &[flat, unpacked, -1], &[1, 760]);

    // 3 x 3 filters take four times their size where Winograd's way transforms them.
    let mut filters = Model::new();
    let small = filters.reshape(0, &[1, 4, 4, 1024]);
    let filtered = filters.conv(small, [4, 4, 1024], 3, 1020);

    let mut table = Model::new();
    let (rows, index) = (table.weights(&[320_000, 32]), table.add(Op::CAST, &[1], &[1, 1]));
    let found = table.add(Op::GATHER, &[rows, index], &[1, 1, 32]);

    let mut deep = Model::new();
    let mut last = deep.reshape(0, &[1, 16_384]);
    for _ in 0..700 {
        last = deep.add(Op::RELU, &[last], &[1, 16_384]);
    }
    let mut deeper = Model::new();
    let mut of_deeper = deeper.reshape(0, &[1, 16_384]);
    for _ in 0..4000 {
        of_deeper = deeper.add(Op::LOGISTIC, &[of_deeper], &[1, 16_384]);
    }

    let mut wide = Model::new();
    let widened = wide.conv(0, [128, 128, 1], 1, 380);
    vec![
        ("a dense layer", embed(dense, hidden, 630)),
        ("a dense layer in half precision", embed(half, of_half, 760)),
        ("3 x 3 filters", embed(filters, filtered, 16 * 1020)),
        ("a table of 320 000 machines", {
            let embedding = table.reshape(found, &[1, 32]);
            table.finish(embedding)
        }),
        ("seven hundred layers", embed(deep, last, 16_384)),
        ("four thousand layers", embed(deeper, of_deeper, 16_384)),
        ("wide activations", {
            let mean = wide.add(Op::MAXIMUM, &[widened, widened], &[1, 128, 128, 380]);
            wide.finish(mean)
        }),
    ]
}

/// A thousand million multiply-adds for each window, in few weights.
fn much_work() -> Vec<u8> {
    let mut model = Model::new();
    let mut last = model.conv(0, [128, 128, 1], 1, 16);
    for _ in 0..27 {
        last = model.conv(last, [128, 128, 16], 3, 16);
    }
    let last = model.conv(last, [128, 128, 16], 1, 1);
    let flat = model.reshape(last, &[1, 16_384]);
    let embedding = model.dense(flat, 16_384, 32);
    model.finish(embedding)
}

fn golden_cases(count: usize) -> String {
    (0..count)
        .map(|number| {
            format!(
                "[[golden]]\nname = \"{number}\"\nmachine = \"fan-1\"\ndistance = 0.0\nembedding_tolerance = 1e6\n\
                 distance_tolerance = 1e6\n"
            )
        })
        .collect()
}

/// The largest bundle that is legal in each of its files: reading it costs little more than its files.
#[test]
fn the_largest_legal_bundle_is_read_within_bounds() {
    let Some(encoder) = bundles::encoder() else { return };
    let mut parts = Parts::valid(&encoder);
    let rows = 260_000;
    parts.set(BANK, npy(&Array2::from_shape_fn((rows, 32), |(row, column)| ((row * 31 + column) % 997) as f32)));
    parts.set(ROW_IDS, npy(&ndarray::Array1::from_shape_fn(rows, |row| if row % 2 == 0 { 0i64 } else { 3 })));
    parts.set(GOLDEN_WINDOWS, npy(&Array2::from_shape_fn((24, 80_000), |(row, n)| ((row + n) % 17) as f32 / 64.0)));
    parts.set(GOLDEN_EMBEDDINGS, npy(&Array2::<f32>::zeros((24, 32))));
    parts.manifest("large", "1", &golden_cases(24));
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts.write(dir.path());
    let (text, code, peak) = verify(dir.path());
    assert_eq!(code, Some(0), "{text}");
    let limit = size(&parts) + MEMORY_LIMIT;
    assert!(peak < limit, "{peak} bytes at the peak, expected below {limit}");
}
