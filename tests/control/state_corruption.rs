//! Each file of a state directory is damaged in each of many ways, as a worn card or a power cut does it; then a real
//! agent starts on it. What it knew is there, or its loss is in the log and in an event; no `seq` is used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auscult::audio::capture::RecentSound;
use auscult::bundle::Bundle;
use auscult::monitor::baseline_store::BaselineStore;
use auscult::monitor::baseline_switch::{Switch, Switches};
use auscult::monitor::clips::{self, ClipKey, Clips, Material, PICTURE, SOUND};
use auscult::monitor::trend::Trend;
use auscult::monitor::trend::writer::TrendWriter;
use auscult::mqtt::topics::{AgentPart, MachinePart, Topic};
use auscult::scoring::alarm::Kind;
use auscult::scoring::judge;
use auscult::state_files::StateFiles;
use chrono::{TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::agent_process::new_id;
use crate::common::agent_process::Site;
use crate::common::broker::{Broker, Message, Subscriber};
use crate::common::bundles::encoder;
use crate::common::network::http_get;
use crate::common::wait::{wait_until, wait_within};
use crate::retuning::fans;
use crate::slow_disk::noise_learner;

/// As it is written when a password is set on the page; of which password nobody here knows.
const PAGE_PASSWORD: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// A start on damaged files takes no longer.
const START_WITHIN: Duration = Duration::from_secs(30);

type Damage = fn(&Path, &Path);

/// What can become of a file; the other one is what it is exchanged with.
const DAMAGES: [(&str, Damage); 15] = [
    ("a bit at its beginning", |file, _| change(file, |bytes| flip(bytes, 1, 8))),
    ("a bit in its middle", |file, _| change(file, |bytes| flip(bytes, 2, 2))),
    ("twenty bits", |file, _| {
        change(file, |bytes| (0..20).for_each(|number| flip(bytes, 100 + number, 1)));
    }),
    ("truncated", |file, _| change(file, |bytes| bytes.truncate(bytes.len() / 2))),
    ("its end cut off", |file, _| change(file, |bytes| bytes.truncate(bytes.len().saturating_sub(100)))),
    ("empty", |file, _| change(file, Vec::clear)),
    ("zeroed", |file, _| change(file, |bytes| bytes.fill(0))),
    ("its first block zeroed", |file, _| {
        change(file, |bytes| bytes.iter_mut().take(4096).for_each(|byte| *byte = 0));
    }),
    ("garbage", |file, _| change(file, |bytes| StdRng::seed_from_u64(7).fill_bytes(bytes))),
    ("garbage behind it", |file, _| change(file, |bytes| bytes.extend([0xa5; 5000]))),
    ("deleted", |file, _| fs::remove_file(file).expect("our own file")),
    ("a directory in its place", |file, _| {
        fs::remove_file(file).and_then(|()| fs::create_dir(file)).expect("a directory");
    }),
    ("a link to nothing in its place", |file, _| {
        fs::remove_file(file).and_then(|()| symlink("/nowhere/at/all", file)).expect("a link");
    }),
    ("a named pipe in its place", |file, _| {
        fs::remove_file(file).expect("our own file");
        assert!(Command::new("mkfifo").arg(file).status().expect("mkfifo").success());
    }),
    ("exchanged", |file, other| {
        let aside = file.with_extension("aside");
        for (from, to) in [(file, &*aside), (other, file), (&*aside, other)] {
            fs::rename(from, to).expect("our own files");
        }
    }),
];

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("a file");
    change(&mut bytes);
    fs::write(file, bytes).expect("a writable file");
}

/// Flips a bit somewhere in the first of so many parts of a file, or of all of it.
fn flip(bytes: &mut [u8], seed: u64, parts: usize) {
    if bytes.is_empty() {
        return;
    }
    let at = StdRng::seed_from_u64(seed).next_u64() as usize % bytes.len().div_ceil(parts);
    let at = if parts == 2 { bytes.len() / 2 + at / 2 } else { at };
    bytes[at.min(bytes.len() - 1)] ^= 1 << (seed % 8);
}

