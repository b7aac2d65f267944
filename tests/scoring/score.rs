//! Parity with the reference, from samples to verdicts; and `auscult score` and `auscult spectrogram` as a user meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use auscult::audio::wav::files::Windows;
use auscult::bundle::Bundle;
use auscult::config::Channel;
use auscult::encoder::{EncoderConfig, EngineChoice};
use auscult::features::{FrontEnd, MelExtractor};
use auscult::scoring::gate::Gate;
use auscult::scoring::{MachineModel, Scored, Scorer};
use ndarray::{Array2, Array3, Axis};
use serde_json::Value;

use crate::common::recordings::{clips, golden, mono, to_rate, write_wav};

fn engines() -> [EncoderConfig; 2] {
    [
        EncoderConfig { engine: EngineChoice::Tract, library: None },
        EncoderConfig { engine: EngineChoice::Litert, library: Some(crate::common::litert_library()) },
    ]
}

fn model(bundle: &Bundle, machine: &str, fmax_hz: f64) -> MachineModel {
    let known = bundle.machine(machine).unwrap();
    let front_end = FrontEnd { fmax_hz, ..known.front_end.clone() };
    MachineModel::new(known.index, known.bank.clone(), known.threshold.unwrap(), front_end, Gate::default())
}

/// What a run of the program left behind.
struct Run {
    code: i32,
    rows: Vec<Value>,
    stdout: String,
    stderr: String,
}

fn auscult(arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_auscult")).args(arguments).stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    let rows = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Run { code: output.status.code().unwrap(), rows, stdout, stderr }
}

/// `auscult score --json` with the real bundle; every line of stdout must be an object.
fn score(shared: &Path, machine: &str, arguments: &[&str]) -> Run {
    let bundle = shared.join("escoita-bundle");
    let head = ["score", "--json", "--engine", "tract", "--machine", machine, "--bundle", bundle.to_str().unwrap()];
    let run = auscult(&[&head, arguments].concat());
    assert_eq!(run.rows.len(), run.stdout.lines().count(), "{}", run.stdout);
    run
}

