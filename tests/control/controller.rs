//! The control side without a broker: messages in, replies out, the store between; against a model where there is one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use auscult::audio::capture;
use auscult::audio::meters::Meters;
use auscult::clock::{Clock, Timestamp};
use auscult::config::{Config, MachineConfig, SourceConfig};
use auscult::control::commands::{
    AlarmAcknowledge, AlarmShelve, BaselineDiscard, BaselineLearn, BundleInstall, BundleReload, BundleRollback,
    Command, EvidenceGet, MaintenanceSet, Ping, StateGet, ThresholdGet, ThresholdPreview, ThresholdReset, ThresholdSet,
};
use auscult::control::envelope::Envelope;
use auscult::control::request::{LARGEST_COMMAND, LARGEST_MESSAGE, Request};
use auscult::control::store::{Commit, StateStore};
use auscult::control::values::{Bytes, Chunk, FalseAlarmRate, Minutes, OnOff, ShortText, Target};
use auscult::control::{Controller, Output, Shared};
use auscult::monitor::Monitor;
use auscult::monitor::alarm_store::AlarmStore;
use auscult::monitor::baseline_store::BaselineStore;
use auscult::monitor::clips::Clips;
use auscult::monitor::history::History;
use auscult::monitor::journal::Journal;
use auscult::monitor::last_window::LastWindows;
use auscult::monitor::machine::{LearningState, Machine, Origin};
use auscult::monitor::settings::{Changed, MachineSettings, Maintenance, Override};
use auscult::monitor::trend::Trend;
use auscult::mqtt::broker::{BrokerLink, BrokerSettings};
use auscult::mqtt::payload::{ErrorCode, EventKind, Reply, ReplyStatus};
use auscult::mqtt::topics::{AgentPart, MachinePart, Topic};
use auscult::notify::Notifier;
use auscult::scoring::adaptation::Adaptation;
use auscult::scoring::alarm::{Alarm, AlarmConfig};
use auscult::scoring::threshold::{Threshold, ThresholdSource};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::wait::wait_until;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid time")
}

// ---- The parser ----------------------------------------------------------------------------------------------------

fn line<const MOST: usize>() -> impl Strategy<Value = ShortText<MOST>> {
    "[a-zA-Z0-9 äß€\"\\\\/{}-]{1,40}".prop_map(|text| text.parse().expect("a line"))
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0i64..4_000_000_000_000).prop_map(|ms| Timestamp::from(DateTime::from_timestamp_millis(ms).expect("a valid time")))
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![Just(Target::All), "[a-z0-9][a-z0-9_-]{0,63}".prop_map(Target::One)]
}

fn threshold() -> impl Strategy<Value = Threshold> {
    prop_oneof![1e-9f64..999.9, (1u32..999).prop_map(f64::from)].prop_map(|x| Threshold::new(x).expect("in range"))
}

