//! What an alarm sounded like, of a real agent over a real broker: clips are kept, given out in pieces, and no sound leaves
//! an agent that may not give it out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auscult::mqtt::topics::{AgentPart, MachinePart};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::encoder;
use crate::common::disk::SmallDisk;
use crate::common::program::too_wide;
use crate::common::wait::{random_moment, wait_until};
use crate::retuning::fans;

pub fn ask(heard: &Subscriber, mut command: Value) -> Value {
    let id = new_id();
    command["id"] = json!(id);
    heard.publish("auscult/pi-1/control", false, command.to_string());
    heard.wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id).json()
}

pub fn ok(heard: &Subscriber, command: Value) -> Value {
    let reply = ask(heard, command);
    assert_eq!(reply["status"], "ok", "{reply}");
    reply["data"].clone()
}

const MACHINE: &str = "[[machine]]\nid = \"fan-1\"\nsource = { synth = \"fan\", speed = 50.0 }\n";

/// An agent whose threshold makes alarms come and go.
pub fn site(broker: &Broker, encoder: &[u8], sections: &str) -> Site {
    let machine = format!("[alarm]\nclear_after_s = 0.0\n{sections}{MACHINE}");
    let site = Site::new(&broker.url(), Path::new("bundle"), &machine);
    fans(encoder, "1.0").write(&site.dir.path().join("bundle"));
    site
}

/// The same, which learns its normal at once.
pub fn learning_site(broker: &Broker, encoder: &[u8]) -> Site {
    let site = site(broker, encoder, "");
    let text = fs::read_to_string(&site.config).expect("the configuration");
    fs::write(&site.config, format!("{text}baseline = \"auto\"\nbaseline_minutes = 8\n")).expect("written");
    site
}

fn set(heard: &Subscriber, threshold: f64) {
    ok(heard, json!({ "command": "threshold.set", "machine": "fan-1", "threshold": threshold }));
}

/// Raises the alarm and lets it end; its number in the journal.
pub fn alarm(heard: &Subscriber) -> i64 {
    heard.clear();
    set(heard, 1e-6);
    let is = |state: &'static str| {
        move |message: &Message| message.is_machine("fan-1", MachinePart::Alarm) && message.json()["state"] == state
    };
    let active = heard.wait_for("the alarm", is("active")).json();
    set(heard, 900.0);
    heard.wait_for("its end", is("normal"));
    active["journal"].as_i64().expect("its number")
}

fn alarms(heard: &Subscriber) -> Vec<Value> {
    ok(heard, json!({ "command": "alarm.list", "limit": 200 }))["alarms"].as_array().expect("alarms").clone()
}

fn ctl(broker: &Broker, arguments: &[&str]) -> (bool, String) {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_auscult"));
    let output =
        ctl.args(["ctl", "--broker", &broker.url(), "--agent", "pi-1"]).args(arguments).output().expect("ctl starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub fn ready(heard: &Subscriber) {
    heard.wait_for("a verdict", |message| {
        message.is_machine("fan-1", MachinePart::Verdict) && message.json()["late"] == false
    });
}

#[test]
fn home_assistant_is_shown_the_newest_alarm_unless_it_is_not_wanted() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = site(&broker, &encoder, "[homeassistant]\ndiscovery = true\n");
    let agent = site.agent();
    ready(&heard);
    alarm(&heard);
    assert_eq!(agent.terminate(), Some(0));
    let clips = fs::read_dir(site.dir.path().join("state/clips/fan-1")).expect("clips");
    let pictures: Vec<_> =
        clips.map(|clip| fs::read(clip.expect("a clip").path().join("spectrogram.png")).expect("a picture")).collect();
    // What the broker keeps, in the end.
    let kept = || {
        let late = Subscriber::of(&broker, &["auscult/pi-1/fan-1/picture", "end"]);
        late.publish("end", false, "");
        late.wait_for("the end", |message| message.topic == "end");
        let is = |message: Message| (message.topic != "end").then_some(message.payload);
        late.messages().into_iter().filter_map(is).collect::<Vec<_>>()
    };
    assert_eq!(pictures.len(), 1);
    let again = |configuration: String| {
        fs::write(&site.config, configuration).expect("written");
        heard.clear();
        let agent = site.agent();
        ready(&heard);
        agent
    };
    // Where Home Assistant came later, or its broker is new, the next start shows it.
    let text = fs::read_to_string(&site.config).expect("the configuration");
    heard.publish("auscult/pi-1/fan-1/picture", true, "");
    let agent = again(text.clone());
    wait_until("the picture", || kept() == pictures);
    assert_eq!(agent.terminate(), Some(0));
    let agent = again(text.replace("discovery = true", "discovery = true\npictures = false"));
    assert_eq!(agent.terminate(), Some(0));
    assert!(kept().is_empty());
}