/// Ctrl-C in the middle: what was done and what is left, and a code that scripts know.
#[test]
fn what_is_interrupted_says_how_far_it_came() {
    use std::io::{BufRead, BufReader, Read};
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    for number in 0..3000 {
        let link = dir.path().join(format!("{number:04}.flac"));
        std::os::unix::fs::symlink(root.join("examples/healthy.flac"), link).expect("a link");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["score", "--machine", "fan-a", "--bundle"])
        .args([&root.join("models/demo"), dir.path()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("auscult starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("normal") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("text") > 0, "it ended too early");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill starts");
    assert!(kill.success());
    // Whoever reads the rows must not be what keeps it from ending.
    let rest = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{said}");
    rest.join().expect("a reader").expect("rows");
    assert!(said.contains("interrupted in file ") && said.contains(" of 3000, after "), "{said}");
    assert!(said.contains("the rows above are what there is"), "{said}");
}

fn worst<'a>(found: impl IntoIterator<Item = &'a f32>, expected: impl IntoIterator<Item = &'a f32>) -> f32 {
    found.into_iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn spectrogram_is_librosas() {
    let Some(shared) = crate::common::shared() else { return };
    for golden in golden(&shared) {
        let front_end = FrontEnd { fmax_hz: golden.fmax_hz, ..FrontEnd::default() };
        let mut extractor = MelExtractor::new(&front_end).unwrap();
        let samples = mono(&golden.clip);
        assert_eq!(golden.spectrogram.dim(), (2, 128, 128));
        for (window, expected) in samples.chunks_exact(80_000).zip(golden.spectrogram.axis_iter(Axis(0))) {
            let worst = worst(extractor.compute(window).unwrap(), expected);
            assert!(worst < 1e-5, "{}: {worst}", golden.name);
        }
    }
}

#[test]
fn embedding_and_distance_are_the_references_on_both_engines() {
    let Some(shared) = crate::common::shared() else { return };
    for config in engines() {
        let (bundle, engine) = Bundle::open(&shared.join("escoita-bundle"), &config).unwrap();
        let mut scorer = Scorer::new(engine);
        for golden in golden(&shared) {
            let model = model(&bundle, &golden.machine, golden.fmax_hz);
            for (number, window) in mono(&golden.clip).chunks_exact(80_000).enumerate() {
                let scored = scorer.score(&model, window).unwrap();
                let engine = scorer.engine_name();
                let off = worst(&scored.embedding.unwrap(), golden.embedding.row(number));
                assert!(off < 1e-3, "{engine} {}: embedding off by {off}", golden.name);
                let off = (scored.assessment.distance.unwrap() - f64::from(golden.distance[number])).abs();
                assert!(off < 1e-4, "{engine} {}: distance off by {off}", golden.name);
            }
        }
    }
}

#[test]
fn the_command_gives_the_references_values() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let npy = dir.path().join("embeddings.npy");
    let library = crate::common::litert_library();
    for golden in golden(&shared) {
        for engine in ["tract", "litert"] {
            let bundle = shared.join("escoita-bundle");
            let run = auscult(&[
                "score",
                "--json",
                "--bundle",
                bundle.to_str().unwrap(),
                "--machine",
                &golden.machine,
                "--fmax",
                &golden.fmax_hz.to_string(),
                "--engine",
                engine,
                "--library",
                library.to_str().unwrap(),
                "--embeddings",
                npy.to_str().unwrap(),
                golden.clip.to_str().unwrap(),
            ]);
            assert_eq!((run.code, run.rows.len()), (0, 2), "{}", run.stderr);
            let embeddings: Array2<f32> = ndarray_npy::read_npy(&npy).unwrap();
            assert_eq!(embeddings.dim(), (2, 32));
            assert!(worst(&embeddings, &golden.embedding) < 1e-3);
            for (number, row) in run.rows.iter().enumerate() {
                let distance = row["distance"].as_f64().unwrap();
                assert!((distance - f64::from(golden.distance[number])).abs() < 1e-4, "{engine} {}", golden.name);
                let verdict = if distance > row["threshold"].as_f64().unwrap() { "anomalous" } else { "normal" };
                assert_eq!(row["verdict"], verdict);
                assert_eq!(row["file"], golden.clip.to_str().unwrap());
                assert_eq!((&row["machine"], &row["reason"]), (&Value::from(golden.machine.as_str()), &Value::Null));
                assert_eq!(
                    (row["window"].as_u64(), row["start_s"].as_f64()),
                    (Some(number as u64), Some(5.0 * number as f64))
                );
                assert!((-60.0..-20.0).contains(&row["level_dbfs"].as_f64().unwrap()));
            }
        }
    }
}

/// Taken up to another rate and resampled again, a clip is scored as before.
#[test]
fn the_rate_of_a_recording_does_not_matter() {
    let Some(shared) = crate::common::shared() else { return };
    let (bundle, engine) = Bundle::open(&shared.join("escoita-bundle"), &engines()[1]).unwrap();
    let mut scorer = Scorer::new(engine);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("clip.wav");
    let machines = [("id_00", 8000.0), ("id_02", 8000.0), ("id_04", 8000.0), ("id_06", 8000.0), ("id_08", 2000.0)];
    let models: Vec<_> = machines.iter().map(|(machine, fmax_hz)| model(&bundle, machine, *fmax_hz)).collect();
    let mut score = |windows: &[Vec<f32>]| -> Vec<Scored> {
        windows.iter().flat_map(|w| models.iter().map(|m| scorer.score(m, w).unwrap()).collect::<Vec<_>>()).collect()
    };
    for clip in clips(&shared) {
        let samples = mono(&clip);
        let windows: Vec<Vec<f32>> = samples.chunks_exact(80_000).map(<[f32]>::to_vec).collect();
        let before = score(&windows);
        for rate_hz in [22_050, 32_000, 44_100, 48_000, 96_000, 192_000] {
            write_wav(&file, rate_hz, 1, 32, true, &to_rate(&samples, 16_000, rate_hz as usize));
            let again =
                Windows::open(&file, Channel::Mix, 16_000, 80_000).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            assert_eq!(again.len(), windows.len());
            for (before, after) in before.iter().zip(score(&again)) {
                let (was, is) = (before.embedding.as_ref().unwrap(), after.embedding.unwrap());
                let moved = was.iter().zip(&is).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                assert!(moved < 0.05, "{} at {rate_hz} Hz: the embedding moved by {moved}", clip.display());
                let moved = (before.assessment.distance.unwrap() - after.assessment.distance.unwrap()).abs();
                assert!(moved < 0.02, "{} at {rate_hz} Hz: the distance moved by {moved}", clip.display());
            }
        }
    }
}

#[test]
fn rates_that_cannot_carry_the_band_are_scored_and_reported() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("telephone.wav");
    write_wav(&file, 8000, 1, 16, false, &to_rate(&mono(&clips(&shared)[0]), 16_000, 8000));
    let run = score(&shared, "id_02", &[file.to_str().unwrap()]);
    assert_eq!((run.code, run.rows.len()), (0, 2));
    assert!(run.rows.iter().all(|row| row["distance"].is_f64()));
    assert!(run.stderr.contains("telephone.wav: 8000 Hz carries nothing above 4000 Hz"), "{}", run.stderr);
    // All that id_08's band needs is there.
    let run = score(&shared, "id_08", &["--fmax", "2000", file.to_str().unwrap()]);
    assert!(!run.stderr.contains("note"), "{}", run.stderr);
}

