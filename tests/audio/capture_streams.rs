//! Capture's threads with sources made for the test: overload, gaps, storms of errors, sources that are not live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use auscult::audio::{
    self, Capture, CaptureEvent, CaptureState, Captured, Format, MachineInput, Paced, Read, Source, SourceError,
    StreamSpec,
};
use auscult::config::{Channel, SourceConfig};
use auscult::window::{Reason, Window};

use crate::common::wait::wait_until;

const RATE: u32 = 8000;

/// Counts 0, 1, 2... in each channel, ten blocks a second; what a script says comes first.
struct Counter {
    channels: usize,
    next: u32,
    script: std::vec::IntoIter<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Frames(u32),
    Gap(u64),
    Fail,
    End,
}

impl Counter {
    fn boxed(channels: usize, script: Vec<Step>) -> Box<dyn Source> {
        Box::new(Counter { channels, next: 0, script: script.into_iter() })
    }
}

impl Source for Counter {
    fn format(&self) -> Format {
        Format { rate_hz: RATE, channels: self.channels }
    }

    fn read(&mut self, frames: &mut Vec<f32>) -> Result<Read, SourceError> {
        let count = match self.script.next().unwrap_or(Step::Frames(RATE / 10)) {
            Step::Frames(count) => count,
            Step::Gap(frames) => {
                self.next += frames as u32;
                return Ok(Read::Gap { frames });
            }
            Step::Fail => return Err(SourceError::Lost("the cable is loose".into())),
            Step::End => return Ok(Read::End),
        };
        for number in self.next..self.next + count {
            frames.extend((0..self.channels).map(|channel| (number * 10) as f32 + channel as f32));
        }
        self.next += count;
        Ok(Read::Frames { end: SystemTime::now() })
    }
}

fn input(machine: usize, hop_s: f64, window_samples: usize) -> MachineInput {
    let source = SourceConfig::default();
    MachineInput { machine, id: format!("m{machine}"), source, hop_s, rate_hz: RATE, window_samples }
}

fn start(
    machines: Vec<(MachineInput, Channel)>,
    realtime: bool,
    open: impl Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync + 'static,
) -> Capture {
    let spec = StreamSpec { name: "counter".into(), open: Arc::new(open), opened: None, realtime, machines };
    audio::start_streams(vec![spec]).expect("capture starts")
}

/// All until the end, or `limit`.
fn take_all(capture: &Capture, limit: Duration) -> (Vec<Window>, Vec<CaptureEvent>, bool) {
    let (mut windows, mut events, begun) = (Vec::new(), Vec::new(), Instant::now());
    while begun.elapsed() < limit {
        match capture.next(Duration::from_millis(100)) {
            Some(Captured::Window(window)) => windows.push(window),
            Some(Captured::Event { event, .. }) => events.push(event),
            Some(Captured::End { .. }) => return (windows, events, true),
            None => {}
        }
    }
    (windows, events, false)
}

#[test]
fn channels_land_on_their_machines() {
    let script = vec![Step::Frames(100), Step::Frames(300), Step::End];
    let machines = [Channel::One(2), Channel::Mix, Channel::One(0)];
    let machines = machines.into_iter().enumerate().map(|(n, channel)| (input(n, 0.05, 400), channel)).collect();
    let capture = start(machines, false, move || Ok(Counter::boxed(3, script.clone())));
    let mut firsts = [0.0; 3];
    let mut ended = 0;
    while ended < 3 {
        match capture.next(Duration::from_secs(10)).expect("three windows and three ends") {
            Captured::Window(window) => {
                assert!(window.samples.windows(2).all(|pair| pair[1] - pair[0] == 10.0));
                firsts[window.machine] = window.samples[0];
            }
            Captured::End { .. } => ended += 1,
            Captured::Event { event, .. } => panic!("{event:?}"),
        }
    }
    assert_eq!(firsts, [2.0, 1.0, 0.0]);
    assert!(capture.stats().iter().all(|stats| stats.state == CaptureState::Ended && stats.windows == 1));
}

#[test]
fn gaps_mark_the_windows_that_they_touch_and_are_counted() {
    let script =
        vec![Step::Frames(1000), Step::Gap(50), Step::Frames(1950), Step::Gap(1500), Step::Frames(500), Step::End];
    let capture =
        start(vec![(input(0, 0.05, 800), Channel::One(0))], false, move || Ok(Counter::boxed(1, script.clone())));
    let (windows, events, ended) = take_all(&capture, Duration::from_secs(10));
    assert!(ended);
    // Windows of 800 every 400 of 5000 samples; missing are 1000 to 1050 and 3000 to 4500.
    let expected: Vec<_> = (0..=4200)
        .step_by(400)
        .map(|start| match start {
            400..=800 | 2400..=2800 | 3800..=4200 => Some(Reason::Gap),
            3000..=3700 => Some(Reason::NoSignal),
            _ => None,
        })
        .collect();
    assert_eq!(windows.iter().map(|window| window.fault).collect::<Vec<_>>(), expected);
    for (number, window) in windows.iter().enumerate() {
        match window.fault {
            None => assert_eq!((window.samples.len(), window.samples[0] as usize), (800, number * 4000)),
            Some(_) => assert!(window.samples.is_empty()),
        }
    }
    let stats = &capture.stats()[0];
    assert_eq!((stats.gaps, (stats.lost_s * 8000.0).round()), (2, 1550.0));
    // The second came within ten seconds of the first: it is counted, and told later.
    assert!(matches!(events.as_slice(), [CaptureEvent::Overrun { gaps: 1, .. }]), "{events:?}");
}