/// A state directory with everything in it, as `kill -9` left it, and what the agent had said until then.
struct Template {
    dir: tempfile::TempDir,
    bundle: PathBuf,
    /// Names of its files.
    files: Vec<String>,
    /// Verdicts that are out, or wait in the outbox.
    verdicts: Vec<Value>,
    /// Topic and payload of what waits.
    waiting: Vec<(String, Value)>,
    /// An alarm whose clip is there, with its sound and its picture.
    clip: (ClipKey, [Vec<u8>; 2]),
}

/// What one run of the agent came to.
struct Run {
    log: String,
    knows: BTreeMap<&'static str, bool>,
    /// Whether the page wanted a password, where it was served.
    page: Option<bool>,
}

fn site(broker: &Broker, bundle: &Path) -> Site {
    let machine = |id: &str| {
        format!("[[machine]]\nid = \"{id}\"\nmodel = \"{id}\"\nsource = {{ synth = \"fan\", speed = 50.0 }}\n")
    };
    let more = format!(
        "[web]\nlisten = \"127.0.0.1:0\"\n[homeassistant]\ndiscovery = true\n{}{}",
        machine("fan-1"),
        machine("fan-2")
    );
    Site::new(&broker.url(), bundle, &more)
}

impl Template {
    fn make() -> Option<Template> {
        let encoder = encoder()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        for version in ["1.0", "2.0"] {
            fans(&encoder, version).write(&dir.path().join(format!("bundles/halls-{version}")));
        }
        let bundle = dir.path().join("bundles/current");
        symlink("halls-2.0", &bundle).expect("a link");
        let mut broker = Broker::start();
        let heard = Subscriber::start(&broker);
        let site = site(&broker, &bundle);
        let state = site.dir.path().join("state");
        lay_baselines(&state, &dir.path().join("bundles/halls-1.0"));
        lay_past(&state);
        let clip = lay_clip(&state);
        fs::write(state.join("page-password"), page_password()).expect("a writable file");
        fs::write(state.join("page-sessions.json"), "[]").expect("a writable file");
        let agent = site.agent();
        wait_until("the agent is online", || online(&heard));
        for command in [
            json!({ "command": "bundle.reload", "path": "halls-1.0" }),
            json!({ "command": "threshold.set", "machine": "fan-1", "threshold": 0.77 }),
            json!({ "command": "maintenance.set", "machine": "fan-2", "on": true }),
            json!({ "command": "alarm.shelve", "machine": "fan-1" }),
        ] {
            let reply = ask(&heard, command);
            assert_eq!(reply["status"], "ok", "{reply}");
        }
        let known = knows(&ask(&heard, json!({ "command": "state.get" }))["data"]);
        assert!(known.values().all(|known| *known), "{known:?}");
        broker.kill();
        wait_until("messages wait for the broker", || rows(&state).len() >= 10);
        drop(agent);
        let verdicts = heard.messages().iter().filter(|message| is_verdict(message)).map(Message::json).collect();
        let copy = dir.path().join("state");
        copy_dir(&state, &copy);
        // The reading opens and ends the log: never on what is to be damaged.
        let waiting = rows(&state);
        let mut files = Vec::new();
        list(&copy, &copy, &mut files);
        let mut template = Template { dir, bundle, files, verdicts, waiting, clip };
        let waiting = template.waiting.iter().filter(|(topic, _)| topic.ends_with("/verdict"));
        template.verdicts.extend(waiting.map(|(_, payload)| payload.clone()));
        Some(template)
    }

    /// What the file `name` is exchanged with: the next one of its kind.
    fn other(&self, name: &str) -> &str {
        let kind = |name: &str| Path::new(name).extension().map(|kind| kind.to_owned());
        let at = self.files.iter().position(|file| file == name).expect("a name");
        let others = self.files.iter().cycle().skip(at + 1).take(self.files.len() - 1);
        others.clone().find(|other| kind(other) == kind(name)).or(others.clone().next()).expect("more than one file")
    }

