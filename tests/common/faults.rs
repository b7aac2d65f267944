//! What can be wrong with a bundle: a change to a valid one, and what is to be said about it.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Array3};

use super::bundles::*;

pub type Change = Box<dyn Fn(&mut Parts)>;

/// One thing that is wrong: what, where, what is said about it.
pub struct Fault {
    pub what: &'static str,
    /// The file that is named.
    pub file: &'static str,
    pub words: &'static str,
    pub change: Change,
}

fn fault(what: &'static str, file: &'static str, words: &'static str, change: impl Fn(&mut Parts) + 'static) -> Fault {
    Fault { what, file, words, change: Box::new(change) }
}

/// Keeps the first `keep` bytes.
fn cut(what: &'static str, file: &'static str, words: &'static str, keep: usize) -> Fault {
    fault(what, file, words, move |p| p.0.get_mut(file).expect("a file to cut").truncate(keep))
}

fn bytes(what: &'static str, file: &'static str, words: &'static str, content: Vec<u8>) -> Fault {
    fault(what, file, words, move |p| p.set(file, content.clone()))
}

fn header(descr: &str, shape: &str) -> Vec<u8> {
    npy_of(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"), &[0; 1280])
}

pub fn arrays() -> Vec<Fault> {
    let bank = |value: f32| {
        let mut bank = Array2::<f32>::ones((10, 32));
        bank[(7, 3)] = value;
        npy(&bank)
    };
    let header_of = |length: u32| [b"\x93NUMPY\x02\x00".as_slice(), &length.to_le_bytes(), b"{'descr': '<f4'"].concat();
    let brackets = format!("{}{}", "(".repeat(400), ")".repeat(400));
    vec![
        fault("missing", BANK, "expected a file, found none", |p| drop(p.0.remove(BANK))),
        cut("empty", BANK, "expected an npy file", 0),
        cut("cut in the magic", BANK, "expected an npy file", 4),
        cut("cut after the magic", BANK, "expected an npy header, found 7 bytes", 7),
        cut("cut in the header", BANK, "expected an npy header, found 40 bytes", 40),
        cut("cut in the data", BANK, "expected 1280 bytes of data for shape [10, 32], found 872", 1000),
        fault("a byte too many", BANK, "found 1281", |p| p.0.get_mut(BANK).expect("a bank").push(0)),
        bytes("not npy", BANK, "expected an npy file", b"PK\x03\x04 and more of a zip".to_vec()),
        bytes(
            "version 9",
            BANK,
            "expected npy version 1.0 to 3.0, found 9.0",
            b"\x93NUMPY\x09\x00\x00\x00\x00\x00".to_vec(),
        ),
        bytes("header of 4 GB", BANK, "at most 1024 bytes, found 4294967295", header_of(u32::MAX)),
        bytes("header of 60 kB", BANK, "at most 1024 bytes, found 60000", header_of(60_000)),
        bytes("header without end", BANK, "expected an npy header", npy_of("{'descr': '<f4', 'fortran_order'", &[])),
        bytes("nested header", BANK, "400 brackets", npy_of(&brackets, &[])),
        bytes("float64", BANK, "expected float32 ('<f4'), found '<f8'", npy(&Array2::<f64>::zeros((10, 32)))),
        bytes("int32", BANK, "expected float32 ('<f4'), found '<i4'", npy(&Array2::<i32>::zeros((10, 32)))),
        bytes("objects", BANK, "expected float32 ('<f4'), found '|O'", header("'|O'", "(10, 32)")),
        bytes("records", BANK, "expected float32 ('<f4'), found [", header("[('a', '<f4')]", "(10, 32)")),
        bytes("one dimension", BANK, "expected 2 dimensions, found shape [320]", npy(&Array1::<f32>::ones(320))),
        bytes("three dimensions", BANK, "found shape [10, 4, 8]", npy(&Array3::<f32>::ones((10, 4, 8)))),
        bytes("no rows", BANK, "found shape [0, 32]", header("'<f4'", "(0, 32)")),
        bytes("no columns", BANK, "found shape [10, 0]", header("'<f4'", "(10, 0)")),
        bytes("negative shape", BANK, "expected an npy header", header("'<f4'", "(-10, 32)")),
        bytes(
            "shape that overflows",
            BANK,
            "expected more than there can be",
            header("'<f4'", "(4611686018427387904, 64)"),
        ),
        bytes("shape of a terabyte", BANK, "found 1280", header("'<f4'", "(8589934592, 32)")),
        bytes("shape beyond numbers", BANK, "expected an npy header", header("'<f4'", "(99999999999999999999999, 32)")),
        bytes("NaN", BANK, "found NaN in row 7, column 3", bank(f32::NAN)),
        bytes("infinity", BANK, "found -inf in row 7, column 3", bank(f32::NEG_INFINITY)),
        bytes(
            "a row fewer",
            ROW_IDS,
            "expected 9 rows as in emb_train.npy, found 10",
            npy(&Array2::<f32>::ones((9, 32))),
        )
        .instead(BANK),
        bytes(
            "narrower than the encoder",
            BANK,
            "expected rows of 32 as the encoder gives, found 31",
            npy(&Array2::<f32>::ones((10, 31))),
        ),
        bytes("int32 ids", ROW_IDS, "expected int64 ('<i8'), found '<i4'", npy(&Array1::<i32>::zeros(10))),
        bytes("float ids", ROW_IDS, "expected int64 ('<i8'), found '<f8'", npy(&Array1::<f64>::zeros(10))),
        bytes(
            "ids in a column",
            ROW_IDS,
            "expected 1 dimensions, found shape [10, 1]",
            npy(&Array2::<i64>::zeros((10, 1))),
        ),
        cut("cut ids", ROW_IDS, "expected 80 bytes of data", 150),
        fault("ids missing", ROW_IDS, "expected a file, found none", |p| drop(p.0.remove(ROW_IDS))),
        bytes(
            "an id of no machine",
            ROW_IDS,
            "found 9 in row 1",
            npy(&Array1::from(vec![0i64, 9, 3, 3, 3, 0, 0, 0, 3, 3])),
        ),
        bytes(
            "a negative id",
            ROW_IDS,
            "found -1 in row 0",
            npy(&Array1::from(vec![-1i64, 0, 3, 3, 3, 0, 0, 0, 3, 3])),
        ),
        bytes("an enormous id", ROW_IDS, "found 9223372036854775807", npy(&Array1::from(vec![i64::MAX; 10]))),
        bytes("a machine without rows", ROW_IDS, "found none of \"fan-2\" (3)", npy(&Array1::<i64>::zeros(10))),
    ]
}

impl Fault {
    /// The changed file is another than the one that is named.
    fn instead(mut self, changed: &'static str) -> Fault {
        let (named, change) = (self.file, self.change);
        self.change = Box::new(move |parts| {
            let before = parts.0[named].clone();
            change(parts);
            let content = parts.0.insert(named.into(), before).expect("what was changed");
            parts.set(changed, content);
        });
        self
    }
}

pub fn pickles() -> Vec<Fault> {
    let names = |entries: &[(&str, f64)]| pickle(&entries.iter().copied().collect::<BTreeMap<_, _>>());
    let thresholds = |value: f64| pickle(&BTreeMap::from([(0, value), (3, 0.5)]));
    let fill = |head: &[u8], body: &[u8], tail: &[u8]| {
        [head, &body.repeat(((256 << 10) - head.len() - tail.len()) / body.len()), tail].concat()
    };
    let long = [b"X\0\0\x02\0".as_slice(), &[b'a'; 128 << 10], b"q\0}("].concat();
    vec![
        fault("names missing", NAMES, "expected a file, found none", |p| drop(p.0.remove(NAMES))),
        cut("names empty", NAMES, "found 0", 0),
        cut("names cut", NAMES, "expected", 12),
        bytes("a call of os.system", NAMES, "found the global \"os.system\"", b"cos\nsystem\n(Vtrue\ntR.".to_vec()),
        bytes(
            "eval by STACK_GLOBAL",
            THRESHOLDS,
            "found the global \"builtins.eval\"",
            b"\x8c\x08builtins\x8c\x04eval\x93.".to_vec(),
        ),
        bytes("a dict in itself", NAMES, "found a dict of 1", b"}q\0X\x01\0\0\0ah\0s.".to_vec()),
        bytes("tuples in tuples", NAMES, "expected a dict, found a tuple", fill(b"N", b"\x85", b".")),
        bytes("doubling by DUP", NAMES, "expected a dict", fill(b"N", b"2\x86", b".")),
        bytes("doubling by memo", THRESHOLDS, "expected a dict", fill(b"Nq\0", b"h\0h\0\x86q\0", b".")),
        bytes("marks only", THRESHOLDS, "expected", fill(b"", b"(", b"")),
        bytes("one long text, often", NAMES, "a text of 131072 bytes", fill(&long, b"h\0h\0", b"u.")),
        bytes("text of 4 GB", NAMES, "expected 4294967295 more bytes, found 3", b"X\xff\xff\xff\xffabc".to_vec()),
        bytes("bytes of 2^63", NAMES, "more bytes, found 3", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc".to_vec()),
        bytes(
            "a number of 255 bytes",
            NAMES,
            "at most 8 bytes",
            [b"}X\x01\0\0\0a\x8a\xff".as_slice(), &[1; 255], b"s."].concat(),
        ),
        bytes("gigantic", NAMES, "expected at most 262144 bytes, found 1048576", vec![b'('; 1 << 20]),
        bytes("a list", NAMES, "found opcode 0x5d", pickle(&vec![1, 2])),
        bytes("no machine", NAMES, "expected 1 to 1024 machines, found 0", pickle(&BTreeMap::<String, u32>::new())),
        bytes(
            "5000 machines",
            NAMES,
            "found 5000",
            pickle(&(0..5000).map(|n| (format!("{n:x}"), n)).collect::<BTreeMap<_, _>>()),
        ),
        bytes("bytes after the end", NAMES, "found 2 more", b"}.}.".to_vec()),
        bytes("a negative index", NAMES, "found -1", names(&[("fan-1", 0.0), ("fan-2", -1.0)])),
        bytes("half an index", NAMES, "found 1.5", names(&[("fan-1", 0.0), ("fan-2", 1.5)])),
        bytes("an infinite index", NAMES, "found inf", names(&[("fan-1", 0.0), ("fan-2", f64::INFINITY)])),
        bytes("an index twice", NAMES, "found 0 for", names(&[("fan-1", 0.0), ("fan-2", 0.0)])),
        bytes("a name twice", NAMES, "found \"a\" twice", b"}(X\x01\0\0\0aK\0X\x01\0\0\0aK\x01u.".to_vec()),
        bytes(
            "a name with a line feed",
            NAMES,
            "printable characters, found \"a\\nb\"",
            names(&[("a\nb", 0.0), ("fan-2", 3.0)]),
        ),
        bytes("an empty name", NAMES, "printable characters, found \"\"", names(&[("", 0.0), ("fan-2", 3.0)])),
        bytes("numbers as names", NAMES, "printable characters, found 0", pickle(&BTreeMap::from([(0, 0), (1, 3)]))),
        fault("an index beyond the encoder's table", NAMES, "indices 0 to 4 as the encoder has, found 5", move |p| {
            p.set(NAMES, names(&[("fan-1", 0.0), ("fan-2", 5.0)]));
            p.set(ROW_IDS, npy(&Array1::from(vec![0i64, 0, 0, 5, 5, 0, 0, 0, 5, 5])));
            p.set(THRESHOLDS, pickle(&BTreeMap::from([(0, 0.25), (5, 0.5)])));
        }),
        fault("thresholds missing", THRESHOLDS, "expected a file, found none", |p| drop(p.0.remove(THRESHOLDS))),
        cut("thresholds cut", THRESHOLDS, "expected", 10),
        bytes("threshold NaN", THRESHOLDS, "found NaN", thresholds(f64::NAN)),
        bytes("threshold infinite", THRESHOLDS, "found inf", thresholds(f64::INFINITY)),
        bytes("threshold 0", THRESHOLDS, "found 0.0", thresholds(0.0)),
        bytes("threshold negative", THRESHOLDS, "found -0.25", thresholds(-0.25)),
        bytes("one long text encoded ten thousand times", THRESHOLDS, "copied once or twice", encoded_often()),
        bytes("threshold of no machine", THRESHOLDS, "as keys, found 7", pickle(&BTreeMap::from([(0, 0.5), (7, 0.5)]))),
        bytes("threshold as text", THRESHOLDS, "found \"0.5\"", pickle(&BTreeMap::from([(0, "0.5")]))),
        bytes(
            "threshold twice",
            THRESHOLDS,
            "found 0 twice",
            b"}(K\0G?\xe0\0\0\0\0\0\0G\0\0\0\0\0\0\0\0G?\xe0\0\0\0\0\0\0u.".to_vec(),
        ),
        bytes("names as keys", THRESHOLDS, "as keys, found \"fan-1\"", names(&[("fan-1", 0.25)])),
    ]
}

/// 128 KiB of text in the memo, and `_codecs.encode` called on it again and again, each result dropped at once.
fn encoded_often() -> Vec<u8> {
    let text = vec![b'a'; 128 << 10];
    let length = (text.len() as u32).to_le_bytes();
    let head = [b"c_codecs\nencode\nq\0X".as_slice(), &length, &text, b"q\x01X\x06\0\0\0latin1\x86q\x02"].concat();
    [&head, &b"h\0h\x02R0".repeat(16_000), b"}.".as_slice()].concat()
}

pub fn encoders(encoder: &[u8]) -> Vec<Fault> {
    let wild = |at: usize, value: u32| {
        let mut model = encoder.to_vec();
        model[at..at + 4].copy_from_slice(&value.to_le_bytes());
        model
    };
    // NaN over a kilobyte in the middle, where nearly everything is weights.
    let mut nan = encoder.to_vec();
    let middle = (nan.len() / 2) & !3;
    nan[middle..middle + 1024].chunks_exact_mut(4).for_each(|weight| weight.copy_from_slice(&f32::NAN.to_le_bytes()));
    let root = u32::from_le_bytes(encoder[..4].try_into().expect("four bytes")) as usize;
    vec![
        fault("encoder missing", ENCODER, "expected a file, found none", |p| drop(p.0.remove(ENCODER))),
        cut("encoder empty", ENCODER, "found 0 bytes", 0),
        cut("encoder of 8 bytes", ENCODER, "", 8),
        cut("encoder cut at a third", ENCODER, "", encoder.len() / 3),
        cut("encoder without its last kilobyte", ENCODER, "", encoder.len() - 1024),
        bytes("encoder of zeros", ENCODER, "", vec![0; 4096]),
        bytes("a picture", ENCODER, "", b"\x89PNG\r\n\x1a\n and so on, for a while".to_vec()),
        bytes("wild root", ENCODER, "", wild(0, 0x7fff_fff0)),
        bytes("root beyond by one", ENCODER, "", wild(0, encoder.len() as u32)),
        bytes("wild vtable", ENCODER, "", wild(root, 0x8000_0001)),
        bytes("wild first field", ENCODER, "", wild(root + 4, 0xffff_fff0)),
        bytes("NaN among the weights", ENCODER, "finite", nan),
    ]
}

pub fn manifests() -> Vec<Fault> {
    let rest =
        |what, file, words, rest: &'static str| fault(what, file, words, move |p| p.manifest("fans", "1.0", rest));
    let edit = |what, words, from: &'static str, to: &'static str| {
        fault(what, MANIFEST, words, move |p| {
            p.manifest("fans", "1.0", "");
            let manifest = String::from_utf8(p.0[MANIFEST].clone()).expect("a text");
            assert!(manifest.contains(from), "{manifest}");
            p.set(MANIFEST, manifest.replacen(from, to, 1));
        })
    };
    vec![
        bytes("manifest of other bytes", MANIFEST, "expected UTF-8", b"\xff\xfe\x00".to_vec()),
        bytes("manifest that is no TOML", MANIFEST, "line 2", b"format = 1\nname = [".to_vec()),
        bytes("manifest that nests", MANIFEST, "line 1", [b"format = ".as_slice(), &b"[".repeat(100_000)].concat()),
        bytes("gigantic manifest", MANIFEST, "expected at most 262144 bytes", vec![b'#'; 300 << 10]),
        bytes("empty manifest", MANIFEST, "missing field `format`", Vec::new()),
        edit("format 2", "format: expected 1, found 2", "format = 1", "format = 2"),
        edit("unknown key", "unknown field `nme`", "name =", "nme ="),
        edit("a path as name", "name: expected [A-Za-z0-9]", "\"fans\"", "\"../fans\""),
        edit("an empty version", "version: expected [A-Za-z0-9]", "\"1.0\"", "\"\""),
        edit("a hash missing", "expected the sha256 of encoder.tflite", "\"encoder.tflite\"", "\"golden_windows.npy\""),
        edit("a path among the files", "found \"../../etc/passwd\"", "\"encoder.tflite\"", "\"../../etc/passwd\""),
        edit("itself among the files", "found \"bundle.toml\"", "\"encoder.tflite\"", "\"bundle.toml\""),
        edit(
            "a short hash",
            "expected 64 lower-case hex digits",
            "\"encoder.tflite\" = \"",
            "\"encoder.tflite\" = \"0",
        ),
        fault("another file than the hash's", THRESHOLDS, "expected sha256", |p| {
            p.manifest("fans", "1.0", "");
            p.set(THRESHOLDS, pickle(&BTreeMap::from([(0, 0.75)])));
        }),
        rest("unknown front-end key", MANIFEST, "unknown field `fmax`", "[front_end]\nfmax = 8000\n"),
        rest("front-end of text", MANIFEST, "front_end: invalid type", "[front_end]\nfmax_hz = \"8k\"\n"),
        rest("enormous FFT", MANIFEST, "front_end.n_fft: expected 16 to 65536", "[front_end]\nn_fft = 1000000000000\n"),
        rest("enormous window", MANIFEST, "front_end.window_s: expected 0.128", "[front_end]\nwindow_s = 1e12\n"),
        rest("NaN in the front-end", MANIFEST, "front_end.pre_emphasis", "[front_end]\npre_emphasis = nan\n"),
        rest("hop 0", MANIFEST, "front_end.hop", "[front_end]\nhop = 0\n"),
        rest(
            "more frames than there are",
            MANIFEST,
            "front_end.frames: expected 1 to 157",
            "[front_end]\nframes = 158\n",
        ),
        rest(
            "two million frames of 16 samples",
            MANIFEST,
            "front_end",
            "[front_end]\nwindow_s = 116\nn_fft = 16\nhop = 1\n",
        ),
        fault("too much golden work", MANIFEST, "golden: expected fewer", |p| {
            let cases = GOLDEN.repeat(24);
            p.set(GOLDEN_WINDOWS, npy(&Array2::<f32>::zeros((24, 80_000))));
            p.set(GOLDEN_EMBEDDINGS, npy(&Array2::<f32>::zeros((24, 32))));
            p.manifest("fans", "1.0", &format!("[front_end]\nhop = 64\n{cases}"));
        }),
        fault("baselines of a million values", "baselines.json", "expected at most 524288 values", |p| {
            let left_out: Vec<String> = (0..1_000_000).map(|key| format!("\"{key:x}\":0")).collect();
            p.set("baselines.json", format!("{{\"fan-1\":{{\"left_out\":{{{}}}}}}}", left_out.join(",")));
            p.manifest("fans", "1.0", "");
        }),
        rest(
            "band upside down",
            MANIFEST,
            "machine \"fan-1\": front_end.fmin_hz",
            "[machine.fan-1]\nfront_end = { fmax_hz = 10 }\n",
        ),
        rest(
            "other bands than the encoder's",
            ENCODER,
            "image of 64 x 128 as the front-end",
            "[front_end]\nn_mels = 64\n",
        ),
        rest("a machine that is none", MANIFEST, "found no machine \"fan-9\"", "[machine.fan-9]\n"),
        rest("an encoder's index too far", NAMES, "indices 0 to 4", "[machine.fan-2]\nencoder_index = 5\n"),
        rest("golden without files", MANIFEST, "expected the sha256 of golden_windows.npy", GOLDEN),
        fault("golden of no machine", MANIFEST, "found no machine \"fan-9\"", |p| {
            golden(p, 1, 80_000, 32, 0.0, "fan-9")
        }),
        fault("golden of more rows", GOLDEN_WINDOWS, "expected 1 rows", |p| golden(p, 2, 80_000, 32, 0.0, "fan-1")),
        fault("golden of short windows", GOLDEN_WINDOWS, "expected rows of 80000", |p| {
            golden(p, 1, 16_000, 32, 0.0, "fan-1")
        }),
        fault("golden of short embeddings", GOLDEN_EMBEDDINGS, "expected rows of 32", |p| {
            golden(p, 1, 80_000, 31, 0.0, "fan-1")
        }),
        fault("golden of NaN", GOLDEN_WINDOWS, "found NaN", |p| golden(p, 1, 80_000, 32, f32::NAN, "fan-1")),
    ]
}

const GOLDEN: &str = "[[golden]]\nname = \"a\"\nmachine = \"fan-1\"\ndistance = 1\n";

fn golden(parts: &mut Parts, cases: usize, samples: usize, width: usize, value: f32, machine: &str) {
    parts.set(GOLDEN_WINDOWS, npy(&Array2::from_elem((cases, samples), value)));
    parts.set(GOLDEN_EMBEDDINGS, npy(&Array2::<f32>::zeros((cases, width))));
    parts.manifest("fans", "1.0", &GOLDEN.replace("fan-1", machine));
}

/// All of them.
pub fn all(model: &[u8]) -> Vec<Fault> {
    [arrays(), pickles(), encoders(model), manifests()].into_iter().flatten().collect()
}
