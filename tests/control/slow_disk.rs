//! On a disk that takes 300 ms for every sync, nobody waits for it with the monitor locked: windows of other machines
//! are judged while alarms, learners, settings and bundles are written.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use auscult::audio::capture;
use auscult::audio::meters::Meters;
use auscult::bundle::upload::Upload;
use auscult::clock::Clock;
use auscult::config::{Config, MachineConfig};
use auscult::control::baselines::{ApplyBaseline, Proposed};
use auscult::control::store::StateStore;
use auscult::control::transaction::Transaction;
use auscult::control::{Controller, Output, Shared, learning};
use auscult::monitor::alarm_store::AlarmStore;
use auscult::monitor::baseline_store::BaselineStore;
use auscult::monitor::baseline_switch::Switches;
use auscult::monitor::clips::Clips;
use auscult::monitor::history::History;
use auscult::monitor::journal::Journal;
use auscult::monitor::last_window::LastWindows;
use auscult::monitor::machine::{LearningState, Machine, Origin as MachineOrigin};
use auscult::monitor::model::ActiveBundle;
use auscult::monitor::settings::MachineSettings;
use auscult::monitor::state_writer::{self, StateWriter, WriterHandle};
use auscult::monitor::trend::Trend;
use auscult::monitor::{AlarmChange, Monitor};
use auscult::mqtt::broker::{BrokerLink, BrokerSettings};
use auscult::mqtt::payload::{EventKind, Reply, ReplyStatus};
use auscult::mqtt::topics::{AgentPart, Topic};
use auscult::notify::Notifier;
use auscult::scoring::alarm::{Alarm, AlarmConfig};
use auscult::scoring::baseline::{LearnSettings, Learner, Origin};
use auscult::scoring::lanes::FeatureExtractor;
use auscult::scoring::{Reason, Scored, judge};
use auscult::window::Window;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::agent_process::tar_gz;
use crate::common::bundles::{self, Parts};
use crate::common::wait::{pace, wait_until};

/// A sync of the slow disk.
const SYNC: Duration = Duration::from_millis(300);
/// The longest that another machine's window may wait.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// A processor that is busy elsewhere makes a window late too, but not each time; a lock held over a sync does.
const ATTEMPTS: usize = 5;
/// Set for the process that runs on the slow disk.
const ON_THE_SLOW_DISK: &str = "AUSCULT_TEST_ON_THE_SLOW_DISK";

