use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::audio::Paced;
use crate::audio::capture::{self, StreamSpec};
use crate::audio::synth::SynthSource;
use crate::config::{Channel, Config, MachineConfig};
use crate::encoder::{EncoderError, EncoderShape, Engine};
use crate::monitor::baseline_store::BaselineStore;
use crate::monitor::machine::{LearningState, Machine, Origin};
use crate::monitor::model::ActiveBundle;
use crate::monitor::settings::MachineSettings;
use crate::scoring::alarm::{Alarm, AlarmConfig};

/// What the engine takes for a window, and how often one comes.
const TAKES: Duration = Duration::from_millis(200);
const COMES_EVERY: Duration = Duration::from_millis(150);
const HOP_S: f64 = 0.5;

/// An engine that stands for a slow processor.
struct Slow {
    shape: EncoderShape,
    can_be_shared: Arc<AtomicBool>,
}

impl Engine for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn shape(&self) -> EncoderShape {
        self.shape
    }

    fn embed(&mut self, _image: &[f32], _machine_index: u32) -> Result<Vec<f32>, EncoderError> {
        std::thread::sleep(TAKES);
        Ok(vec![0.0; self.shape.embedding])
    }

    fn share(&self) -> Result<Box<dyn Engine>, EncoderError> {
        match self.can_be_shared.load(Ordering::Relaxed) {
            true => Ok(Box::new(Slow { shape: self.shape, can_be_shared: self.can_be_shared.clone() })),
            false => Err(EncoderError::Engine("one is all there is".into())),
        }
    }
}

/// A machine whose windows come faster than one thread scores them.
fn ahead(threads: usize, can_be_shared: &Arc<AtomicBool>) -> Ahead {
    let now = chrono::Utc::now();
    let machine = json!({ "id": "fan-1", "source": { "synth": "fan" }, "hop_s": HOP_S, "baseline": "manual" });
    let machine: MachineConfig = serde_json::from_value(machine).expect("a machine");
    let config = Config { machine: vec![machine.clone()], ..Config::default() };
    let state = tempfile::tempdir().expect("a temporary directory");
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let baselines = BaselineStore::new(state.path());
    let mut loaded = ActiveBundle::open(&bundle, &config, &config.machine, &baselines).expect("the demo's bundle");
    loaded.use_engine(|shape| Box::new(Slow { shape, can_be_shared: can_be_shared.clone() }));
    let input = machine.input(0, loaded.window_of(0));
    let (settings, alarm) = (MachineSettings::default(), Alarm::new(AlarmConfig::default(), now));
    let machine = Machine::new(machine, Origin::File, settings, alarm, LearningState::default(), now);
    let monitor = Arc::new(Monitor::new(Some(loaded), vec![machine]));

    let source = input.source.clone();
    let spec = StreamSpec {
        name: "fan".into(),
        open: Arc::new(move || {
            let speed = HOP_S / COMES_EVERY.as_secs_f64();
            Ok(Box::new(Paced::at_speed(Box::new(SynthSource::new(&source, "fan")?), speed)))
        }),
        opened: None,
        realtime: true,
        machines: vec![(input, Channel::Mix)],
    };
    let capture = Arc::new(capture::start_streams(vec![spec]).expect("a capture"));
    Ahead::new(capture, monitor, threads)
}

/// The next windows as they are judged: when they end, why they are not judged.
fn judged(ahead: &mut Ahead) -> impl Iterator<Item = (std::time::SystemTime, Option<Reason>)> {
    std::iter::from_fn(|| {
        loop {
            let (captured, heard) = ahead.next(Duration::from_secs(60))?;
            if let Captured::Window(window) = captured {
                let assessed = ahead.monitor.assess_heard(&window, heard)?;
                return Some((window.end, assessed.assessment.reason));
            }
        }
    })
}

#[test]
fn several_threads_keep_up_where_one_would_not() {
    let mut ahead = ahead(4, &Arc::new(true.into()));
    let windows: Vec<_> = judged(&mut ahead).take(30).collect();
    assert!(windows.is_sorted_by_key(|(end, _)| *end), "{windows:?}");
    assert!(windows.iter().all(|(_, reason)| *reason != Some(Reason::Overload)), "{windows:?}");
    assert!(ahead.helpers.is_some());
}

/// Takes so many windows that one thread alone would fall behind.
fn is_overloaded(ahead: &mut Ahead) -> bool {
    judged(ahead).take(60).any(|(_, reason)| reason == Some(Reason::Overload))
}

#[test]
fn one_thread_is_overloaded() {
    let mut ahead = ahead(1, &Arc::new(true.into()));
    assert!(is_overloaded(&mut ahead) && ahead.helpers.is_none());
}

#[test]
fn an_engine_that_cannot_be_shared_leaves_one_thread_until_it_is_tried_again() {
    let can_be_shared = Arc::new(AtomicBool::new(false));
    let mut ahead = ahead(4, &can_be_shared);
    assert!(is_overloaded(&mut ahead) && ahead.helpers.is_none());
    can_be_shared.store(true, Ordering::Relaxed);
    assert!(is_overloaded(&mut ahead) && ahead.helpers.is_none(), "before its time");
    assert!(ahead.again_at.is_some_and(|again| again > Instant::now()));
    ahead.again_at = Some(Instant::now());
    is_overloaded(&mut ahead);
    assert!(ahead.helpers.is_some());
}