fn command() -> impl Strategy<Value = Command> {
    use proptest::option::of;
    prop_oneof![
        Just(Command::Ping(Ping {})),
        Just(Command::StateGet(StateGet {})),
        (target(), threshold(), of(time())).prop_map(|(machine, threshold, until)| {
            Command::ThresholdSet(ThresholdSet { machine, threshold, until })
        }),
        target().prop_map(|machine| Command::ThresholdGet(ThresholdGet { machine })),
        target().prop_map(|machine| {
            Command::EvidenceGet(EvidenceGet { machine: Some(machine), ..EvidenceGet::default() })
        }),
        target().prop_map(|machine| Command::ThresholdReset(ThresholdReset { machine })),
        (target(), threshold())
            .prop_map(|(machine, threshold)| Command::ThresholdPreview(ThresholdPreview { machine, threshold })),
        of(line()).prop_map(|path| Command::BundleReload(BundleReload { path })),
        (target(), of(line()))
            .prop_map(|(machine, comment)| Command::AlarmAcknowledge(AlarmAcknowledge { machine, comment })),
        (target(), of(time()), of(line())).prop_map(|(machine, until, comment)| Command::AlarmShelve(AlarmShelve {
            machine,
            until,
            comment
        })),
        (target(), 0.05..20_160.0f64, of(0.001..0.5f64)).prop_map(|(machine, minutes, rate)| {
            let minutes = Minutes::new(minutes).expect("in range");
            Command::BaselineLearn(BaselineLearn {
                machine,
                minutes,
                false_alarm_rate: rate.and_then(FalseAlarmRate::new),
                add: None,
            })
        }),
        target().prop_map(|machine| Command::BaselineDiscard(BaselineDiscard { machine })),
        Just(Command::BundleRollback(BundleRollback {})),
        (of("[0-9a-f]{64}"), of(line()), of(0u64..1 << 53), prop::collection::vec(any::<u8>(), 0..99)).prop_map(
            |(sha256, url, size, piece)| {
                Command::BundleInstall(BundleInstall {
                    sha256: sha256.map(|text| text.parse().expect("64 hex digits")),
                    url,
                    size: size.map(Bytes),
                    offset: size.map(|size| Bytes(size / 2)),
                    data: Some(Chunk(piece)),
                    file: None,
                })
            }
        ),
        (target(), any::<bool>(), of(time())).prop_map(|(machine, on, until)| {
            Command::MaintenanceSet(MaintenanceSet { machine, on: OnOff(on), until })
        }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    use proptest::option::of;
    (of(line()), of(line()), of(time()), of(line()), of(line()), command()).prop_map(
        |(id, tag, expires, by, reason, command)| Request {
            envelope: Envelope { id, tag, expires, by, reason },
            command,
        },
    )
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |state| {
        prop_oneof![
            prop::collection::vec(state.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,8}", state, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Whatever is refused says something, in one line of bounded length.
fn check_refusal(payload: &[u8]) {
    if let Err(rejected) = Request::parse(payload) {
        let message = rejected.error.message;
        assert!(!message.is_empty() && message.len() < 1500 && !message.contains('\n'), "{message:?}");
    }
}

proptest! {
    #[test]
    fn a_request_survives_the_wire(request in request()) {
        let sent = serde_json::to_vec(&request.to_json()).expect("JSON");
        prop_assert_eq!(Request::parse(&sent), Ok(request));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_refusal(&bytes);
        let _ = Request::bare_threshold("fan-1", &bytes);
    }

    #[test]
    fn any_json_is_taken_or_refused(value in json_value()) {
        check_refusal(&serde_json::to_vec(&value).expect("JSON"));
    }

    /// A real command with any of its fields replaced, and cut off anywhere.
    #[test]
    fn a_spoilt_command_is_taken_or_refused(
        request in request(), field in any::<prop::sample::Index>(), value in json_value(), cut in any::<prop::sample::Index>(),
    ) {
        let mut sent = request.to_json();
        let fields = sent.as_object_mut().expect("an object");
        let name = fields.keys().nth(field.index(fields.len())).expect("a field").clone();
        fields.insert(name, value);
        let bytes = serde_json::to_vec(&sent).expect("JSON");
        check_refusal(&bytes);
        check_refusal(&bytes[..cut.index(bytes.len())]);
    }
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let set = json!({ "id": "1", "command": "threshold.set", "machine": "fan-1", "threshold": 0.3 });
    let with = |name: &str, value: Value| {
        let mut set = set.clone();
        set[name] = value;
        set.to_string()
    };
    let without = |name: &str| {
        let mut set = set.clone();
        set.as_object_mut().expect("an object").remove(name);
        set.to_string()
    };
    use ErrorCode::*;
    for (payload, code, words) in [
        ("nonsense".into(), BadJson, vec!["expected one JSON object"]),
        ("[1]".into(), BadJson, vec!["expected one JSON object", "[1]"]),
        ("\"x\"".into(), BadJson, vec!["\"x\""]),
        (format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), BadJson, vec!["recursion limit"]),
        ("{\"threshold\":1e999}".into(), BadJson, vec!["out of range"]),
        (without("command"), BadArgument, vec!["command: expected one of ping", "found none"]),
        (with("command", json!(5)), BadArgument, vec!["command: ", "found 5"]),
        (
            with("command", json!("treshold.set")),
            UnknownCommand,
            vec!["\"treshold.set\"; did you mean \"threshold.set\"?"],
        ),
        (with("id", json!(7)), BadArgument, vec!["id: ", "found 7"]),
        (with("id", json!("x".repeat(129))), BadArgument, vec!["id: expected 1 to 128 characters"]),
        (with("expires", json!("soon")), BadArgument, vec!["expires: expected a time", "\"soon\""]),
        (with("by", json!("a\nb")), BadArgument, vec!["by: expected 1 to 64"]),
        (with("tresh", json!(1)), BadArgument, vec!["unknown field `tresh`", "`threshold`"]),
        (without("threshold"), BadArgument, vec!["missing field `threshold`"]),
        (without("machine"), BadArgument, vec!["missing field `machine`"]),
        (with("machine", json!(["fan-1"])), BadArgument, vec!["machine: expected a machine's id", "[\"fan-1\"]"]),
        (with("machine", json!("")), BadArgument, vec!["machine: "]),
        (
            with("threshold", json!("high")),
            BadArgument,
            vec!["threshold: expected a number above 0 and below 1000, found \"high\""],
        ),
        (with("threshold", json!(0)), BadArgument, vec!["threshold: ", "found 0"]),
        (with("threshold", json!(-1)), BadArgument, vec!["threshold: ", "found -1"]),
        (with("threshold", json!(1000)), BadArgument, vec!["threshold: ", "found 1000"]),
        (with("threshold", json!({"a": [1]})), BadArgument, vec!["threshold: "]),
        (with("until", json!(17)), BadArgument, vec!["until: expected a time", "found 17"]),
        (with("reason", json!("x".repeat(LARGEST_COMMAND))), BadArgument, vec!["reason: expected 1 to 200"]),
        (with("machine", json!("x".repeat(LARGEST_COMMAND))), TooLarge, vec!["expected at most 16384 bytes"]),
        (
            json!({ "command": "bundle.install", "sha256": "0".repeat(63) }).to_string(),
            BadArgument,
            vec!["sha256: expected the 64 hex digits"],
        ),
        (
            json!({ "command": "bundle.install", "size": -1 }).to_string(),
            BadArgument,
            vec!["size: expected a whole number of bytes", "found -1"],
        ),
        (
            json!({ "command": "bundle.install", "data": "x!".repeat(50_000) }).to_string(),
            BadArgument,
            vec!["data: expected bytes as Base64"],
        ),
        (with("data", json!("x".repeat(LARGEST_MESSAGE))), TooLarge, vec!["expected at most 262144 bytes"]),
    ] {
        let rejected = Request::parse(payload.as_bytes()).expect_err(&payload);
        let message = &rejected.error.message;
        assert_eq!(rejected.error.code, code, "{message}");
        for words in words {
            assert!(message.contains(words), "expected {words:?} in {message:?}");
        }
    }
    for (payload, found) in [(&b"high"[..], "\"high\""), (b"0", "\"0\""), (b"nan", "\"nan\""), (b"", "\"\"")] {
        let rejected = Request::bare_threshold("fan-1", payload).expect_err("no threshold");
        assert!(rejected.error.message.contains(found), "{}", rejected.error.message);
    }
    assert!(Request::bare_threshold("fan-1", &[b'1'; 65]).is_err());
    assert!(Request::bare_threshold("fan-1", b" 0.31\n").is_ok());
}

// ---- The settings store ---------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Step {
    Set { machine: usize, threshold: f64, for_s: Option<i64> },
    Reset { machine: usize },
    Maintenance { machine: usize, on: bool, for_s: Option<i64> },
    Pass { seconds: i64 },
    Expire,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let span = || proptest::option::of(1i64..50);
    prop_oneof![
        3 => (0..3usize, 0.001f64..999.0, span())
            .prop_map(|(machine, threshold, for_s)| Step::Set { machine, threshold, for_s }),
        1 => (0..3usize).prop_map(|machine| Step::Reset { machine }),
        1 => (0..3usize, any::<bool>(), span()).prop_map(|(machine, on, for_s)| Step::Maintenance { machine, on, for_s }),
        2 => (0i64..40).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

/// What must be in effect, kept as simply as one can think of it: the last word on each thing, and when it ends.
#[derive(Debug, Clone, Copy, Default)]
struct Model {
    over: Option<(f64, Option<i64>)>,
    maintenance: Option<Option<i64>>,
}

impl Model {
    fn threshold(&self, now: i64) -> f64 {
        match self.over {
            Some((threshold, None)) => threshold,
            Some((threshold, Some(until))) if now < until => threshold,
            _ => 0.25,
        }
    }

    fn maintenance(&self, now: i64) -> bool {
        self.maintenance.is_some_and(|until| until.is_none_or(|until| now < until))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_changes_equals_the_model(steps in prop::collection::vec(step(), 1..40)) {
        const MACHINES: [&str; 3] = ["fan-1", "fan-2", "pump"];
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = StateStore::open(dir.path(), at(0)).0;
        let mut settings: BTreeMap<String, MachineSettings> = BTreeMap::new();
        let mut models = [Model::default(); 3];
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            let mut keep = |store: &mut StateStore, machine: usize, apply: &dyn Fn(&mut MachineSettings)| {
                let mut new = settings.get(MACHINES[machine]).cloned().unwrap_or_default();
                let before = new.revision;
                apply(&mut new);
                let reply = number.to_string();
                let commit = Commit {
                    settings: vec![(MACHINES[machine], &new)],
                    reply: Some((&reply, &reply)),
                    ..Commit::default()
                };
                store.commit(&commit, at(now)).expect("a writable store");
                let grown = new.revision - before;
                settings.insert(MACHINES[machine].to_owned(), new);
                grown
            };
            match step {
                Step::Set { machine, threshold, for_s } => {
                    let until = for_s.map(|s| now + s);
                    let over = Override { threshold, until: until.map(at), set_at: at(now), bundle: None };
                    keep(&mut store, machine, &|new| new.set_threshold(over.clone(), Changed::default()));
                    models[machine].over = Some((threshold, until));
                }
                Step::Reset { machine } => {
                    keep(&mut store, machine, &|new| new.reset_threshold(Changed::default()));
                    models[machine].over = None;
                }
                Step::Maintenance { machine, on, for_s } => {
                    let until = for_s.map(|s| now + s);
                    let maintenance = Maintenance { until: until.map(at), by: None, reason: None, set_at: at(now) };
                    keep(&mut store, machine, &|new| new.set_maintenance(on.then(|| maintenance.clone())));
                    models[machine].maintenance = on.then_some(until);
                }
                Step::Pass { seconds } => now += seconds,
                Step::Expire => {
                    for machine in 0..3 {
                        let grown = keep(&mut store, machine, &|new| {
                            new.expire(at(now));
                        });
                        prop_assert!(grown <= 1);
                    }
                }
                Step::Restart => {
                    drop(store);
                    let (again, lost) = StateStore::open(dir.path(), at(now));
                    prop_assert_eq!(lost, None);
                    prop_assert_eq!(&again.settings().expect("readable"), &settings);
                    store = again;
                    settings = store.settings().expect("readable");
                }
            }
            for (machine, model) in MACHINES.iter().zip(&models) {
                let default = MachineSettings::default();
                let settings = settings.get(*machine).unwrap_or(&default);
                let found = settings.threshold(at(now), None, Some(0.25), Some(0.2)).expect("a threshold");
                prop_assert_eq!(found.threshold, model.threshold(now));
                let is_override = found.source == ThresholdSource::Override;
                prop_assert_eq!(is_override, model.over.is_some_and(|(_, until)| until.is_none_or(|until| now < until)));
                prop_assert_eq!(settings.maintenance(at(now)).is_some(), model.maintenance(now));
            }
        }
    }
}

// ---- The controller -------------------------------------------------------------------------------------------------

/// An agent without sound and without a bundle: everything but scoring.
struct Agent {
    dir: tempfile::TempDir,
    monitor: Arc<Monitor>,
    history: Arc<History>,
    controller: Controller,
}

impl Agent {
    fn start(dir: tempfile::TempDir) -> Agent {
        let machine = |id: &str, threshold| MachineConfig {
            id: id.into(),
            model: None,
            source: SourceConfig { synth: Some("fan".into()), ..SourceConfig::default() },
            hop_s: 5.0,
            threshold,
            ..serde_json::from_value(json!({ "id": id, "source": { "synth": "fan" } })).expect("a machine")
        };
        let mut config =
            Config { machine: vec![machine("fan-1", Some(0.25)), machine("pump", None)], ..Config::default() };
        config.agent.id = "pi-7".into();
        config.agent.tags = vec!["north".into()];
        config.bundle.path = dir.path().join("bundles/current");
        let (store, lost) = StateStore::open(dir.path(), at(0));
        let mut settings = store.settings().expect("readable");
        let machines = config.machine.iter().map(|machine| {
            let settings = settings.remove(&machine.id).unwrap_or_default();
            let alarm = Alarm::new(AlarmConfig::default(), at(0));
            Machine::new(machine.clone(), Origin::File, settings, alarm, LearningState::default(), at(0))
        });
        let monitor = Arc::new(Monitor::new(None, machines.collect()));
        let history = Arc::new(History::default());
        let evidence = Arc::new(LastWindows::new(config.privacy.allow_audio));
        let shared = Shared {
            config,
            monitor: monitor.clone(),
            capture: Arc::new(capture::start(Vec::new()).expect("nothing to open")),
            history: history.clone(),
            trend: Arc::new(Trend::new(dir.path())),
            alarms: Arc::new(AlarmStore::open(dir.path()).0),
            journal: Arc::new(Journal::open(dir.path(), Utc::now()).0),
            baselines: Arc::new(BaselineStore::new(dir.path())),
            evidence: evidence.clone(),
            clips: Arc::new(Clips::open(dir.path(), 500).0),
            notify: Arc::new(Notifier::new("pi-1", None, &[])),
            clock: Clock::new(true),
            boot: "b1".into(),
            started: Instant::now(),
            store_problem: lost.map(|lost| lost.0),
            meters: Meters::new("/sys", Box::new(Vec::new)),
            broker: Arc::new(BrokerLink::new(BrokerSettings::default()).0),
            bundles: OnceLock::new(),
        };
        let controller = Controller::new(Arc::new(shared), store, at(0));
        Agent { dir, monitor, history, controller }
    }

    /// As after a power cut: nothing is written at the end.
    fn restart(self) -> Agent {
        let Agent { dir, controller, .. } = self;
        drop(controller);
        Agent::start(dir)
    }

    fn send_to(&mut self, topic: Topic, payload: &str, retained: bool, seconds: i64) -> Vec<Output> {
        self.controller.handle(&topic, payload.as_bytes(), retained, at(seconds))
    }

    /// Sends a command and takes its reply.
    fn ask(&mut self, command: Value, seconds: i64) -> (Reply, Vec<Output>) {
        let out = self.send_to(control(), &command.to_string(), false, seconds);
        (reply(&out), out)
    }

    /// Waits for what is worked on in the background; what comes out of it.
    fn answer(&mut self, now: DateTime<Utc>) -> Vec<Output> {
        let mut out = Vec::new();
        wait_until("an answer", || {
            out = self.controller.tick(now);
            !out.is_empty()
        });
        out
    }

    fn threshold(&self, machine: usize, seconds: i64) -> Option<(f64, ThresholdSource)> {
        self.monitor.lock().threshold(machine, at(seconds)).map(|found| (found.threshold, found.source))
    }
}

fn control() -> Topic {
    Topic::Agent { agent: "pi-7".into(), part: AgentPart::Control }
}

fn replies(out: &[Output]) -> Vec<&[u8]> {
    out.iter()
        .filter_map(|output| if let Output::Reply(reply) = output { Some(reply.as_slice()) } else { None })
        .collect()
}

fn reply(out: &[Output]) -> Reply {
    let replies = replies(out);
    assert_eq!(replies.len(), 1, "{out:?}");
    serde_json::from_slice(replies[0]).expect("a reply")
}

fn events(out: &[Output]) -> Vec<EventKind> {
    out.iter().filter_map(|output| if let Output::Event(event) = output { Some(event.event) } else { None }).collect()
}

fn new_agent() -> Agent {
    Agent::start(tempfile::tempdir().expect("a temporary directory"))
}

fn set(id: &str, machine: &str, threshold: f64) -> Value {
    json!({ "id": id, "command": "threshold.set", "machine": machine, "threshold": threshold, "by": "ana", "reason": "overhaul" })
}

#[test]
fn a_threshold_is_set_published_kept_and_reset() {
    let mut agent = new_agent();
    assert_eq!(agent.threshold(0, 0), Some((0.25, ThresholdSource::Config)));
    let (reply, out) = agent.ask(set("7f3a", "fan-1", 0.31), 1);
    assert_eq!(
        (reply.status, reply.id.as_deref(), reply.command.as_deref()),
        (ReplyStatus::Ok, Some("7f3a"), Some("threshold.set"))
    );
    assert_eq!(agent.threshold(0, 1), Some((0.31, ThresholdSource::Override)));
    let Some(Output::Settings(settings)) = out.iter().find(|output| matches!(output, Output::Settings(_))) else {
        panic!("no settings in {out:?}");
    };
    assert_eq!((settings.threshold, settings.source, settings.revision), (Some(0.31), ThresholdSource::Override, 1));
    assert_eq!(
        (settings.by.as_deref(), settings.reason.as_deref(), settings.until),
        (Some("ana"), Some("overhaul"), None)
    );
    assert_eq!(events(&out), [EventKind::ThresholdChanged]);

    let mut agent = agent.restart();
    assert_eq!(agent.threshold(0, 2), Some((0.31, ThresholdSource::Override)));
    let (reply, _) = agent.ask(json!({ "id": "r", "command": "threshold.reset", "machine": "*" }), 3);
    let answered = reply.data.expect("data");
    assert_eq!(answered["machines"][0]["threshold"], json!(0.25));
    assert_eq!(answered["machines"][1]["threshold"], Value::Null, "no bundle, nothing configured");
    assert_eq!(agent.restart().threshold(0, 4), Some((0.25, ThresholdSource::Config)));
}

#[test]
fn the_same_id_is_done_once_and_answered_alike_also_after_a_restart() {
    let mut agent = new_agent();
    let first = agent.send_to(control(), &set("a", "fan-1", 0.31).to_string(), false, 1);
    agent.ask(set("b", "fan-1", 0.5), 2);
    for round in 0..2 {
        let again = agent.send_to(control(), &set("a", "fan-1", 0.31).to_string(), false, 3 + round);
        assert_eq!(again.len(), 1, "a reply and nothing else: {again:?}");
        assert_eq!(replies(&again), replies(&first));
        assert_eq!(agent.threshold(0, 5), Some((0.5, ThresholdSource::Override)));
        agent = agent.restart();
    }
    // A refusal is an answer too; on the disk with the next flush.
    let refused = agent.send_to(control(), &set("c", "nobody", 0.3).to_string(), false, 6);
    agent.controller.flush(at(7));
    let mut agent = agent.restart();
    let again = agent.send_to(control(), &set("c", "nobody", 0.3).to_string(), false, 8);
    assert_eq!(replies(&again), replies(&refused));
}

#[test]
fn without_an_id_a_command_is_done_each_time() {
    let mut agent = new_agent();
    for revision in 1..3 {
        let command = json!({ "command": "threshold.set", "machine": "fan-1", "threshold": 0.3 });
        let (reply, _) = agent.ask(command, revision);
        assert_eq!(reply.id, None);
        assert_eq!(reply.data.expect("data")["machines"][0]["revision"], json!(revision));
    }
}

#[test]
fn an_override_ends_by_itself() {
    let mut agent = new_agent();
    let mut command = set("a", "fan-1", 0.31);
    command["until"] = json!(Timestamp::from(at(60)).to_string());
    agent.ask(command, 1);
    assert_eq!(agent.threshold(0, 59), Some((0.31, ThresholdSource::Override)));
    assert_eq!(agent.threshold(0, 60), Some((0.25, ThresholdSource::Config)));
    assert!(agent.controller.tick(at(59)).is_empty());
    let out = agent.controller.tick(at(60));
    assert_eq!(events(&out), [EventKind::ThresholdChanged]);
    let settings =
        out.iter().filter(|output| matches!(output, Output::Settings(message) if message.threshold == Some(0.25)));
    assert_eq!(settings.count(), 1, "{out:?}");
    assert!(agent.controller.tick(at(61)).is_empty());
    // Also where the agent was off at that moment.
    let mut late = set("b", "fan-1", 0.4);
    late["until"] = json!(Timestamp::from(at(90)).to_string());
    agent.ask(late, 70);
    let mut agent = agent.restart();
    assert_eq!(agent.threshold(0, 100), Some((0.25, ThresholdSource::Config)));
    assert_eq!(events(&agent.controller.tick(at(100))), [EventKind::ThresholdChanged]);

    let mut past = set("c", "fan-1", 0.4);
    past["until"] = json!(Timestamp::from(at(100)).to_string());
    let (reply, _) = agent.ask(past, 100);
    let error = reply.error.expect("an error");
    assert!(error.message.contains("until: expected a time after now"), "{}", error.message);
}

#[test]
fn retained_expired_and_foreign_messages_are_not_done() {
    let mut agent = new_agent();
    let text = set("a", "fan-1", 0.31).to_string();
    let error = reply(&agent.send_to(control(), &text, true, 1)).error.expect("an error");
    assert_eq!(error.code, ErrorCode::BadArgument);
    assert!(error.message.contains("retained"), "{}", error.message);
    assert!(agent.send_to(control(), "", false, 1).is_empty(), "an empty message clears a retained one");

    let mut expired = set("b", "fan-1", 0.31);
    expired["expires"] = json!(Timestamp::from(at(1)).to_string());
    let (reply_, _) = agent.ask(expired.clone(), 1);
    assert_eq!(reply_.error.expect("an error").code, ErrorCode::Expired);

    let mut foreign = set("c", "fan-1", 0.31);
    foreign["tag"] = json!("south");
    assert!(agent.send_to(Topic::FleetControl, &foreign.to_string(), false, 1).is_empty(), "others are meant");
    assert!(agent.send_to(Topic::FleetControl, "{\"tag\":\"south\",\"id\":7}", false, 1).is_empty());
    let error = agent.ask(foreign, 1).0.error.expect("an error");
    assert!(
        error.message.contains("tag: expected one of this agent's tags (north), found \"south\""),
        "{}",
        error.message
    );
    assert_eq!(agent.threshold(0, 1), Some((0.25, ThresholdSource::Config)), "nothing of all this was done");

    // What was only retained may be sent again properly, with the same id; and what is meant for our tag is ours.
    let mut ours = set("a", "fan-1", 0.31);
    ours["tag"] = json!("north");
    let done = reply(&agent.send_to(Topic::FleetControl, &ours.to_string(), false, 2));
    assert_eq!(done.status, ReplyStatus::Ok);
    assert_eq!(agent.threshold(0, 2), Some((0.31, ThresholdSource::Override)));
}

#[test]
fn a_bare_number_sets_the_threshold_of_its_machine() {
    let mut agent = new_agent();
    let topic = |machine: &str| Topic::Machine {
        agent: "pi-7".into(),
        machine: machine.into(),
        part: MachinePart::ThresholdSet,
    };
    let done = reply(&agent.send_to(topic("pump"), "0.31", false, 1));
    assert_eq!((done.status, done.command.as_deref(), done.id), (ReplyStatus::Ok, Some("threshold.set"), None));
    assert_eq!(agent.threshold(1, 1), Some((0.31, ThresholdSource::Override)));
    let unknown = reply(&agent.send_to(topic("nobody"), "0.31", false, 1)).error.expect("an error");
    assert_eq!(unknown.code, ErrorCode::UnknownMachine);
    assert!(unknown.message.contains("fan-1, pump"), "{}", unknown.message);
    let bad = reply(&agent.send_to(topic("pump"), "-1", false, 1)).error.expect("an error");
    assert_eq!(bad.code, ErrorCode::BadArgument);
    let retained = reply(&agent.send_to(topic("pump"), "0.5", true, 1)).error.expect("an error");
    assert!(retained.message.contains("retained"), "{}", retained.message);
    assert_eq!(agent.threshold(1, 1), Some((0.31, ThresholdSource::Override)));
}

#[test]
fn maintenance_is_set_published_and_ends() {
    let mut agent = new_agent();
    let until = Timestamp::from(at(50)).to_string();
    let on =
        json!({ "id": "m", "command": "maintenance.set", "machine": "pump", "on": true, "until": until, "by": "ana" });
    let (done, out) = agent.ask(on, 1);
    assert_eq!(done.status, ReplyStatus::Ok);
    assert_eq!(events(&out), [EventKind::MaintenanceOn]);
    let is_on = |agent: &Agent, seconds| agent.monitor.lock().machines[1].settings.maintenance(at(seconds)).is_some();
    let mut agent = agent.restart();
    assert!(is_on(&agent, 49) && !is_on(&agent, 50));
    assert_eq!(events(&agent.controller.tick(at(50))), [EventKind::MaintenanceOff]);
    agent.ask(json!({ "id": "n", "command": "maintenance.set", "machine": "pump", "on": true }), 51);
    assert!(is_on(&agent, 52));
    let (_, out) = agent.ask(json!({ "id": "o", "command": "maintenance.set", "machine": "pump", "on": false }), 53);
    assert_eq!(events(&out), [EventKind::MaintenanceOff]);
    assert!(!is_on(&agent, 54));
}

#[test]
fn a_preview_counts_and_changes_nothing() {
    let mut agent = new_agent();
    let day_s = 26 * 3600;
    for second in (0..day_s).step_by(60) {
        // An hour of trouble, 10 hours ago; older than a day: trouble without end.
        let age = day_s - second;
        let loud = age > 24 * 3600 || (9 * 3600..10 * 3600).contains(&age);
        let distance = if second % 600 == 0 { None } else { Some(if loud { 0.4 } else { 0.1 }) };
        agent.history.note("fan-1", at(second), distance);
        agent.controller.tick(at(second));
    }
    // The last minute waits in memory; the rest is on the disk.
    let ask = json!({ "id": "p", "command": "threshold.preview", "machine": "fan-1", "threshold": 0.3 });
    let (reply, out) = agent.ask(ask, day_s);
    let answered = &reply.data.expect("data")["machines"][0];
    assert_eq!(out.len(), 1);
    assert_eq!(answered["windows"], json!(24 * 60 - 24 * 6), "{answered}");
    assert_eq!(answered["preview"]["anomalous"], json!(54), "{answered}");
    assert_eq!(answered["preview"]["alarms"], json!(1), "{answered}");
    let per_day = answered["preview"]["alarms_per_day"].as_f64().expect("a figure");
    assert!((per_day - 1.0).abs() < 0.01, "{answered}");
    assert_eq!(answered["now"]["threshold"], json!(0.25), "{answered}");
    assert_eq!(agent.threshold(0, day_s), Some((0.25, ThresholdSource::Config)));
}

#[test]
fn state_has_every_machine_and_a_lost_store_is_reported() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("state.db"), b"no database at all, but long enough for one").expect("writable");
    let mut agent = Agent::start(dir);
    let start = agent.controller.start(&BTreeMap::new(), at(1));
    assert_eq!(events(&start), [EventKind::SettingsLost]);
    assert_eq!(start.iter().filter(|output| matches!(output, Output::Settings(_))).count(), 2);
    let (reply, _) = agent.ask(json!({ "id": "s", "command": "state.get" }), 2);
    let answered = reply.data.expect("data");
    assert_eq!(answered["machines"][1]["machine"], json!("pump"));
    assert_eq!(answered["bundle"], Value::Null);
    assert!(answered["store_problem"].as_str().is_some_and(|words| words.contains("set aside")), "{answered}");
    let (done, _) = agent.ask(set("a", "fan-1", 0.31), 3);
    assert_eq!(done.status, ReplyStatus::Ok);
}

#[test]
fn where_nothing_can_be_kept_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A directory where the store should be: it cannot be opened, and is nobody's to set aside.
    std::fs::create_dir(dir.path().join("state.db")).expect("writable");
    let mut agent = Agent::start(dir);
    let (refused, _) = agent.ask(set("a", "fan-1", 0.31), 1);
    let error = refused.error.expect("an error");
    assert_eq!(error.code, ErrorCode::Failed);
    assert!(error.message.contains("state.db"), "{}", error.message);
    assert_eq!(agent.threshold(0, 1), Some((0.25, ThresholdSource::Config)));
}

#[test]
fn a_bad_bundle_is_refused_and_may_be_tried_again() {
    let mut agent = new_agent();
    let root = agent.dir.path().join("bundles");
    std::fs::create_dir_all(root.join("broken")).expect("writable");
    let ask = json!({ "id": "r", "command": "bundle.reload", "path": "broken" }).to_string();
    assert!(agent.send_to(control(), &ask, false, 1).is_empty(), "the reply comes at the end");
    assert!(agent.controller.is_busy());
    assert!(agent.send_to(control(), &ask, false, 1).is_empty(), "the same command is under way");
    let other = json!({ "id": "q", "command": "bundle.reload" });
    let error = agent.ask(other.clone(), 1).0.error.expect("an error");
    assert_eq!(error.code, ErrorCode::Busy);
    let out = agent.answer(at(2));
    let error = reply(&out).error.expect("an error");
    assert_eq!(error.code, ErrorCode::BundleInvalid);
    assert!(error.message.contains("encoder.tflite") || error.message.contains("broken"), "{}", error.message);
    assert_eq!(events(&out), [EventKind::BundleFailed]);
    assert!(agent.send_to(control(), &other.to_string(), false, 3).is_empty(), "busy is no last word");

    let leaving = json!({ "id": "l", "command": "bundle.reload", "path": "../.." });
    let error = agent.ask(leaving, 1).0.error.expect("an error");
    assert_eq!(error.code, ErrorCode::BadArgument);
}

#[test]
fn evidence_is_refused_where_it_is_not_allowed_or_not_there() {
    let mut agent = new_agent();
    let ask = |agent: &mut Agent, id: &str, machine: &str| {
        let (reply, out) = agent.ask(json!({ "id": id, "command": "evidence.get", "machine": machine }), 0);
        assert_eq!(out.len(), 1, "{out:?}");
        reply.error.expect("a refusal").code
    };
    assert_eq!(ask(&mut agent, "1", "fan-9"), ErrorCode::UnknownMachine);
    assert_eq!(ask(&mut agent, "2", "*"), ErrorCode::BadArgument);
    assert_eq!(ask(&mut agent, "3", "fan-1"), ErrorCode::NotAllowed);
}

#[test]
fn pieces_are_gathered_across_a_restart_and_refused_by_name() {
    let mut agent = new_agent();
    let archive = b"no archive at all, but whole";
    let sha256 = "9d5f3ff29ac0ab3e1b4f0b9c2f8d9c3f7d3f0ac8a1ccd4a5b3f2e1d0c9b8a796";
    let mut number = 0;
    let mut piece = |agent: &mut Agent, more: Value| {
        number += 1;
        let mut command = json!({ "id": number.to_string(), "command": "bundle.install", "sha256": sha256 });
        command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        agent.ask(command, 1).0
    };
    use base64::prelude::{BASE64_STANDARD, Engine};
    let of = |from: usize, to: usize| json!({ "size": archive.len(), "offset": from, "data": BASE64_STANDARD.encode(&archive[from..to]) });
    let data = |reply: Reply| reply.data.expect("data");
    assert_eq!(
        data(piece(&mut agent, json!({ "size": 28 }))),
        json!({ "received": 0, "size": 28, "missing": [0, 28] })
    );
    assert_eq!(data(piece(&mut agent, of(10, 28)))["missing"], json!([0, 10]));
    let mut agent = agent.restart();
    assert_eq!(data(piece(&mut agent, of(0, 10)))["missing"], Value::Null);
    for (more, words) in [
        (json!({}), "expected url alone, or size alone"),
        (json!({ "size": 28, "offset": 0 }), "expected url alone"),
        (json!({ "size": 28, "url": "http://a/b" }), "expected url alone"),
        (json!({ "size": 1u64 << 40 }), "size: expected 1 to 67108864 bytes"),
        (json!({ "size": 28, "offset": 28, "data": "eA==" }), "offset: expected a piece within 28 bytes"),
    ] {
        let error = piece(&mut agent, more).error.expect("an error");
        assert_eq!(error.code, ErrorCode::BadArgument, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
    // All is there, and it is not what was promised: thrown away.
    let whole = json!({ "id": "all", "command": "bundle.install", "sha256": sha256, "size": 28 });
    assert!(agent.send_to(control(), &whole.to_string(), false, 2).is_empty(), "the reply comes at the end");
    let out = agent.answer(at(3));
    let error = reply(&out).error.expect("an error");
    assert_eq!(error.code, ErrorCode::BundleInvalid);
    assert!(error.message.contains("send it again"), "{}", error.message);
    assert_eq!(data(piece(&mut agent, json!({ "size": 28 })))["received"], json!(0));

    // Where bundle.path is a plain directory, nothing can be installed.
    let mut agent = new_agent();
    std::fs::create_dir_all(agent.dir.path().join("bundles/current")).expect("a directory");
    let error = piece(&mut agent, json!({ "size": 28 })).error.expect("an error");
    assert!(error.message.contains("expected a link to the bundle in use"), "{}", error.message);
}

#[test]
fn what_recurs_daily_is_told_once_a_day_kept_and_forgotten() {
    const DAY_S: i64 = 86_400;
    let mut agent = new_agent();
    let pump = agent.monitor.number("pump").expect("it is there");
    agent.monitor.lock().machines[pump].config.adapt = true;
    let midnight = DAY_S - at(0).timestamp() % DAY_S;
    let mut told = Vec::new();
    for day in 0..6 {
        // Once a second, as the agent does; an hour is as good.
        for hour in 0..24 {
            let begin = midnight + day * DAY_S + hour * 3600;
            told.extend(agent.controller.tick(at(begin)).into_iter().map(|output| (day, output)));
            let mut state = agent.monitor.lock();
            for number in 0..60 {
                // One in ten needs a tail half as wide again, in the first hours of each day.
                let needed = if hour < 2 && number % 10 == 0 { 1.5 } else { 0.5 };
                state.machines[pump].adaptation.note(at(begin + number), needed);
            }
        }
    }
    let days: Vec<_> =
        told.iter().filter(|(_, output)| matches!(output, Output::Event(_))).map(|(day, _)| *day).collect();
    assert_eq!(days, [3, 4, 5], "an event a day, once three days are known");
    let Some(Output::Event(event)) =
        told.iter().rev().map(|(_, output)| output).find(|one| matches!(one, Output::Event(_)))
    else {
        panic!("no event");
    };
    assert_eq!(event.event, EventKind::AdaptationChanged);
    assert_eq!(event.facts["hours"], json!([{ "hour": 0, "times": 1.45 }, { "hour": 1, "times": 1.45 }]));
    assert!(
        event.detail.as_ref().is_some_and(|detail| detail.contains("0:00 to 2:00 UTC up to 1.45 times")),
        "{event:?}"
    );
    let settings = |agent: &mut Agent, id: &str| -> Vec<Value> {
        let (reply, _) = agent.ask(json!({ "id": id, "command": "threshold.get", "machine": "*" }), 8 * DAY_S);
        let machines = reply.data.expect("data")["machines"].clone();
        machines.as_array().expect("a list").iter().map(|one| one["adaptation"].clone()).collect()
    };
    let found = settings(&mut agent, "s1");
    assert!(found.contains(&Value::Null) && found.iter().any(|one| one["hours"][0]["times"] == 1.45), "{found:?}");

    // It is on the disk, and so is that it was forgotten.
    let Agent { dir, monitor, history, controller } = agent;
    drop(controller);
    let (store, _) = StateStore::open(dir.path(), at(8 * DAY_S));
    let kept = store.adaptations().expect("readable");
    let read = Adaptation::from_json(&kept["pump"]).expect("its own text");
    assert_eq!((kept.len(), read.hours().len()), (1, 2));
    drop(store);
    let mut agent = Agent::start(dir);
    drop((monitor, history));
    let pump = agent.monitor.number("pump").expect("it is there");
    {
        let mut state = agent.monitor.lock();
        (state.machines[pump].config.adapt, state.machines[pump].adaptation) = (true, read);
    }
    let reset =
        |machine: &str| json!({ "id": machine, "command": "adaptation.reset", "machine": machine, "by": "ana" });
    let (refused, _) = agent.ask(reset("fan-1"), 9 * DAY_S);
    assert!(refused.error.is_some_and(|error| error.message.contains("adapt = true")));
    let (reply, out) = agent.ask(reset("pump"), 9 * DAY_S);
    assert_eq!(reply.data.expect("data")["machines"][0]["forgotten"]["hours"][0]["times"], 1.45);
    assert_eq!(events(&out), [EventKind::AdaptationChanged]);
    let found = settings(&mut agent, "s2");
    assert!(found.contains(&json!({ "days": 0, "hours": [] })), "{found:?}");
    let Agent { dir, controller, .. } = agent;
    drop(controller);
    assert!(StateStore::open(dir.path(), at(9 * DAY_S)).0.adaptations().expect("readable").is_empty());
}
