//! What a hostile bundle costs: `auscult bundle verify` stays within bounds of memory and time, whatever a file asks for.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ndarray::Array2;

use crate::common::bundles::{
    self, BANK, GOLDEN_EMBEDDINGS, GOLDEN_WINDOWS, NAMES, Parts, ROW_IDS, THRESHOLDS, npy, npy_of,
};

/// Most memory above the bundle's own files, bytes.
const MEMORY_LIMIT: u64 = 150_000_000;
/// A reader that does work without bound takes minutes; one beside other tests stays far below.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What `verify` said, its exit code, and the largest resident memory that it had, bytes.
fn verify(dir: &Path) -> (String, Option<i32>, u64) {
    // The kernel counts the memory of children that have ended; Python tells it.
    let script = "import resource, subprocess, sys\n\
                  code = subprocess.run(sys.argv[1:]).returncode\n\
                  print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n\
                  sys.exit(code)";
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_auscult"), "bundle", "verify"]).arg(dir);
    let output = command.output().expect("python3 starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let peak = text.lines().find_map(|line| line.strip_prefix("PEAK ")).expect("the peak").parse().expect("a number");
    (text, output.status.code(), peak)
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
    let golden: String = (0..24)
        .map(|number| {
            format!(
                "[[golden]]\nname = \"{number}\"\nmachine = \"fan-1\"\ndistance = 0.0\nembedding_tolerance = 1e6\n\
                 distance_tolerance = 1e6\n"
            )
        })
        .collect();
    parts.manifest("large", "1", &golden);
    let dir = tempfile::tempdir().expect("a temporary directory");
    parts.write(dir.path());
    let (text, code, peak) = verify(dir.path());
    assert_eq!(code, Some(0), "{text}");
    let limit = size(&parts) + MEMORY_LIMIT;
    assert!(peak < limit, "{peak} bytes at the peak, expected below {limit}");
}
