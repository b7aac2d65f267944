//! Bundles switched while sound goes on: two real ones a hundred times, bad ones never, and through `kill -9`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auscult::mqtt::topics::MachinePart;
use ndarray_npy::ReadNpyExt;
use serde_json::{Value, json};
use tract_tflite::tflite;

use crate::agent_process::{NORMAL, Shelf, Site, new_id, tar_gz, wait_judging};
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::*;
use crate::common::faults::{self, Fault};
use crate::common::wait::random_moment;
use crate::retuning::{fans, plant};

/// The real bundle, and one that is as good but for one thing: every embedding is moved by 1 in each of its 32 numbers, of
/// the encoder and of the bank alike. Distances are the same under both; one bundle's embedding against the other's bank
/// would be off by 5.7. Thresholds are higher by 1 in the second.
fn two_real_bundles() -> Option<[Parts; 2]> {
    let dir = crate::common::shared()?.join("escoita-bundle");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a file of the real bundle");
    let files = [ENCODER, BANK, NAMES, ROW_IDS, THRESHOLDS].map(|name| (name.to_owned(), read(name)));
    let mut one = Parts(BTreeMap::from(files));
    let mut two = one.clone();
    one.manifest("halls", "1.0", "");

    let mut model = read(ENCODER);
    let at = bias_of_the_last_layer(&model);
    for number in model[at].as_chunks_mut::<4>().0 {
        *number = (f32::from_le_bytes(*number) + 1.0).to_le_bytes();
    }
    let bank = ndarray::Array2::<f32>::read_npy(read(BANK).as_slice()).expect("the real bank");
    let thresholds = [1.142695, 1.174972, 1.170548, 1.234855, 1.309586];
    two.set(ENCODER, model);
    two.set(BANK, npy(&(bank + 1.0)));
    two.set(THRESHOLDS, pickle(&(0..5).zip(thresholds).collect::<BTreeMap<i32, f64>>()));
    two.manifest("halls", "2.0", "");
    Some([one, two])
}

/// Where in the file the bias of the fully connected layer lies.
fn bias_of_the_last_layer(model: &[u8]) -> std::ops::Range<usize> {
    let root = tflite::root_as_model(model).expect("the real encoder");
    let graph = root.subgraphs().expect("a graph").get(0);
    let codes = root.operator_codes().expect("operators");
    let is_dense = |index: u32| {
        let code = codes.get(index as usize);
        let number = code.builtin_code().0.max(code.deprecated_builtin_code().into());
        number == tflite::BuiltinOperator::FULLY_CONNECTED.0
    };
    let operators = graph.operators().expect("operators");
    let dense = operators.iter().find(|operator| is_dense(operator.opcode_index())).expect("a fully connected layer");
    let bias = graph.tensors().expect("tensors").get(dense.inputs().expect("inputs").get(2) as usize);
    let bytes = root.buffers().expect("buffers").get(bias.buffer() as usize).data().expect("constants").bytes();
    assert_eq!(bytes.len(), 32 * 4);
    let start = bytes.as_ptr() as usize - model.as_ptr() as usize;
    start..start + bytes.len()
}