#[test]
fn twice_the_load_drops_the_oldest_and_says_so() {
    // Four machines, ten windows a second each; scoring takes 50 ms a window: half of what comes.
    let machines = (0..4).map(|n| (input(n, 0.1, 800), Channel::One(n))).collect();
    let capture = start(machines, true, || Ok(Box::new(Paced::new(Counter::boxed(4, Vec::new())))));
    let begun = Instant::now();
    let mut windows: Vec<Vec<(Window, Duration)>> = vec![Vec::new(); 4];
    let mut scored = 0;
    let mut take = |captured: Captured, score: bool| {
        if let Captured::Window(window) = captured {
            if window.fault.is_none() {
                scored += 1;
                if score {
                    crate::common::wait::pace(Duration::from_millis(50));
                }
            }
            let age = SystemTime::now().duration_since(window.end).unwrap_or_default();
            windows[window.machine].push((window, age));
        }
    };
    while begun.elapsed() < Duration::from_secs(6) {
        if let Some(captured) = capture.next(Duration::from_millis(100)) {
            take(captured, true);
        }
    }
    capture.stop();
    while let Some(captured) = capture.next(Duration::ZERO) {
        take(captured, false);
    }
    let stats = capture.stats();
    let cut: u64 = stats.iter().map(|stats| stats.windows).sum();
    let overload: u64 = stats.iter().map(|stats| stats.overload).sum();
    assert_eq!(windows.iter().map(Vec::len).sum::<usize>() as u64, cut, "a window has disappeared");
    assert_eq!(scored as u64 + overload, cut);
    assert!(overload > cut / 5, "{overload} of {cut}: no overload was made");
    for windows in &windows {
        // What is left is complete and in order: each window begins a tenth of a second after the one before.
        let starts = windows.iter().enumerate().filter(|(_, (window, _))| window.fault.is_none());
        for (number, (window, age)) in starts {
            assert_eq!(window.samples[0] as usize / 10, number * 800);
            // 4 machines with 4 windows each wait at most: 16 times 50 ms, with time to spare on a busy machine.
            assert!(*age < Duration::from_secs(4), "{age:?} old");
        }
        assert!(windows.iter().all(|(window, _)| matches!(window.fault, None | Some(Reason::Overload))));
    }
}

#[test]
fn what_is_not_live_waits_and_loses_nothing() {
    let script = (0..200).map(|_| Step::Frames(800)).chain([Step::End]).collect::<Vec<_>>();
    let capture =
        start(vec![(input(0, 0.1, 800), Channel::One(0))], false, move || Ok(Counter::boxed(1, script.clone())));
    wait_until("the queue is full", || capture.stats()[0].windows >= 4);
    let (windows, events, ended) = take_all(&capture, Duration::from_secs(20));
    assert!(ended && events.is_empty());
    assert_eq!(windows.len(), 200);
    assert!(
        windows.iter().enumerate().all(|(n, window)| window.fault.is_none() && window.samples[0] as usize == n * 8000)
    );
}

#[test]
fn a_storm_of_errors_is_reported_once_and_costs_little() {
    let opened = Arc::new(AtomicUsize::new(0));
    let capture = start(vec![(input(0, 0.5, 4000), Channel::Mix)], true, {
        let opened = opened.clone();
        move || {
            opened.fetch_add(1, Ordering::Relaxed);
            Ok(Counter::boxed(1, vec![Step::Fail; 1000]))
        }
    });
    let (windows, events, _) = take_all(&capture, Duration::from_secs(5));
    assert_eq!(events, [CaptureEvent::MicLost { why: "the cable is loose".into() }]);
    assert!((7..=10).contains(&windows.len()), "{} windows without sound", windows.len());
    assert!(windows.iter().all(|window| window.fault == Some(Reason::NoSignal)));
    assert!((3..=6).contains(&opened.load(Ordering::Relaxed)), "opened {opened:?} times");
    assert_eq!((capture.stats()[0].losses, capture.stats()[0].state), (1, CaptureState::Lost));
}

#[test]
fn a_channel_that_is_not_there_is_an_error() {
    let capture = start(vec![(input(0, 0.5, 4000), Channel::One(5))], true, || {
        Ok(Box::new(Paced::new(Counter::boxed(2, Vec::new()))))
    });
    let (_, events, _) = take_all(&capture, Duration::from_secs(2));
    let [CaptureEvent::MicLost { why }] = events.as_slice() else { panic!("{events:?}") };
    assert!(why.contains("wants channel 5, but counter has 2"), "{why}");
}

#[test]
fn an_opener_that_hangs_or_panics_harms_nobody_else() {
    let spec = |machine, open: audio::Opener| StreamSpec {
        name: format!("source {machine}"),
        open,
        opened: None,
        realtime: true,
        machines: vec![(input(machine, 0.5, 4000), Channel::Mix)],
    };
    let capture = audio::start_streams(vec![
        spec(
            0,
            Arc::new(|| {
                loop {
                    std::thread::park();
                }
            }),
        ),
        spec(1, Arc::new(|| panic!("on purpose"))),
        spec(2, Arc::new(|| Ok(Box::new(Paced::new(Counter::boxed(1, Vec::new())))))),
    ])
    .expect("capture starts");
    let begun = Instant::now();
    let (mut whole, mut lost) = (0, [false; 3]);
    while begun.elapsed() < Duration::from_secs(20) && (whole < 8 || lost != [true, true, false]) {
        match capture.next(Duration::from_millis(100)) {
            Some(Captured::Window(window)) => match window.machine {
                2 => whole += usize::from(window.fault.is_none()),
                _ => assert_eq!(window.fault, Some(Reason::NoSignal)),
            },
            Some(Captured::Event { machine, event: CaptureEvent::MicLost { .. } }) => lost[machine] = true,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    assert_eq!((whole >= 8, lost), (true, [true, true, false]));
    let begun = Instant::now();
    capture.stop();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