#[test]
fn every_depth_and_channel_count_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    let tone: Vec<f32> = (0..8000).map(|n| (n as f32 * 0.05).sin() * 0.9).collect();
    for (bits, float) in [(8, false), (16, false), (24, false), (32, false), (32, true)] {
        for channels in [1u16, 2, 3, 8, 32] {
            let gain = |channel: u16| f32::from(channel + 1) / f32::from(channels);
            let samples: Vec<f32> =
                tone.iter().flat_map(|sample| (0..channels).map(move |channel| sample * gain(channel))).collect();
            write_wav(&file, 16_000, channels, bits, float, &samples);
            let read = |channel| -> Vec<f32> {
                let windows = Windows::open(&file, channel, 16_000, 4000).unwrap();
                windows.collect::<Result<Vec<_>, _>>().unwrap().concat()
            };
            let step = if float { 1e-7 } else { 1.0 / f32::from(bits - 1).exp2() };
            let mean = (0..channels).map(gain).sum::<f32>() / f32::from(channels);
            let last = channels - 1;
            for (channel, gain) in [(Channel::One(usize::from(last)), gain(last)), (Channel::Mix, mean)] {
                let expected: Vec<f32> = tone.iter().map(|sample| sample * gain).collect();
                let found = read(channel);
                assert_eq!(found.len(), tone.len());
                let off = worst(&found, &expected);
                assert!(off <= 0.51 * step + 1e-6, "{bits} bits, {channels} channels, {channel:?}: {off}");
            }
        }
    }
}

/// A WAV file's 44 bytes of header, 16-bit, promising `data_bytes`.
fn header(rate_hz: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let mut header = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
    header[4..8].copy_from_slice(&data_bytes.saturating_add(36).to_le_bytes());
    header.extend(channels.to_le_bytes());
    header.extend(rate_hz.to_le_bytes());
    header.extend(rate_hz.wrapping_mul(2 * u32::from(channels)).to_le_bytes());
    header.extend((channels.wrapping_mul(2)).to_le_bytes());
    header.extend(*b"\x10\0data");
    header.extend(data_bytes.to_le_bytes());
    header
}

