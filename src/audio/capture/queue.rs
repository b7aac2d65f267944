//! Between capture and scoring: live sound never waits here. Where scoring is too slow, the newest windows keep their
//! samples and the older ones lose theirs and become `overload`; none disappears, so that each machine's sequence has no
//! hole. Sources that are not real time wait instead.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::event::Captured;
use crate::window::Reason;

/// So many windows of one machine keep their samples while they wait (320 kB each at 5 s and 16 kHz).
pub const WINDOWS_KEPT: usize = 4;
/// So many windows of one machine wait at most, with samples or without; reached only where nothing takes them for
/// hours. The oldest are then forgotten, and counted.
const MOST_WAITING: usize = 20_000;

/// What of one machine is waiting, and what it has lost.
#[derive(Default)]
struct MachineQueue {
    waiting: usize,
    with_samples: usize,
    overload: u64,
    forgotten: u64,
    /// Nothing of it is taken any more.
    shut_out: bool,
}

#[derive(Default)]
struct QueueState {
    items: VecDeque<Captured>,
    machines: HashMap<usize, MachineQueue>,
    closed: bool,
}

/// A queue of what was captured, in the order of its coming.
#[derive(Default)]
pub struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
    taken: Condvar,
}

impl Queue {
    /// Puts `item` in. With `wait` it waits for room (until the queue is closed), without it makes room.
    pub fn push(&self, item: Captured, wait: bool) {
        let mut state = self.state.lock();
        let is_full = |of: &MachineQueue| of.waiting >= WINDOWS_KEPT && !of.shut_out;
        if let Captured::Window(window) = &item {
            while wait && !state.closed && state.machines.get(&window.machine).is_some_and(is_full) {
                self.taken.wait(&mut state);
            }
        }
        if state.machines.get(&machine_of(&item)).is_some_and(|of| of.shut_out) {
            return;
        }
        if let Captured::Window(window) = &item {
            let (machine, has_samples) = (window.machine, window.fault.is_none());
            let QueueState { items, machines, .. } = &mut *state;
            let counts = machines.entry(machine).or_default();
            // Who waited for room and is let in because the queue was closed comes on top: nothing is overloaded.
            if has_samples && !wait && counts.with_samples == WINDOWS_KEPT {
                take_samples_of_oldest(items, machine, counts);
            }
            if counts.waiting == MOST_WAITING {
                forget_oldest(items, machine, counts);
            }
            counts.waiting += 1;
            counts.with_samples += usize::from(has_samples);
        }
        state.items.push_back(item);
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the oldest; waits for it for `timeout` at most, and not at all once the queue is closed.
    pub fn next(&self, timeout: Duration) -> Option<Captured> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.items.is_empty() && !state.closed {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.filled.wait_for(&mut state, left);
        }
        let item = state.items.pop_front()?;
        if let Captured::Window(window) = &item
            && let Some(counts) = state.machines.get_mut(&window.machine)
        {
            counts.waiting -= 1;
            counts.with_samples -= usize::from(window.fault.is_none());
        }
        drop(state);
        self.taken.notify_all();
        Some(item)
    }

    /// Nobody waits any longer: what is in can still be taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
        self.taken.notify_all();
    }

    /// Drops what waits of a machine, and whatever comes of it from now on.
    pub fn shut_out(&self, machine: usize) {
        let mut state = self.state.lock();
        state.items.retain(|item| machine_of(item) != machine);
        state.machines.insert(machine, MachineQueue { shut_out: true, ..MachineQueue::default() });
        drop(state);
        self.taken.notify_all();
    }

    /// Of one machine: windows that lost their samples here, windows that were forgotten.
    pub fn losses(&self, machine: usize) -> (u64, u64) {
        self.state.lock().machines.get(&machine).map_or((0, 0), |counts| (counts.overload, counts.forgotten))
    }
}

fn machine_of(item: &Captured) -> usize {
    match item {
        Captured::Window(window) => window.machine,
        Captured::Event { machine, .. } | Captured::End { machine } => *machine,
    }
}

/// The machine's oldest window with samples loses them and becomes `overload`.
fn take_samples_of_oldest(items: &mut VecDeque<Captured>, machine: usize, counts: &mut MachineQueue) {
    let oldest = items.iter_mut().find_map(|item| match item {
        Captured::Window(window) if window.machine == machine && window.fault.is_none() => Some(window),
        _ => None,
    });
    if let Some(window) = oldest {
        window.fault = Some(Reason::Overload);
        window.samples = Vec::new();
        counts.with_samples -= 1;
        counts.overload += 1;
    }
}