#[test]
fn an_alarm_can_be_heard_where_that_is_allowed_and_seen_where_not() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = site(&broker, &encoder, "[privacy]\nallow_audio = true\n");
    let agent = site.agent();
    ready(&heard);
    let number = alarm(&heard);
    // Whoever knows at once answers before there is a clip.
    let answer = json!({ "command": "alarm.confirm", "alarm": number, "outcome": "fault", "name": "bearing" });
    ok(&heard, answer);
    // Who stops keeps what there is, long before the 20 s after the alarm have passed.
    assert_eq!(agent.terminate(), Some(0));
    let dir = site.dir.path().join("state/clips/fan-1");
    let clips: Vec<_> = fs::read_dir(&dir).expect("clips").map(|entry| entry.expect("an entry").path()).collect();
    let [clip] = &clips[..] else { panic!("one clip: {clips:?}") };
    let flac = fs::read(clip.join("sound.flac")).expect("sound");
    for (path, mode) in [(clip.clone(), 0o700), (clip.join("sound.flac"), 0o600)] {
        let found = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}: {found:o}", path.display());
    }

    heard.clear();
    let agent = site.agent();
    ready(&heard);
    let entry = ok(&heard, json!({ "command": "alarm.get", "alarm": number }))["alarms"][0].clone();
    assert!(entry["clip"]["seconds"].as_f64() > Some(5.0) && entry["clip"]["rate_hz"] == 16_000, "{entry}");
    let about = ok(&heard, json!({ "command": "evidence.get", "alarm": number }));
    let files: Vec<_> = about["clip"].as_array().expect("files").iter().map(|file| file["file"].clone()).collect();
    assert_eq!(files, [json!("sound.flac"), json!("spectrogram.png")]);
    assert!(about["note"].as_str().is_some_and(|note| note.contains("faster than real time")), "{about}");
    assert_eq!(about["fault"], "bearing", "{about}");
    assert!(about["windows"].as_array().is_some_and(|windows| windows.len() >= 5), "{about}");
    assert!(about["levels_dbfs"].as_array().is_some_and(|levels| levels.len() >= 10), "{about}");
    let out = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| out.path().join(name).display().to_string();
    let number = number.to_string();
    for name in ["a.flac", "a.wav", "a.png"] {
        let (done, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "-o", &path(name)]);
        assert!(done && text.contains("wrote"), "{text}");
    }
    assert_eq!(fs::read(path("a.flac")).expect("written"), flac);
    assert!(fs::read(path("a.png")).expect("written").starts_with(b"\x89PNG"));
    let wav = hound::WavReader::open(path("a.wav")).expect("a WAV file");
    let seconds = f64::from(wav.duration()) / 16_000.0;
    assert!((seconds - about["seconds"].as_f64().expect("a number")).abs() < 0.01, "{seconds} s: {about}");
    // All files are written beside each other, named after agent, machine and alarm.
    let (done, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "--out", &path("all")]);
    assert!(done && Path::new(&path(&format!("all/pi-1-fan-1-{number}-sound.flac"))).exists(), "{text}");
    // What a person reads fits 80 columns, and nothing of it is cut.
    for command in
        ["alarm.list", "alarm.stats", "state.get", "health.get", "machine.list", "threshold.get --machine fan-1"]
    {
        let (done, text) = ctl(&broker, &command.split_whitespace().collect::<Vec<_>>());
        assert!(done && too_wide(&text, 80).is_empty(), "{command}: {text}");
    }
    let (_, text) = ctl(&broker, &["alarm.get", "--alarm", &number]);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&text).contains(&words(entry["text"].as_str().expect("a sentence"))), "{entry}\n{text}");
    let (_, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "-o", &path("a.png")]);
    assert!(too_wide(&text, 80).is_empty(), "{text}");
    // Logs and configuration are the lines that they are.
    let (_, log) = ctl(&broker, &["log.get", "--lines", "20"]);
    assert!(
        log.lines().count() >= 5 && log.lines().any(|line| line.contains("agent pi-1 is listening to 1 machine")),
        "{log}"
    );
    let (_, config) = ctl(&broker, &["config.get"]);
    let config: toml::Table = config.parse().unwrap_or_else(|error| panic!("{error}: {config}"));
    assert_eq!(config["agent"]["id"].as_str(), Some("pi-1"));
    let (done, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "-o", &path("a.mp3")]);
    assert!(!done && text.contains("expected a name on .wav, .flac or .png"), "{text}");
    assert_eq!(agent.terminate(), Some(0));

    // The same agent, which may not give sound out any more.
    let text = fs::read_to_string(&site.config).expect("the configuration");
    fs::write(&site.config, text.replace("allow_audio = true", "allow_audio = false")).expect("written");
    heard.clear();
    let agent = site.agent();
    ready(&heard);
    let about = ok(&heard, json!({ "command": "evidence.get", "alarm": number.parse::<i64>().expect("a number") }));
    let files: Vec<_> = about["clip"].as_array().expect("files").iter().map(|file| file["file"].clone()).collect();
    assert_eq!(files, [json!("spectrogram.png")], "{about}");
    assert!(about["note"].as_str().is_some_and(|note| note.contains("no sound leaves")), "{about}");
    for file in ["sound.flac", "../fault/sound.flac", "windows.json"] {
        for offset in [0, 96 * 1024] {
            let command = json!({ "command": "evidence.get", "alarm": about["alarm"], "file": file, "offset": offset });
            let reply = ask(&heard, command);
            let code = if file == "sound.flac" { "not_allowed" } else { "bad_argument" };
            assert_eq!((&reply["error"]["code"], &reply["data"]), (&json!(code), &Value::Null), "{reply}");
        }
    }
    for (mut command, words) in [
        (json!({}), "machine or alarm is missing"),
        (json!({ "machine": "fan-1", "alarm": about["alarm"] }), "exclude each other"),
        (json!({ "machine": "fan-1", "file": "spectrogram.png" }), "file and offset belong to alarm"),
        (json!({ "alarm": about["alarm"], "offset": 0 }), "offset belongs to file"),
        (
            json!({ "alarm": about["alarm"], "file": "spectrogram.png", "offset": 9_999_999 }),
            "offset: expected at most the",
        ),
    ] {
        command["command"] = json!("evidence.get");
        let reply = ask(&heard, command);
        assert!(reply["error"]["message"].as_str().is_some_and(|message| message.contains(words)), "{words}: {reply}");
    }
    let (done, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "-o", &path("b.wav")]);
    assert!(!done && text.contains("no sound leaves this agent") && !Path::new(&path("b.wav")).exists(), "{text}");
    let (done, text) = ctl(&broker, &["evidence.get", "--alarm", &number, "-o", &path("b.png")]);
    assert!(done, "{text}");
    // Whoever can write to the state directory does not get sound out by another name.
    fs::remove_file(clip.join("spectrogram.png")).expect("removed");
    std::os::unix::fs::symlink("sound.flac", clip.join("spectrogram.png")).expect("a link");
    let linked = json!({ "command": "evidence.get", "alarm": about["alarm"], "file": "spectrogram.png", "offset": 0 });
    let reply = ask(&heard, linked);
    let message = reply["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("expected a file, found a link") && reply["data"].is_null(), "{reply}");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
#[ignore = "heavy: twenty alarms, each with the 20 s after it or a kill before"]
fn twenty_alarms_with_kills_in_the_middle_leave_whole_clips_only() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = site(&broker, &encoder, "[privacy]\nallow_audio = true\n");
    let mut agent = site.agent();
    ready(&heard);
    let mut numbers = Vec::new();
    for round in 0..20_u32 {
        numbers.push(alarm(&heard));
        if round % 3 == 2 {
            // At a random moment of waiting and writing.
            random_moment(Duration::ZERO..Duration::from_secs(24));
            drop(agent);
            heard.clear();
            agent = site.agent();
            ready(&heard);
        }
    }
    let dir = site.dir.path().join("state/clips/fan-1");
    let is_half = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".staging-");
    wait_until("the last clip", || alarms(&heard)[0]["clip"].is_object());
    let listed = alarms(&heard);
    let found: Vec<i64> = listed.iter().rev().map(|alarm| alarm["alarm"].as_i64().expect("a number")).collect();
    assert_eq!(found, numbers, "every alarm once");
    let mut clips = 0;
    for alarm in listed.iter().filter(|alarm| alarm["clip"].is_object()) {
        let about = ok(&heard, json!({ "command": "evidence.get", "alarm": alarm["alarm"] }));
        for file in about["clip"].as_array().expect("files") {
            let bytes = fetch(&heard, &alarm["alarm"], file);
            assert_eq!(bytes, file["bytes"].as_u64().expect("a number"), "{file}");
        }
        clips += 1;
    }
    assert!(clips >= 2, "{clips} clips of {}", numbers.len());
    assert_eq!(agent.terminate(), Some(0));
    let agent = site.agent();
    heard.clear();
    ready(&heard);
    let left: Vec<_> = fs::read_dir(&dir).expect("clips").flatten().filter(is_half).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(agent);
    println!("{clips} clips of {} alarms", numbers.len());
}