    /// Starts an agent on a copy with one file damaged, and judges.
    fn judge(&self, name: &str, what: &str, damage: Damage, begin_again: bool) {
        let case = format!("{name}: {what}");
        let broker = Broker::start();
        let heard = Subscriber::start(&broker);
        let site = site(&broker, &self.bundle);
        let state = site.dir.path().join("state");
        copy_dir(&self.dir.path().join("state"), &state);
        damage(&state.join(name), &state.join(self.other(name)));
        let begun = Instant::now();
        let Run { log, knows, page } = self.run(&case, &site, &heard);
        println!("{case}: {:.1} s", begun.elapsed().as_secs_f64());
        let messages = heard.messages();
        let said = |event: &str, words: &str| {
            messages.iter().filter(|message| is_event(message)).map(Message::json).any(|message| {
                message["event"] == event && message["detail"].as_str().is_some_and(|detail| detail.contains(words))
            })
        };
        for (thing, event, words, in_log) in [
            ("threshold", "settings_lost", "state.db", "state.db"),
            ("maintenance", "settings_lost", "state.db", "state.db"),
            ("bundle", "settings_lost", "state.db", "state.db"),
            ("alarm", "settings_lost", "alarms are lost", "alarms are lost"),
            ("baseline", "baseline_failed", "the learned baseline is lost", "the learned baseline is lost"),
            ("proposal", "baseline_failed", "the proposed baseline is lost", "the proposed baseline is lost"),
            ("learner", "baseline_failed", "what was being learned is lost", "what was being learned is lost"),
            ("past", "trend_lost", "trend.db", "trend.db"),
        ] {
            let is_said = (said(event, words) || said("trend_failed", words)) && log.contains(in_log);
            assert!(knows[thing] || is_said, "{case}: the {thing} is lost without a word\n{log}");
            // What is whole is not given up.
            let may_be_lost = [name, self.other(name)].iter().any(|name| holds(name).contains(&thing));
            assert!(knows[thing] || may_be_lost, "{case}: the {thing} is lost\n{log}");
        }
        let is_json =
            |message: &&Message| !matches!(message.kind(), Some(Topic::Machine { part: MachinePart::Picture, .. }));
        let arrived: BTreeSet<String> =
            messages.iter().filter(is_json).map(|message| content(&message.topic, &message.json())).collect();
        let missing =
            self.waiting.iter().filter(|(topic, payload)| !arrived.contains(&content(topic, payload))).count();
        let outbox_said = ["outbox_corrupt", "outbox_failed", "seq_skipped"].iter().any(|event| said(event, ""));
        assert!(missing == 0 || outbox_said, "{case}: {missing} messages are lost without a word\n{log}");
        let clip_said = said("settings_lost", "clips of alarms are lost") && log.contains("clips of alarms are lost");
        let damaged = [name, self.other(name)].iter().any(|name| name.starts_with("clips/"));
        assert!(!clip_said || damaged, "{case}: the clip is lost\n{log}");
        self.check_clip(&case, &state, clip_said);
        self.check_seqs(&case, &messages);
        let page_said = log.contains("goes on without its page") || log.contains("the page's password is lost");
        assert!(page == Some(true) || page_said, "{case}: the page's password is lost without a word\n{log}");
        if begin_again {
            heard.clear();
            let Run { log, knows: again, .. } = self.run(&case, &site, &heard);
            let messages = heard.messages();
            self.check_seqs(&case, &messages);
            let lost = messages.iter().filter(|message| is_event(message)).map(Message::json).find(|message| {
                message["late"] == false
                    && [
                        "settings_lost",
                        "outbox_corrupt",
                        "seq_skipped",
                        "outbox_failed",
                        "baseline_failed",
                        "trend_lost",
                        "trend_failed",
                    ]
                    .iter()
                    .any(|event| message["event"] == *event)
            });
            let is_in_the_way =
                what.contains("place") && ["state.db", "trend.db"].iter().any(|store| name.starts_with(store));
            assert!(lost.is_none() || is_in_the_way, "{case}: not mended by the first start: {lost:?}\n{log}");
            assert!(knows.iter().all(|(thing, known)| !known || again[thing]), "{case}: {knows:?}, then {again:?}");
        }
    }