#[test]
fn no_window_waits_for_a_slow_disk() {
    if bundles::encoder().is_none() {
        return;
    }
    if std::env::var_os(ON_THE_SLOW_DISK).is_some() {
        return on_the_slow_disk();
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let library = dir.path().join("slow_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/slow_disk.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.expect("cc: run tests/setup.sh").success());
    let output = Command::new(std::env::current_exe().expect("this test's own path"))
        .args(["slow_disk::no_window_waits_for_a_slow_disk", "--exact", "--nocapture"])
        .env("LD_PRELOAD", &library)
        .env(ON_THE_SLOW_DISK, "1")
        .output()
        .expect("the test starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// What [`no_window_waits_for_a_slow_disk`] does in a process of its own, whose syncs are slow.
fn on_the_slow_disk() {
    let mut rig = Rig::new();
    let begin = Instant::now();
    auscult::fs::replace(&rig.dir.path().join("any"), b"any").expect("written");
    assert!(begin.elapsed() >= SYNC, "the disk is slow");
    let held = rig.wait_during(|rig| {
        let _state = rig.monitor.lock();
        auscult::fs::replace(&rig.dir.path().join("any"), b"any").expect("written");
    });
    assert!(held >= SYNC / 2, "a file written with the monitor locked would be seen: {held:?}");

    rig.never_waits("a threshold is set", |rig, _| rig.ok(json!({ "command": "threshold.set", "threshold": 0.3 })));
    rig.never_waits("maintenance begins and ends", |rig, _| {
        for on in [true, false] {
            rig.ok(json!({ "command": "maintenance.set", "on": on }));
            rig.wait_published();
        }
    });
    rig.never_waits("an alarm changes by a command", |rig, _| {
        for command in ["alarm.shelve", "alarm.unshelve"] {
            rig.ok(json!({ "command": command }));
            rig.wait_published();
        }
    });
    rig.never_waits("learning begins, is saved and is discarded", |rig, _| {
        let file = rig.dir.path().join("baselines/fan-1/learning.json");
        rig.ok(json!({ "command": "baseline.learn", "minutes": 60 }));
        std::fs::remove_file(&file).expect("a learner on disk");
        rig.writer.save_learner(0);
        wait_until("the learner is saved", || file.exists());
        rig.ok(json!({ "command": "baseline.discard" }));
        assert!(!file.exists());
    });
    rig.never_waits("a baseline is learned, applied and put back", |rig, _| {
        rig.learn();
        rig.ok(json!({ "command": "baseline.apply" }));
        rig.ok(json!({ "command": "threshold.reset" }));
        rig.ok(json!({ "command": "baseline.discard" }));
    });
    rig.never_waits("a bundle is installed and rolled back", |rig, attempt| {
        let archive = tar_gz(&bundle(&format!("2.{attempt}")));
        let (sha256, size) = (bundles::sha256(&archive), archive.len() as u64);
        let incoming = rig.shared.bundles(None).and_then(|store| store.upload_dir()).expect("a directory");
        let arrived = Upload::open(&incoming, &sha256, size).and_then(|mut incoming| incoming.put(0, &archive));
        arrived.expect("the archive");
        rig.send(json!({ "command": "bundle.install", "sha256": sha256, "size": size }));
        rig.send(json!({ "command": "bundle.rollback" }));
    });
    // A power cut comes at any time: what was written is what is read.
    let restored = AlarmStore::open(rig.dir.path()).1.restore("fan-1", AlarmConfig::default(), Utc::now());
    assert_eq!(restored.status().state, rig.monitor.lock().machines[0].alarm.status().state);
}

fn bundle(version: &str) -> Parts {
    let mut parts = Parts::valid(&bundles::encoder().expect("it was there"));
    parts.manifest("fans", version, "");
    parts
}

/// The parts of an agent that touch the monitor and the disk.
struct Rig {
    dir: tempfile::TempDir,
    monitor: Arc<Monitor>,
    shared: Arc<Shared>,
    controller: Controller,
    writer: WriterHandle,
    published: Receiver<AlarmChange>,
    _writer: StateWriter,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let machine = |id: &str| -> MachineConfig {
            serde_json::from_value(json!({ "id": id, "source": { "synth": "fan" } })).expect("a machine")
        };
        let mut config = Config { machine: vec![machine("fan-1"), machine("fan-2")], ..Config::default() };
        config.agent.id = "pi-7".into();
        config.agent.state_dir = dir.path().to_owned();
        config.bundle.path = dir.path().join("bundles/current");
        config.encoder = serde_json::from_value(json!({ "engine": "tract" })).expect("an encoder");
        bundle("1.0").write(&dir.path().join("bundles/fans-1.0"));
        std::os::unix::fs::symlink("fans-1.0", &config.bundle.path).expect("a link");

        let baselines = Arc::new(BaselineStore::new(dir.path()));
        let loaded = ActiveBundle::open(&config.bundle.path, &config, &config.machine, &baselines).expect("a bundle");
        let machines = config.machine.iter().map(|machine| {
            let alarm = Alarm::new(AlarmConfig::default(), Utc::now());
            let (settings, learning) = (MachineSettings::default(), LearningState::default());
            Machine::new(machine.clone(), MachineOrigin::File, settings, alarm, learning, Utc::now())
        });
        let monitor = Arc::new(Monitor::new(Some(loaded), machines.collect()));
        let shared = Arc::new(Shared {
            monitor: monitor.clone(),
            capture: Arc::new(capture::start(Vec::new()).expect("nothing to open")),
            history: Arc::new(History::default()),
            trend: Arc::new(Trend::new(dir.path())),
            alarms: Arc::new(AlarmStore::open(dir.path()).0),
            journal: Arc::new(Journal::open(dir.path(), Utc::now()).0),
            baselines: baselines.clone(),
            evidence: Arc::new(LastWindows::new(false)),
            clips: Arc::new(Clips::open(dir.path(), 0).0),
            notify: Arc::new(Notifier::new("pi-1", None, &[])),
            clock: Clock::new(true),
            boot: "b1".into(),
            started: Instant::now(),
            store_problem: None,
            meters: Meters::new("/sys", Box::new(Vec::new)),
            broker: Arc::new(BrokerLink::new(BrokerSettings::default()).0),
            bundles: OnceLock::new(),
            config,
        });
        let (store, lost) = StateStore::open(dir.path(), Utc::now());
        assert_eq!(lost, None);
        let controller = Controller::new(shared.clone(), store, Utc::now());
        let (writer, jobs) = state_writer::channel();
        let (publish, published) = mpsc::channel();
        let publish = move |change: &AlarmChange| drop(publish.send(change.clone()));
        let state_writer = StateWriter::start(
            (writer.clone(), jobs),
            monitor.clone(),
            shared.alarms.clone(),
            shared.journal.clone(),
            baselines,
            |_| (),
            publish,
        );
        let _writer = state_writer.expect("a thread");
        Rig { dir, monitor, shared, controller, writer, published, _writer }
    }

    /// The longest that a window of the second machine waits while `act` goes on.
    fn wait_during(&mut self, act: impl FnOnce(&mut Rig)) -> Duration {
        let (monitor, end, longest) = (self.monitor.clone(), AtomicBool::new(false), AtomicU64::new(0));
        // Nothing is scored for it: what it takes is the wait for the lock.
        let window = Window {
            machine: 1,
            end: SystemTime::UNIX_EPOCH,
            samples: Vec::new(),
            fault: Some(Reason::Overload),
            follows: false,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    monitor.assess(&window);
                    longest.fetch_max(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
                    pace(Duration::from_millis(1));
                }
            });
            act(self);
            end.store(true, Ordering::Relaxed);
        });
        Duration::from_micros(longest.into_inner())
    }

    fn never_waits(&mut self, what: &str, act: impl Fn(&mut Rig, usize)) {
        let mut waits = Vec::new();
        for attempt in 0..ATTEMPTS {
            waits.push(self.wait_during(|rig| act(rig, attempt)));
            if waits.last() <= Some(&LONGEST_WAIT) {
                println!("{what}: {waits:?}");
                return;
            }
        }
        panic!("{what}: windows of another machine waited {waits:?}");
    }

    /// Sends a command for the first machine; it must be done.
    fn ok(&mut self, mut command: Value) {
        command["machine"] = json!("fan-1");
        self.send(command);
    }

    fn send(&mut self, command: Value) {
        let control = Topic::Agent { agent: "pi-7".into(), part: AgentPart::Control };
        let mut out = self.controller.handle(&control, command.to_string().as_bytes(), false, Utc::now());
        wait_until("a reply", || {
            let reply = out.iter().find_map(|output| match output {
                Output::Reply(reply) => Some(serde_json::from_slice::<Reply>(reply).expect("a reply")),
                _ => None,
            });
            if out.contains(&Output::Alarms) {
                self.writer.save_alarms();
            }
            out = self.controller.tick(Utc::now());
            reply.is_some_and(|reply| {
                assert_eq!(reply.status, ReplyStatus::Ok, "{command}: {reply:?}");
                true
            })
        });
    }

    /// Until a change of an alarm is on disk and published.
    fn wait_published(&self) {
        self.published.recv_timeout(Duration::from_secs(30)).expect("a change that is published");
    }

    /// Hears enough of the first machine, until the baseline is proposed.
    fn learn(&mut self) {
        // What it hears is made without the lock: only the agent's own work may hold it.
        let origin = self.monitor.lock().loaded.as_ref().expect("a bundle").origin(0).clone();
        let learner = noise_learner("fan-1", origin, 50.0);
        {
            let learning = &mut self.monitor.lock().machines[0].learning;
            (learning.learner, learning.generation) = (Some(learner), self.shared.baselines.new_generation());
        }
        wait_until("a proposal", || {
            let out = self.controller.tick(Utc::now());
            out.iter().any(|output| matches!(output, Output::Event(event) if event.event == EventKind::BaselineLearned))
        });
    }
}