/// Switches to and fro while a recording of 10 s is played again and again, a window each half second: the distances
/// repeat themselves after 20 windows, whichever bundle they are from.
fn reload(times: usize) {
    let Some(bundles) = two_real_bundles() else { return };
    let wav = crate::common::shared().expect("it is there").join(NORMAL);
    let broker = Broker::start();
    let subscriber = Subscriber::start(&broker);
    let mut site = Site::with_models("pi-7", "north", &broker, &wav, "", ["id_04", "id_00"]);
    for (name, parts) in ["halls-1.0", "halls-2.0"].iter().zip(&bundles) {
        site.lay(name, parts);
    }
    site.link("halls-1.0");
    site.start(&subscriber);
    let is_verdict = |message: &Message| message.is_machine("fan-1", MachinePart::Verdict);
    subscriber.wait_for_count("a whole round of windows", 21, is_verdict);
    let mut memory = Vec::new();
    for round in 0..times {
        let path = ["halls-2.0", "halls-1.0"][round % 2];
        site.ask_ok(&broker, &subscriber, json!({ "id": new_id(), "command": "bundle.reload", "path": path }));
        memory.push(site.memory_mb());
        // With at least one window under each.
        let label = path.replace('-', "@");
        let before = subscriber.messages().len();
        crate::common::wait::wait_until("a verdict of the new bundle", || {
            subscriber.messages()[before..]
                .iter()
                .any(|message| is_verdict(message) && message.json()["bundle"] == *label)
        });
    }
    for (machine, thresholds) in [("fan-1", [0.170548, 1.170548]), ("fan-2", [0.142695, 1.142695])] {
        let verdicts: Vec<Value> = subscriber
            .messages()
            .iter()
            .filter(|message| message.is_machine(machine, MachinePart::Verdict))
            .map(Message::json)
            .collect();
        let mut used = BTreeMap::<String, usize>::new();
        // A machine that is busy with other tests says that it did not get to a window; a reload alone is no reason for it.
        let overloaded = verdicts.iter().filter(|verdict| verdict["reason"] == "overload").count();
        assert!(10 * overloaded <= verdicts.len(), "{overloaded} of {} windows were not got to", verdicts.len());
        for (seq, verdict) in verdicts.iter().enumerate() {
            assert_eq!(verdict["seq"], seq, "a window of {machine} is missing");
            if verdict["reason"] == "overload" {
                continue;
            }
            let distance = |verdict: &Value| verdict["distance"].as_f64().unwrap_or_else(|| panic!("{verdict}"));
            let mut same = verdicts.iter().skip(seq % 20).step_by(20);
            let first = same.find(|verdict| verdict["distance"].is_number()).expect("itself");
            let (found, expected) = (distance(verdict), distance(first));
            assert!((found - expected).abs() < 1e-3, "window {seq} of {machine}: {found} instead of {expected}");
            let label = verdict["bundle"].as_str().expect("a bundle");
            let threshold = thresholds[usize::from(label == "halls@2.0")];
            assert!((verdict["threshold"].as_f64().expect("a threshold") - threshold).abs() < 1e-5, "{verdict}");
            *used.entry(label.to_owned()).or_default() += 1;
        }
        println!("{machine}: {used:?}");
        assert_eq!(used.len(), 2);
    }
    let (early, late) = (memory[memory.len().min(10) - 1], memory[memory.len() - 1]);
    println!("memory after 10 reloads {early:.1} MB, after {times} {late:.1} MB");
    // One bundle alone is 3 MB, with its engine's weights 20.
    assert!(late < early + 20.0, "{memory:?}");
}

#[test]
fn reloads_fall_between_two_windows() {
    reload(6);
}

#[test]
fn an_older_version_is_refused_where_the_configuration_says_so() {
    let Some((broker, subscriber, site)) = plant("allow_downgrade = false") else { return };
    let reload = |path: &str| json!({ "id": new_id(), "command": "bundle.reload", "path": path });
    let encoder = encoder().expect("it is there");
    site.lay("halls-hash", &fans(&encoder, "0a1b2c3d4e5f"));
    site.ask_ok(&broker, &subscriber, reload("halls-2.0"));
    let message = site.ask_error(&broker, &subscriber, reload("halls-1.0"), "bundle_invalid");
    assert!(message.contains("halls: expected version 2.0 or newer") && message.contains("found 1.0"), "{message}");
    let message = site.ask_error(&broker, &subscriber, reload("halls-hash"), "bundle_invalid");
    assert!(message.contains("expected versions of numbers and dots"), "{message}");
    assert_eq!(site.state(&broker, &subscriber)["bundle"]["label"], "halls@2.0");
    // The same again, and the way back, are no downgrade.
    site.ask_ok(&broker, &subscriber, reload("halls-2.0"));
    let data = site.ask_ok(&broker, &subscriber, json!({ "id": new_id(), "command": "bundle.rollback" }));
    assert_eq!(data["bundle"], "halls@1.0");
}

#[test]
fn a_refused_bundle_gives_its_memory_back() {
    let Some((broker, subscriber, site)) = plant("") else { return };
    let encoder = encoder().expect("it is there");
    wait_judging(&subscriber, "fan-1");
    let before = site.memory_mb();
    let bombs = faults::pickles()
        .into_iter()
        .chain(faults::manifests())
        .filter(|fault| fault.what.contains("ten thousand") || fault.what.contains("million"));
    for Fault { what, words, change, .. } in bombs {
        let mut parts = fans(&encoder, "6.6");
        change(&mut parts);
        if !words.contains("front_end") {
            parts.manifest("halls", "6.6", "");
        }
        site.lay("bomb", &parts);
        let reload = json!({ "id": new_id(), "command": "bundle.reload", "path": "bomb" });
        let message = site.ask_error(&broker, &subscriber, reload, "bundle_invalid");
        assert!(message.contains(words), "{what}: {message}");
        let after = site.memory_mb();
        println!("{what}: {before:.1} MB before, {after:.1} MB after");
        assert!(after < before + 30.0, "{what}: {before:.1} MB before, {after:.1} MB after");
    }
}

#[test]
#[ignore = "a minute of sound"]
fn a_hundred_reloads_fall_between_two_windows() {
    reload(100);
}