/// Fetches a file of a clip; its length, each piece being what it should be.
fn fetch(heard: &Subscriber, alarm: &Value, file: &Value) -> u64 {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let mut length = 0;
    loop {
        let command = json!({ "command": "evidence.get", "alarm": alarm, "file": file["file"], "offset": length });
        let piece = ok(heard, command);
        let data = BASE64_STANDARD.decode(piece["data"].as_str().expect("text")).expect("Base64");
        if data.is_empty() {
            return length;
        }
        length += data.len() as u64;
    }
}

#[test]
fn an_answer_is_kept_and_a_normal_one_is_proposed_applied_and_rolled_back() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = learning_site(&broker, &encoder);
    let event = |what: &'static str| {
        heard.wait_for(what, |message| {
            message.is_machine("fan-1", MachinePart::Event) && message.json()["event"] == what
        })
    };
    let agent = site.agent();
    // Nobody is asked for what is taken into use by itself.
    let learned = event("baseline_learned").json();
    assert!(learned["detail"].as_str().is_some_and(|said| said.ends_with("; taken into use by itself")), "{learned}");
    let applied = event("baseline_applied").json();
    assert_eq!(applied["can_be_added_to"], true, "{applied}");
    let (first, second) = (alarm(&heard), alarm(&heard));
    // Not at the farewell, which waits for 4 s: on a busy machine that is too short for two clips.
    wait_until("both clips", || alarms(&heard).iter().filter(|alarm| alarm["clip"].is_object()).count() == 2);
    assert_eq!(agent.terminate(), Some(0));
    heard.clear();
    let agent = site.agent();
    ready(&heard);

    // A fault has a name, and is kept as an example; what has none is refused.
    let confirm = |alarm: i64, outcome: &str| json!({ "command": "alarm.confirm", "alarm": alarm, "outcome": outcome });
    let refused = ask(&heard, confirm(first, "fault"));
    assert!(refused["error"]["message"].as_str().is_some_and(|said| said.contains("the fault's name")), "{refused}");
    // So is a name that nobody can read.
    for name in ["  ", "\u{200b}", "\u{202e}gnp"] {
        let mut fault = confirm(first, "fault");
        fault["name"] = json!(name);
        let reply = ask(&heard, fault);
        assert_eq!(reply["error"]["code"], "bad_argument", "{name:?}: {reply}");
    }
    let mut fault = confirm(first, "fault");
    (fault["name"], fault["by"], fault["comment"]) = (json!("bearing"), json!("ana"), json!("inner ring"));
    assert_eq!(ok(&heard, fault)["proposal"], false);
    event("alarm_confirmed");
    let about = ok(&heard, json!({ "command": "evidence.get", "alarm": first }));
    assert_eq!(about["fault"], "bearing", "{about}");
    // Normal windows stand beside it, those nearest to the alarm's.
    let normal = about["normal"].as_array().expect("times");
    assert!(
        (1..=3).contains(&normal.len()) && normal.iter().all(|at| at.as_str() < about["since"].as_str()),
        "{about}"
    );
    let listed = about["clip"].as_array().expect("files").iter().find(|file| file["file"] == "normal.png");
    let listed = listed.expect("a picture of them");
    assert_eq!(fetch(&heard, &about["alarm"], listed), listed["bytes"].as_u64().expect("a number"));

    // What is normal is proposed, with what it would change.
    let reply = ok(&heard, confirm(second, "normal"));
    assert_eq!((&reply["proposal"], &reply["note"]), (&json!(true), &Value::Null), "{reply}");
    let proposed = event("baseline_learned").json();
    assert!(proposed["detail"].as_str().is_some_and(|said| said.ends_with("; apply or discard it")), "{proposed}");
    let changes = &proposed["changes"];
    assert_eq!((&changes["alarm"], &changes["gone"]), (&json!(second), &json!([second])), "{proposed}");
    assert!(changes["added"].as_u64() >= Some(5), "{proposed}");
    // These are windows of the healthy machine, so that one is no fault to either.
    assert_eq!(changes["missed"], json!([first]), "{proposed}");
    drop(agent);
    heard.clear();
    let agent = site.agent();
    ready(&heard);
    let state = |heard: &Subscriber| ok(heard, json!({ "command": "state.get" }))["machines"][0]["baseline"].clone();
    let before = state(&heard);
    assert_eq!(before["proposal"]["changes"]["alarm"], second, "it waits for a person, also after a kill: {before}");
    ok(&heard, json!({ "command": "baseline.apply", "machine": "fan-1" }));
    let after = state(&heard);
    assert_eq!((&after["proposal"], &after["in_use"]["threshold"]), (&Value::Null, &before["proposal"]["threshold"]));
    let rollback = json!({ "command": "baseline.rollback", "machine": "fan-1" });
    ok(&heard, rollback.clone());
    assert_eq!(state(&heard)["in_use"]["learned"], before["in_use"]["learned"]);
    ok(&heard, rollback);
    assert_eq!(state(&heard)["in_use"]["learned"], after["in_use"]["learned"], "and forth again");
    let late = ok(&heard, confirm(second, "disturbance"));
    assert_eq!(late["proposal"], false);

    // All of it is in the journal, and counts.
    let answers: Vec<_> = alarms(&heard).iter().map(|alarm| alarm["answer"]["outcome"].clone()).collect();
    assert_eq!(answers, ["disturbance", "fault"]);
    let (_, text) = ctl(&broker, &["alarm.list"]);
    assert!(text.contains("was a fault: bearing (ana: inner ring)") && text.contains("a clip of"), "{text}");
    let stats = ok(&heard, json!({ "command": "alarm.stats" }));
    assert_eq!((&stats["alarms"], &stats["answered"], &stats["fault_share"]), (&json!(2), &json!(2), &json!(0.5)));

    // More of another load, by hand.
    heard.clear();
    ok(&heard, json!({ "command": "baseline.learn", "machine": "fan-1", "minutes": 1, "add": true }));
    let more = event("baseline_learned").json();
    assert!(more["changes"]["alarm"].is_null() && more["changes"]["added"].as_u64() >= Some(10), "{more}");
    assert_eq!(agent.terminate(), Some(0));
}