    /// One run of the agent, until it has judged, sent what waited and stopped; its log and what it knows.
    fn run(&self, case: &str, site: &Site, heard: &Subscriber) -> Run {
        let before = fs::read_to_string(site.dir.path().join("log")).unwrap_or_default().len();
        let mut agent = site.agent();
        wait_within(START_WITHIN, &format!("{case}: the agent is online"), || {
            let ended = agent.ended();
            assert!(ended.is_none(), "{case}: {ended:?}\n{}", agent.log());
            online(heard)
        });
        let mut reply = Value::Null;
        wait_until("the machines' past is read, or cannot be", || {
            reply = ask(heard, json!({ "command": "state.get" }));
            let failed = |message: &Message| is_event(message) && message.json()["event"] == "trend_failed";
            reply["data"]["machines"][0]["hours"].is_object() || heard.messages().iter().any(failed)
        });
        heard.wait_for("a verdict", |message| is_verdict(message) && message.json()["late"] == false);
        wait_until("what waited is sent", || {
            ask(heard, json!({ "command": "health.get" }));
            let all = heard.messages();
            let health = all.iter().rfind(|message| message.is_agent(AgentPart::Health)).expect("health").json();
            health["outbox_depth"].as_u64() < Some(5)
        });
        let log = agent.log()[before..].to_owned();
        let page = asks_for_password(&log);
        assert_eq!(agent.terminate(), Some(0), "{case}");
        assert!(!log.contains("panicked"), "{case}: {log}");
        Run { log, knows: knows(&reply["data"]), page }
    }

    /// The clip is whole, or its loss is said: in an event, or to who reads the file that is damaged.
    fn check_clip(&self, case: &str, state: &Path, is_said: bool) {
        let (key, contents) = &self.clip;
        let (clips, lost) = Clips::read_only(state);
        assert_eq!(lost, None, "{case}: said by the agent already, or not at all");
        assert!(is_said == clips.clip(key).expect("readable").is_none(), "{case}: the clip, {is_said}");
        for (file, content) in [SOUND, PICTURE].iter().zip(contents) {
            match clips.read(key, file) {
                Ok(Some(found)) => assert!(found == *content, "{case}: {file} is another"),
                Ok(None) => assert!(is_said, "{case}: {file} is gone without a word"),
                Err(problem) => println!("{case}: {problem}"),
            }
        }
    }

    /// No number of a machine has two contents, and `normal` is said of nothing that was not assessed.
    fn check_seqs(&self, case: &str, messages: &[Message]) {
        let mut contents = BTreeMap::new();
        let new = messages.iter().filter(|message| is_verdict(message)).map(Message::json);
        for verdict in self.verdicts.iter().cloned().chain(new) {
            let assessed = verdict["distance"].is_number() && verdict["threshold"].is_number();
            assert!(verdict["verdict"] != "normal" || assessed, "{case}: {verdict}");
            let number = (verdict["machine"].to_string(), verdict["seq"].as_u64().expect("a number"));
            let content = content("", &verdict);
            let before = contents.insert(number.clone(), content.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before == content),
                "{case}: {number:?} twice: {before:?}, {content}"
            );
        }
    }
}

fn page_password() -> String {
    format!("{PAGE_PASSWORD}\n{}\n", &crate::common::bundles::sha256(PAGE_PASSWORD.as_bytes())[..16])
}

/// A baseline in use and one proposed for the first machine, and a learner that goes on for the second.
fn lay_baselines(state: &Path, bundle: &Path) {
    let (store, bundle) = (BaselineStore::new(state), Bundle::read(bundle).expect("a bundle"));
    let origin = |number: usize| {
        let machine = &bundle.machines[number];
        bundle.origin(machine.index, machine.front_end.clone())
    };
    let baseline = noise_learner("fan-1", origin(0), 50.0).propose().expect("a baseline");
    let (mut switches, laid) =
        (Switches::default(), Switch::default().use_baseline(&baseline).proposal(Some(&baseline)));
    switches.begin(&store, &"fan-1".into(), laid).expect("written");
    switches.finish(&store);
    let generation = store.new_generation();
    store.save_learner("fan-2", generation, &noise_learner("fan-2", origin(1), 1e6)).expect("written");
}

/// A day and more that the first machine ran before.
fn lay_past(state: &Path) {
    let trend = Arc::new(Trend::new(state));
    let writer = TrendWriter::start(trend.clone(), StateFiles::new(state), |_| ()).expect("a thread");
    let begin = Utc::now() - TimeDelta::days(3);
    for hour in 0..30 {
        trend.note("fan-1", begin + TimeDelta::hours(hour), 3600.0, &judge(0.1, 0.5, -30.0));
    }
    writer.finish(Instant::now() + START_WITHIN);
}