#[test]
fn bad_audio_is_named_and_passed_over() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let clip = fs::read(&clips(&shared)[0]).unwrap();
    put("good.wav", &clip);
    put("empty.wav", b"");
    put("garbage.wav", &[0x5a; 5000]);
    put("half-a-header.wav", &header(16_000, 1, 100)[..30]);
    put("truncated.wav", &clip[..clip.len() / 2 + 50_000]);
    put("no-rate.wav", &[header(0, 1, 100), vec![0; 100]].concat());
    put("wild-rate.wav", &[header(u32::MAX, 1, 100), vec![0; 100]].concat());
    put("no-channel.wav", &[header(16_000, 0, 100), vec![0; 100]].concat());
    put("wild-channels.wav", &[header(16_000, u16::MAX, 100), vec![0; 100]].concat());
    fs::create_dir(dir.path().join("deep")).unwrap();
    put("deep/promises.wav", &[header(16_000, 1, 2_000_000_000), vec![1; 1000]].concat());
    let run = score(&shared, "id_02", &[dir.path().to_str().unwrap(), dir.path().join("none.wav").to_str().unwrap()]);
    assert_eq!(run.code, 65);
    let named: Vec<_> = run.stderr.lines().collect();
    let expected = [
        ("empty.wav", "an empty one"),
        ("garbage.wav", "expected a WAV file"),
        ("half-a-header.wav", "end of the file"),
        ("truncated.wav", "truncated: expected 160000 frames"),
        ("no-rate.wav", "found 0 Hz"),
        ("wild-rate.wav", "found 4294967295 Hz"),
        ("no-channel.wav", "found 0"),
        ("wild-channels.wav", "found 65535"),
        ("promises.wav", "truncated: expected 1000000000 frames, found 500"),
        ("none.wav", "No such file"),
    ];
    for (file, problem) in expected {
        assert!(named.iter().any(|line| line.contains(file) && line.contains(problem)), "{file}: {}", run.stderr);
    }
    assert_eq!(named.len(), expected.len(), "{}", run.stderr);
    // The good file's windows, and those that the truncated one still has.
    let files: Vec<_> = run.rows.iter().map(|row| row["file"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(files, ["good.wav", "good.wav", "truncated.wav"]);
}

#[test]
fn what_cannot_be_assessed_is_unknown() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    let clip = mono(&clips(&shared)[0]);
    let mut samples = [&clip[..80_000], &[0.0; 80_000], &clip[..80_000], &clip[..80_000], &clip[..80_000]].concat();
    samples[200_000] = f32::NAN;
    // Finite, without an offset, and beyond what its power can be told in.
    (samples[300_000], samples[300_001]) = (1e30, -1e30);
    write_wav(&file, 16_000, 1, 32, true, &samples);
    let npy = dir.path().join("embeddings.npy");
    let run = score(&shared, "id_02", &["--embeddings", npy.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let outcomes: Vec<_> = run.rows.iter().map(|row| (row["verdict"].as_str(), row["reason"].as_str())).collect();
    assert_eq!(outcomes[0].1, None);
    assert_eq!(outcomes[1], (Some("unknown"), Some("silent")));
    assert_eq!(outcomes[2], (Some("unknown"), Some("not_finite")));
    assert_eq!(outcomes[3], (Some("unknown"), Some("not_finite")));
    assert_eq!(outcomes[4], outcomes[0]);
    assert_eq!(run.rows[4]["distance"], run.rows[0]["distance"]);
    let embeddings: Array2<f32> = ndarray_npy::read_npy(&npy).unwrap();
    let broken: Vec<bool> = embeddings.outer_iter().map(|row| row.iter().all(|value| value.is_nan())).collect();
    assert_eq!(broken, [false, true, true, true, false]);

    // At another rate the NaN reaches into the window before or after at most.
    write_wav(&file, 48_000, 1, 32, true, &[vec![0.1; 300_000], vec![f32::NAN], vec![0.1; 500_000]].concat());
    let run = score(&shared, "id_02", &[file.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let outcomes: Vec<_> = run.rows.iter().map(|row| row["reason"].as_str()).collect();
    assert_eq!((outcomes.len(), outcomes[1]), (3, Some("not_finite")));
    assert_ne!(outcomes[2], Some("not_finite"));
}

#[test]
fn exit_codes_tell_what_was_wrong() {
    let Some(shared) = crate::common::shared() else { return };
    let clip = clips(&shared)[0].to_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let bundle = shared.join("escoita-bundle");

    let run = score(&shared, "id_44", &[&clip]);
    assert_eq!(run.code, 65);
    assert!(run.stderr.contains("id_00, id_02, id_04, id_06, id_08") && run.stderr.contains("id_44"), "{}", run.stderr);
    let run = auscult(&["score", "--bundle", &path("none"), "--machine", "id_04", &clip]);
    assert_eq!((run.code, run.stderr.lines().count()), (65, 1), "{}", run.stderr);

    for wrong in [
        vec!["--threshold", "0"],
        vec!["--threshold", "-1"],
        vec!["--threshold", "nan"],
        vec!["--channel", "left"],
        vec!["--fmin", "9000"],
        vec!["--fmax", "8001"],
        vec!["--fmax", "-5"],
        vec!["--engine", "quantum"],
        vec!["--nonsense"],
    ] {
        let run = score(&shared, "id_04", &[wrong.clone(), vec![&clip]].concat());
        assert_eq!(run.code, 2, "{wrong:?}: {}", run.stderr);
    }
    assert_eq!(score(&shared, "id_04", &[]).code, 2);
    let run = score(&shared, "id_04", &["--channel", "8", &clip]);
    assert_eq!(run.code, 65);
    assert!(run.stderr.contains("expected a channel of 0 to 7, found 8"), "{}", run.stderr);
    let run = score(&shared, "id_04", &["--channel", "7", "--threshold", "500", &clip]);
    assert_eq!(run.code, 0);
    assert!(run.rows.iter().all(|row| row["verdict"] == "normal" && row["threshold"] == 500.0));
    let run = score(&shared, "id_04", &["--embeddings", &path("no/such/dir.npy"), &clip]);
    assert_eq!(run.code, 1);

    // A bundle that has a threshold for index 1 only.
    let partial = dir.path().join("partial");
    fs::create_dir(&partial).unwrap();
    for file in ["encoder.tflite", "emb_train.npy", "ids_train.npy", "id_to_int.pkl"] {
        fs::copy(bundle.join(file), partial.join(file)).unwrap();
    }
    fs::write(partial.join("thresholds_by_machine.pkl"), "(dp0\nI1\nF0.25\ns.").unwrap();
    let score_partial = |extra: &[&str]| {
        let partial = partial.to_str().unwrap();
        auscult(&[&["score", "--bundle", partial, "--machine", "id_00", "--json", &clip], extra].concat())
    };
    let run = score_partial(&[]);
    assert_eq!(run.code, 65);
    assert!(run.stderr.contains("no threshold for \"id_00\""), "{}", run.stderr);
    assert_eq!(score_partial(&["--threshold", "0.3"]).code, 0);

    // Too short for a verdict, and nothing to score at all.
    write_wav(Path::new(&path("short.wav")), 16_000, 1, 16, false, &[0.1; 40_000]);
    let run = score(&shared, "id_04", &[&path("short.wav")]);
    assert_eq!((run.code, run.rows.len()), (0, 0));
    assert!(run.stderr.contains("short.wav: 2.500 s is less than a window of 5 s"), "{}", run.stderr);
    fs::create_dir(path("nothing")).unwrap();
    let run = score(&shared, "id_04", &[&path("nothing")]);
    assert_eq!(run.code, 65);
    assert!(run.stderr.contains("expected WAV, FLAC, Ogg or MP3 files, found none"), "{}", run.stderr);
}

#[test]
fn the_table_lines_up_and_sums_up() {
    let Some(shared) = crate::common::shared() else { return };
    let (bundle, audio) = (shared.join("escoita-bundle"), shared.join("audio"));
    let (bundle, audio) = (bundle.to_str().unwrap(), audio.to_str().unwrap());
    let run = auscult(&["score", "--engine", "tract", "--bundle", bundle, "--machine", "id_04", audio]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", run.stdout);
    assert!(lines[..5].iter().all(|line| line.chars().count() == lines[0].chars().count()), "{}", run.stdout);
    assert_eq!(lines[0].split_whitespace().count(), lines[1].split_whitespace().count());
    assert_eq!(lines[5], "4 windows: 4 anomalous (100.0 % of the 4 assessed), 0 unknown; engine tract");
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let Some(shared) = crate::common::shared() else { return };
    let bundle = shared.join("escoita-bundle");
    let clip = clips(&shared)[0].clone();
    let mut child = Command::new(env!("CARGO_BIN_EXE_auscult"))
        .args(["score", "--engine", "tract", "--machine", "id_04", "--bundle"])
        .arg(bundle)
        .args(vec![clip; 4])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn spectrogram_writes_numbers_and_a_picture() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (npy, png) = (path("a.npy"), path("a.png"));
    for golden in golden(&shared) {
        let clip = golden.clip.to_str().unwrap();
        let fmax = golden.fmax_hz.to_string();
        let run =
            auscult(&["spectrogram", clip, "--window", "1", "--fmax", &fmax, "--npy", &npy, "--png", &png, "--json"]);
        assert_eq!((run.code, run.rows.len()), (0, 1), "{}", run.stderr);
        assert_eq!((&run.rows[0]["window"], &run.rows[0]["frames"]), (&Value::from(1), &Value::from(128)));
        let image: Array2<f32> = ndarray_npy::read_npy(&npy).unwrap();
        assert_eq!(image.dim(), (128, 128));
        assert!(worst(&image, golden.spectrogram.index_axis(Axis(0), 1)) < 1e-5, "{}", golden.name);
        let picture = fs::read(&png).unwrap();
        let info = png::Decoder::new(picture.as_slice()).read_info().unwrap().info().size();
        assert!(info.0 > 700 && info.1 > 500, "{info:?}");
    }
    let clip = clips(&shared)[0].to_str().unwrap().to_owned();
    let run = auscult(&["spectrogram", &clip]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("128 bands x 128 of 157 frames") && run.stdout.lines().count() > 20, "{}", run.stdout);
    for (arguments, code, problem) in [
        (vec![clip.as_str(), "--window", "2"], 65, "expected a window of 0 to 1, found 2"),
        (vec![&path("none.wav")], 65, "No such file"),
        (vec![&clip, "--fmax", "9000"], 2, "fmax_hz: expected"),
        (vec![&clip, &clip, "--png", &png], 2, "--png"),
        (vec![&clip, &clip], 2, "--npy"),
        (vec![&clip, "--machine", "id_04"], 2, "--bundle"),
    ] {
        let run = auscult(&[vec!["spectrogram"], arguments.clone()].concat());
        assert_eq!(run.code, code, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(problem), "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn spectrograms_of_many_files_go_into_one_array() {
    let Some(shared) = crate::common::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let npy = path("all.npy");
    let bundle = shared.join("escoita-bundle").to_str().unwrap().to_owned();
    let broken = path("broken.wav");
    fs::write(&broken, "broken").unwrap();
    let with_nan = path("nan.wav");
    write_wav(Path::new(&with_nan), 16_000, 1, 32, true, &[vec![f32::NAN; 80_000], vec![0.25; 80_000]].concat());
    let audio = shared.join("audio").to_str().unwrap().to_owned();
    let head = ["spectrogram", "--bundle", &bundle, "--machine", "id_04", "--npy", &npy, "--json"];
    let run = auscult(&[&head, [broken.as_str(), &with_nan, &audio].as_slice()].concat());
    assert_eq!(run.code, 65);
    assert!(run.stderr.contains("broken.wav"), "{}", run.stderr);
    let rows: Vec<_> = run.rows.iter().map(|row| (row["row"].as_u64(), row["window"].as_u64().unwrap())).collect();
    assert_eq!(rows, [(None, 0), (Some(0), 1), (Some(1), 0), (Some(2), 1), (Some(3), 0), (Some(4), 1)]);
    let images: Array3<f32> = ndarray_npy::read_npy(&npy).unwrap();
    assert_eq!(images.dim(), (5, 128, 128));
    let golden = golden(&shared).into_iter().find(|golden| golden.name == "abnormal_id_02.scored_as_id_02").unwrap();
    for window in 0..2 {
        let image = images.index_axis(Axis(0), 1 + window);
        assert!(worst(image, golden.spectrogram.index_axis(Axis(0), window)) < 1e-5);
    }
}