/// Nobody has asked for it, so that no reply decides it: what is begun is carried out.
#[test]
fn a_kill_while_a_baseline_comes_into_use_by_itself_loses_neither() {
    if bundles::encoder().is_none() {
        return;
    }
    let mut rig = Rig::new();
    rig.learn();
    rig.ok(json!({ "command": "baseline.apply" }));
    rig.learn();
    let (proposal, previous) = {
        let state = rig.monitor.lock();
        (state.machines[0].learning.proposal.clone().expect("a proposal"), learning::in_use(&state, 0))
    };
    assert!(previous.is_some(), "one that was learned is in use");
    let id = rig.shared.monitor.id(0);
    let machines = vec![Proposed { number: 0, id, baseline: proposal, previous, settings: None }];
    let (shared, why, switches) = (rig.shared.clone(), String::new(), Switches::default());
    let mut apply = ApplyBaseline { shared, machines, why, by_itself: true, switches };
    apply.persist().expect("written");
    let files = || {
        let files = std::fs::read_dir(rig.dir.path().join("baselines/fan-1")).expect("a directory");
        let names = files.map(|file| file.expect("an entry").file_name().into_string().expect("UTF-8"));
        names.collect::<Vec<_>>()
    };
    assert!(files().iter().any(|file| file == "switch.json"), "{:?}", files());
    // The next start.
    assert_eq!(BaselineStore::new(rig.dir.path()).settle(|_, _| false), None);
    let found = files();
    let is_there = |kind: &str| found.iter().any(|file| file.starts_with(kind));
    assert!(is_there("in-use") && is_there("previous"), "{found:?}");
    assert!(!is_there("proposal") && !is_there("switch"), "{found:?}");
}