/// A clip of an alarm that the first machine had before.
fn lay_clip(state: &Path) -> (ClipKey, [Vec<u8>; 2]) {
    let since = Utc::now() - TimeDelta::days(1);
    let samples = (0..16_000).map(|number| ((number * 7919) % 20_011) as i16).collect();
    let sound = RecentSound { rate_hz: 16_000, samples, end: (since + TimeDelta::seconds(1)).into() };
    let (machine, text, windows) = ("fan-1".to_owned(), "louder".to_owned(), Vec::new());
    let (kind, origin, like) = (Kind::Fault, None, None);
    let made = clips::make(Material { machine, kind, since, text, sound, windows, origin, like, normal: Vec::new() })
        .expect("made");
    Clips::open(state, 500).0.keep(&made).expect("kept");
    let content = |name| made.files.iter().find(|(file, _)| *file == name).expect("a file").1.clone();
    (made.clip.key(), [SOUND, PICTURE].map(content))
}

/// What is only in this file, by the names of [`knows`].
fn holds(name: &str) -> &'static [&'static str] {
    match name {
        name if name.starts_with("state.db") => &["threshold", "maintenance", "bundle"],
        name if name.starts_with("trend.db") => &["past"],
        "alarms.json" => &["alarm"],
        name if name.contains("in-use-") => &["baseline"],
        name if name.ends_with("proposal.json") => &["proposal"],
        name if name.ends_with("learning.json") => &["learner"],
        _ => &[],
    }
}

/// What of all that was set and learned the agent still has, by the answer of `state.get`.
fn knows(state: &Value) -> BTreeMap<&'static str, bool> {
    let [first, second] = [&state["machines"][0], &state["machines"][1]];
    // Windows that a fault may have begun in are taken back; they are counted then.
    let learning = &second["baseline"]["learning"];
    let learned = [&learning["windows"], &learning["left_out"]].map(Value::as_u64);
    BTreeMap::from([
        ("threshold", first["settings"]["threshold"] == 0.77),
        ("maintenance", second["settings"]["maintenance"] == true),
        ("bundle", state["bundle"]["label"] == "halls@1.0"),
        ("alarm", first["alarm"]["state"] == "shelved"),
        ("baseline", first["baseline"]["in_use"].is_object()),
        ("proposal", first["baseline"]["proposal"].is_object()),
        ("learner", learned.into_iter().sum::<Option<u64>>() >= Some(60)),
        ("past", first["hours"]["running"].as_f64() >= Some(30.0)),
    ])
}

/// Topic and payload, whenever it was sent.
fn content(topic: &str, payload: &Value) -> String {
    let mut payload = payload.clone();
    if let Some(fields) = payload.as_object_mut() {
        fields.remove("late");
    }
    format!("{topic} {payload}")
}

fn is_verdict(message: &Message) -> bool {
    ["fan-1", "fan-2"].iter().any(|machine| message.is_machine(machine, MachinePart::Verdict))
}

fn is_event(message: &Message) -> bool {
    message.topic.ends_with("/event")
}

fn online(heard: &Subscriber) -> bool {
    let online = |message: &Message| message.is_agent(AgentPart::Status) && message.json()["state"] == "online";
    heard.messages().iter().any(online)
}

fn ask(heard: &Subscriber, mut command: Value) -> Value {
    let id = new_id();
    command["id"] = json!(id);
    heard.publish("auscult/pi-1/control", false, command.to_string());
    heard.wait_for("a reply", |message| message.is_agent(AgentPart::Reply) && message.json()["id"] == *id).json()
}

/// Whether the page wants a password, where it is served.
fn asks_for_password(log: &str) -> Option<bool> {
    let address = log.rsplit_once("the page is at http://")?.1.split('/').next()?;
    let answer = http_get(address, "/session").ok()?;
    Some(answer.contains("\"password\":true"))
}