#[test]
#[ignore = "heavy: waits for the 20 s after an alarm"]
fn a_disk_without_room_costs_the_clip_and_nothing_else() {
    let Some(encoder) = encoder() else { return };
    let broker = Broker::start();
    let heard = Subscriber::start(&broker);
    let site = site(&broker, &encoder, "");
    let state = site.dir.path().join("state");
    fs::create_dir(&state).expect("a directory");
    // Less than is left to others.
    let Some(_disk) = SmallDisk::mount(&state, 40) else { return };
    let agent = site.agent();
    ready(&heard);
    let number = alarm(&heard);
    let health =
        |message: &Message| message.is_agent(AgentPart::Health) && message.json()["evidence_error"].is_string();
    wait_until("health to say so", || {
        ok(&heard, json!({ "command": "health.get" }));
        heard.messages().iter().any(health)
    });
    let said = heard.messages().iter().rev().find(|message| health(message)).expect("it was heard").json();
    assert!(said["evidence_error"].as_str().is_some_and(|said| said.contains("left to others")), "{said}");
    let entry = ok(&heard, json!({ "command": "alarm.get", "alarm": number }))["alarms"][0].clone();
    assert!(entry["clip"].is_null() && entry["ended"].is_string(), "{entry}");
    heard.clear();
    ready(&heard);
    alarm(&heard);
    assert_eq!(agent.terminate(), Some(0));
}