/// A learner that has heard 60 windows of noise and wants so many.
pub fn noise_learner(machine: &str, origin: Origin, wanted: f64) -> Learner {
    let window_s = origin.front_end.window_s;
    let (n_mels, samples) = (origin.front_end.n_mels, origin.front_end.window_samples());
    let mut extractor = FeatureExtractor::new(&origin.front_end);
    let settings = LearnSettings {
        machine: machine.into(),
        origin,
        hop_s: window_s,
        wanted_s: wanted * window_s,
        false_alarm_rate: 0.05,
        previous_threshold: None,
    };
    let mut learner = Learner::new(settings, DateTime::UNIX_EPOCH).expect("a learner");
    let mut rng = StdRng::seed_from_u64(11);
    let mut noise = |length: usize| (0..length).map(|_| rng.random_range(-1.0..1.0f32)).collect::<Vec<_>>();
    for number in 1..=60 {
        let scored = Scored {
            assessment: judge(0.1, 0.5, -30.0),
            embedding: Some(noise(32)),
            features: Some(extractor.extract(&noise(samples), &noise(n_mels), n_mels)),
            signal: None,
        };
        let end = DateTime::UNIX_EPOCH + TimeDelta::milliseconds((1000.0 * window_s * f64::from(number)) as i64);
        learner.on_window(&scored, end);
    }
    learner
}