/// Topic and payload of all that waits in the outbox of this state directory.
fn rows(state: &Path) -> Vec<(String, Value)> {
    let store = rusqlite::Connection::open(state.join("outbox.sqlite")).expect("the outbox");
    let mut select = store.prepare("SELECT topic, payload FROM message").expect("a table");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
    let rows = select.query_map([], row).expect("rows").map(|row| row.expect("a row"));
    rows.map(|(topic, payload)| (topic, serde_json::from_slice(&payload).expect("JSON"))).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

fn list(root: &Path, dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(root, &path, names);
        } else {
            names.push(path.strip_prefix(root).expect("below it").to_str().expect("UTF-8").to_owned());
        }
    }
    names.sort();
}

/// Judges cases side by side; every case that fails is told.
fn judge_all(cases: Vec<(String, &'static str, Damage)>, template: &Template, begin_again: bool) {
    let (count, cases, failed) = (cases.len(), Mutex::new(cases), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, what, damage)) = cases.lock().expect("no panic").pop() else { return };
                    let judge = || template.judge(&name, what, damage, begin_again);
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge)).is_err() {
                        failed.lock().expect("no panic").push(format!("{name}: {what}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    assert!(failed.is_empty(), "{} of {count} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn what_a_damaged_file_takes_along_is_said() {
    let Some(template) = Template::make() else { return };
    let clip = |file: &str| format!("clips/{}/{file}", template.clip.0.dir().display());
    let cases = [
        ("state.db", "its first block zeroed"),
        ("state.db-wal", "deleted"),
        ("state.db", "deleted"),
        ("alarms.json", "deleted"),
        ("outbox.sqlite-wal", "truncated"),
        ("outbox.sqlite-shm", "a directory in its place"),
        ("seq.json", "zeroed"),
        ("baselines/fan-1/proposal.json", "exchanged"),
        ("baselines/fan-2/learning.json", "a bit in its middle"),
        ("page-password", "zeroed"),
        ("trend.db", "its first block zeroed"),
        (&clip("clip.json"), "a bit in its middle"),
        (&clip(SOUND), "twenty bits"),
    ];
    let damage = |what: &str| DAMAGES.into_iter().find(|(name, _)| *name == what).expect("one of them");
    let case = |(name, what): (&str, &str)| (name.to_owned(), damage(what).0, damage(what).1);
    judge_all(cases.into_iter().map(case).collect(), &template, false);
}

#[test]
#[ignore = "heavy: every file in every way, some hundred starts of an agent"]
fn every_file_may_be_damaged_in_every_way() {
    let Some(template) = Template::make() else { return };
    for name in [
        "agent.lock",
        "alarms.json",
        "homeassistant.json",
        "inventory.json",
        "journal.db",
        "journal.db-shm",
        "journal.db-wal",
        "outbox.sqlite",
        "outbox.sqlite-shm",
        "outbox.sqlite-wal",
        "page-password",
        "page-sessions.json",
        "seq-reached.json",
        "seq.json",
        "state.db",
        "state.db-shm",
        "state.db-wal",
        "trend.db",
        "trend.db-shm",
        "trend.db-wal",
    ] {
        assert!(template.files.iter().any(|file| file == name), "{name} is not in {:?}", template.files);
    }
    assert_eq!(template.files.iter().filter(|file| file.starts_with("clips/")).count(), 4, "{:?}", template.files);
    let of_file = |name: &String| DAMAGES.map(|(what, damage)| (name.clone(), what, damage));
    judge_all(template.files.iter().flat_map(of_file).collect(), &template, true);
}

/// Its main file gone, its log alone left: SQLite would begin a new store without a word.
#[test]
#[ignore = "heavy with the rest of this file"]
fn garbage_in_the_log_beside_a_directory_in_place_of_the_index_is_said_in_our_words() {
    let Some(template) = Template::make() else { return };
    let damage: Damage = |file, _| {
        change(file, |bytes| StdRng::seed_from_u64(9).fill_bytes(bytes));
        let index = PathBuf::from(file.display().to_string().replace("-wal", "-shm"));
        fs::remove_file(&index).and_then(|()| fs::create_dir(&index)).expect("a directory");
    };
    for name in ["outbox.sqlite-wal", "state.db-wal"] {
        template.judge(name, "garbage, and a directory in place of the index", damage, true);
    }
}