/// Bad bundles by reload and by install; every `step`th of them.
fn bad_bundles(step: usize) {
    let shelf = Shelf::new();
    let Some((broker, subscriber, site)) = plant(&shelf.allowed()) else { return };
    let encoder = encoder().expect("it is there");
    let valid = fans(&encoder, "6.6");
    wait_judging(&subscriber, "fan-1");
    let listing = || {
        let names = std::fs::read_dir(site.bundles()).expect("a directory").map(|entry| entry.expect("an entry"));
        let mut names: Vec<_> = names.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
        // Its record of what was installed is the store's own.
        names.retain(|name| name != ".history.json");
        names.sort();
        names
    };
    let mut clean = Vec::new();
    for (number, Fault { what, file, words, change }) in faults::all(&encoder).into_iter().step_by(step).enumerate() {
        let mut parts = Parts::valid(&encoder);
        change(&mut parts);
        site.lay("bad", &parts);
        let reload = json!({ "id": new_id(), "command": "bundle.reload", "path": "bad" });
        let message = site.ask_error(&broker, &subscriber, reload, "bundle_invalid");
        assert!(message.contains(file) && message.contains(words), "{what}: {message}");
        std::fs::remove_dir_all(site.bundles().join("bad")).expect("our own directory");

        // In an archive it has a manifest, with the hashes of what is wrong.
        if !parts.0.contains_key(MANIFEST) {
            parts.manifest("halls", "6.6", "");
        }
        let (url, sha256) = shelf.put(&tar_gz(&parts));
        let install = json!({ "id": new_id(), "command": "bundle.install", "url": url, "sha256": sha256 });
        let message = site.ask_error(&broker, &subscriber, install, "bundle_invalid");
        assert!(message.contains("the running bundle stays"), "{what}: {message}");
        if number == 0 {
            clean = listing();
        }
        assert_eq!(listing(), clean, "{what}");
        let incoming: Vec<_> = site.bundles().join(".incoming").read_dir().expect("a directory").collect();
        assert!(incoming.is_empty(), "{what}: {incoming:?}");
    }
    assert_eq!(site.state(&broker, &subscriber)["bundle"]["label"], "halls@1.0");
    let (url, sha256) = shelf.put(&tar_gz(&valid));
    let install = json!({ "id": new_id(), "command": "bundle.install", "url": url, "sha256": sha256 });
    site.ask_ok(&broker, &subscriber, install);
    let seqs: Vec<u64> = subscriber
        .messages()
        .iter()
        .filter(|message| message.is_machine("fan-1", MachinePart::Verdict))
        .filter_map(|message| message.json()["seq"].as_u64())
        .collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
}

#[test]
fn bad_bundles_are_refused_and_leave_nothing() {
    bad_bundles(8);
}

#[test]
#[ignore = "every bad bundle there is, twice"]
fn all_bad_bundles_are_refused_and_leave_nothing() {
    bad_bundles(1);
}

/// Kills the agent at random moments of an install, starts it again and sends the command again.
fn kills(times: usize) {
    let shelf = Shelf::new();
    let Some((broker, subscriber, mut site)) = plant(&shelf.allowed()) else { return };
    let encoder = encoder().expect("it is there");
    let archives = ["3.0", "4.0"].map(|version| (version, tar_gz(&fans(&encoder, version))));
    let install = |id: &str, archive: &[u8]| {
        let (url, sha256) = shelf.put(archive);
        json!({ "id": id, "command": "bundle.install", "url": url, "sha256": sha256 })
    };
    let begin = Instant::now();
    site.ask_ok(&broker, &subscriber, install(&new_id(), &archives[1].1));
    let span = begin.elapsed() * 5 / 4;
    let mut in_use = "halls@4.0".to_owned();
    let mut after = BTreeMap::<bool, usize>::new();
    for round in 0..times {
        let (version, archive) = &archives[round % 2];
        let target = format!("halls@{version}");
        let command = install(&new_id(), archive);
        subscriber.publish(&site.control(), false, command.to_string());
        random_moment(Duration::ZERO..span);
        site.kill();
        subscriber.clear();
        site.start(&subscriber);
        let running = site.state(&broker, &subscriber)["bundle"]["label"].clone();
        assert!(running == *in_use || running == *target, "round {round}: {running}");
        *after.entry(running == *target).or_default() += 1;
        let hidden = |name: &str| name.starts_with(".staging-");
        let data = site.ask_ok(&broker, &subscriber, command);
        assert_eq!(data["bundle"], *target, "round {round}");
        let state = site.state(&broker, &subscriber);
        assert_eq!(state["bundle"]["label"], *target, "round {round}");
        for dir in [site.bundles(), site.bundles().join(".incoming")] {
            for entry in dir.read_dir().expect("a directory") {
                let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
                assert!(!hidden(&name), "round {round}: {name} is left");
            }
        }
        in_use = target;
    }
    println!("an install takes {:?}; running the new bundle after the kill: {after:?}", span * 4 / 5);
}

#[test]
fn a_kill_during_an_install_leaves_a_valid_bundle() {
    kills(4);
}

#[test]
#[ignore = "fifty kills"]
fn fifty_kills_during_an_install_leave_a_valid_bundle() {
    kills(50);
}