/// The machine's oldest window disappears.
fn forget_oldest(items: &mut VecDeque<Captured>, machine: usize, counts: &mut MachineQueue) {
    let of_machine = |item: &Captured| matches!(item, Captured::Window(window) if window.machine == machine);
    if let Some(oldest) = items.iter().position(of_machine) {
        items.remove(oldest);
        counts.waiting -= 1;
        counts.forgotten += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Window;
    use std::time::SystemTime;

    fn window(machine: usize, number: usize) -> Captured {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64);
        Captured::Window(Window { machine, end, samples: vec![number as f32; 10], fault: None, follows: false })
    }

    fn drain(queue: &Queue) -> Vec<Window> {
        let windows = std::iter::from_fn(|| queue.next(Duration::ZERO));
        windows.map(|item| if let Captured::Window(window) = item { window } else { unreachable!() }).collect()
    }

    #[test]
    fn the_newest_keep_their_samples_and_none_disappears() {
        let queue = Queue::default();
        for number in 0..100 {
            queue.push(window(0, number), false);
            if number % 10 == 0 {
                queue.push(window(1, number), false);
            }
        }
        let (first, second): (Vec<_>, Vec<_>) = drain(&queue).into_iter().partition(|window| window.machine == 0);
        assert_eq!((first.len(), second.len()), (100, 10));
        for (windows, step) in [(&first, 1), (&second, 10)] {
            let newest = windows.len() - WINDOWS_KEPT;
            for (number, window) in windows.iter().enumerate() {
                assert_eq!(window.end, SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64 * step));
                let fault = (number < newest).then_some(Reason::Overload);
                assert_eq!((window.fault, window.samples.len()), (fault, if fault.is_some() { 0 } else { 10 }));
            }
        }
        assert_eq!((queue.losses(0), queue.losses(1)), ((96, 0), (6, 0)));
    }

    #[test]
    fn entries_without_end_are_bounded_and_counted() {
        let queue = Queue::default();
        for number in 0..MOST_WAITING + 50 {
            queue.push(window(0, number), false);
        }
        assert_eq!(drain(&queue).len(), MOST_WAITING);
        assert_eq!(queue.losses(0).1, 50);
    }

    #[test]
    fn a_source_that_is_not_live_waits_for_scoring() {
        let queue = std::sync::Arc::new(Queue::default());
        let feeding = std::thread::spawn({
            let queue = queue.clone();
            move || (0..50).for_each(|number| queue.push(window(0, number), true))
        });
        for number in 0..50 {
            let Some(Captured::Window(window)) = queue.next(Duration::from_secs(10)) else { panic!("a window") };
            assert_eq!((window.samples[0] as usize, window.fault), (number, None));
            assert!(queue.state.lock().items.len() <= WINDOWS_KEPT);
        }
        feeding.join().expect("a feeder that ends");
    }

    #[test]
    fn a_machine_that_is_shut_out_takes_nothing_from_the_others_and_holds_nobody_up() {
        let queue = std::sync::Arc::new(Queue::default());
        (0..WINDOWS_KEPT).for_each(|number| queue.push(window(0, number), true));
        queue.push(window(1, 0), false);
        let feeding = std::thread::spawn({
            let queue = queue.clone();
            move || queue.push(window(0, 99), true)
        });
        queue.shut_out(0);
        feeding.join().expect("a feeder that ends");
        queue.push(window(0, 100), false);
        queue.push(Captured::End { machine: 0 }, false);
        queue.push(window(1, 1), false);
        let left: Vec<_> = drain(&queue).into_iter().map(|window| (window.machine, window.samples[0])).collect();
        assert_eq!(left, [(1, 0.0), (1, 1.0)]);
    }

    #[test]
    fn closing_ends_every_wait_and_keeps_what_is_there() {
        let queue = std::sync::Arc::new(Queue::default());
        (0..WINDOWS_KEPT).for_each(|number| queue.push(window(0, number), true));
        let feeding = std::thread::spawn({
            let queue = queue.clone();
            move || queue.push(window(0, 99), true)
        });
        queue.close();
        feeding.join().expect("a feeder that ends");
        assert_eq!(drain(&queue).len(), WINDOWS_KEPT + 1);
        assert!(queue.next(Duration::from_secs(60)).is_none());
    }
}
