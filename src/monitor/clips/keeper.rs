//! Makes the clips on a thread of its own, which may be late: scoring and capture never wait for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::normal::NormalWindows;
use super::{ClipKey, Clips, FaultExample, Material, PICTURE, make, readable};
use crate::audio::capture::RecentSound;
use crate::monitor::Monitor;
use crate::monitor::heard::HeardWindow;
use crate::monitor::journal::{Journal, JournalEntry};
use crate::monitor::machine::Machine;
use crate::scoring::alarm::Kind;
use crate::threads::join_until;

/// The sound of a clip, before and after the alarm was raised.
const BEFORE: TimeDelta = TimeDelta::seconds(40);
const AFTER: TimeDelta = TimeDelta::seconds(20);
/// A block of sound comes this late at most.
const GRACE: Duration = Duration::from_millis(500);
/// How often it is looked for normal windows to keep.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The last minute of a machine's sound, by its number.
type Sound = Arc<dyn Fn(usize) -> Option<RecentSound> + Send + Sync>;

/// Who is shown the picture, a PNG, of a machine's newest alarm.
pub type Pictured = Box<dyn Fn(&str, Vec<u8>) + Send>;

enum Job {
    Begin(Box<Pending>),
    Stop,
}

/// An alarm whose clip is made once its sound is there.
struct Pending {
    entry: JournalEntry,
    /// What was kept when it was raised: nothing of it is lost where the clip comes late.
    sound: RecentSound,
    /// The windows until then.
    windows: Vec<HeardWindow>,
    /// All of them whose sound may be there, for those that were normal.
    recent: Vec<HeardWindow>,
    due: Instant,
}

/// Tells the keeper of alarms; never waits. Cheap to clone.
#[derive(Clone)]
pub struct KeeperHandle {
    jobs: Sender<Job>,
    monitor: Arc<Monitor>,
    clips: Arc<Clips>,
    journal: Arc<Journal>,
    sound: Sound,
}

/// What the handles ask for, until [`ClipKeeper::start`] takes it.
pub struct Jobs(Receiver<Job>);

/// A handle, and what it leads to.
pub fn channel(monitor: Arc<Monitor>, clips: Arc<Clips>, journal: Arc<Journal>, sound: Sound) -> (KeeperHandle, Jobs) {
    let (jobs, receiver) = mpsc::channel();
    (KeeperHandle { jobs, monitor, clips, journal, sound }, Jobs(receiver))
}

impl KeeperHandle {
    /// An alarm was raised: its clip is made once the sound after it is there.
    pub fn begin(&self, entry: JournalEntry) {
        let record = &entry.record;
        if !self.clips.are_kept() || record.kind == Kind::Deaf || record.ended.is_some() {
            return;
        }
        let Some(number) = self.monitor.number(&entry.machine) else { return };
        let (windows, recent) = self.look(number, &entry);
        let Some(sound) = (self.sound)(number) else { return };
        let left = (record.since + AFTER - Utc::now()).to_std().unwrap_or_default();
        // A clock that was set does not hold the clip up.
        let due = Instant::now() + left.min(AFTER.to_std().unwrap_or_default()) + GRACE;
        let pending = Pending { entry, sound, windows, recent, due };
        // Only a keeper that has been stopped is gone.
        let _ = self.jobs.send(Job::Begin(Box::new(pending)));
    }
}

impl KeeperHandle {
    /// The windows that led to an alarm, and all that are remembered; what the former sound like is noted.
    fn look(&self, number: usize, entry: &JournalEntry) -> (Vec<HeardWindow>, Vec<HeardWindow>) {
        let (windows, recent, origin) = {
            let state = self.monitor.lock();
            let Some(machine) = state.machines.get(number) else { return Default::default() };
            let recent = machine.heard.last_until(entry.record.since, usize::MAX);
            let before = windows_in(BEFORE, machine.config.hop_s).min(recent.len());
            let windows = recent[recent.len() - before..].to_vec();
            (windows, recent, state.loaded.as_ref().and_then(|loaded| loaded.origin_of(number)).cloned())
        };
        let like = origin.and_then(|origin| self.clips.like(&entry.machine, &origin, &windows));
        if let Some(like) = like {
            tracing::info!("{}: the alarm sounds {like}", entry.machine);
            self.clips.note_like(ClipKey::new(&entry.machine, entry.record.kind, entry.record.since), like);
        }
        (windows, recent)
    }
}

/// Windows that end within a time.
fn windows_in(span: TimeDelta, hop_s: f64) -> usize {
    (span.as_seconds_f64() / hop_s).ceil().max(1.0) as usize
}

/// The running thread.
pub struct ClipKeeper {
    handle: KeeperHandle,
    thread: JoinHandle<()>,
}

impl ClipKeeper {
    /// # Errors
    /// The thread cannot be started.
    pub fn start((handle, jobs): (KeeperHandle, Jobs), pictured: Option<Pictured>) -> io::Result<ClipKeeper> {
        handle.settle_answers();
        let work = handle.clone();
        let thread =
            std::thread::Builder::new().name("clips".into()).spawn(move || work.run(&jobs.0, pictured.as_ref()))?;
        Ok(ClipKeeper { handle, thread })
    }

    /// Makes the clips that wait of the sound that is there, and ends.
    pub fn stop(&self) {
        let _ = self.handle.jobs.send(Job::Stop);
    }

    /// Waits for the end after [`ClipKeeper::stop`], up to `until`.
    pub fn finish(self, until: Instant) {
        join_until(self.thread, until, "the keeper of clips", "the last alarms' clips could not be kept in time");
    }
}

impl KeeperHandle {
    /// An answer that was interrupted between the clip and the journal counts as the journal says. Of alarms that the journal
    /// does not know only the clips speak.
    fn settle_answers(&self) {
        for (key, clip) in self.clips.all() {
            let Some(entry) = self.journal.of_clip(&key) else { continue };
            let fault = entry.answer.as_ref().and_then(FaultExample::of);
            if clip.fault == fault {
                continue;
            }
            tracing::info!("{}: the answer to alarm {} was interrupted", key.machine, entry.id);
            if let Err(error) = self.clips.set_fault(&key, fault) {
                tracing::error!(
                    "{}: the clip does not have the answer to its alarm {}: {error}",
                    key.machine,
                    entry.id
                );
            }
        }
    }

    /// Shows the pictures of each machine's newest alarm: what showed them may have started anew.
    fn show_newest(&self, pictured: &Pictured) {
        let newest: BTreeMap<String, ClipKey> =
            self.clips.all().into_iter().map(|(key, _)| (key.machine.clone(), key)).collect();
        for (machine, key) in newest {
            if self.monitor.number(&machine).is_some()
                && let Some(picture) = readable(self.clips.read(&key, PICTURE))
            {
                pictured(&machine, picture);
            }
        }
    }

    fn run(&self, jobs: &Receiver<Job>, pictured: Option<&Pictured>) {
        if let Some(pictured) = pictured {
            self.show_newest(pictured);
        }
        let mut pending: Vec<Pending> = Vec::new();
        let (mut normal, mut look_at) = (NormalWindows::default(), Instant::now() + LOOK_EVERY);
        loop {
            let next = pending.iter().map(|one| one.due).chain([look_at]).min();
            let wait = next.map_or(LOOK_EVERY, |due| due.saturating_duration_since(Instant::now()));
            let stop = match jobs.recv_timeout(wait) {
                Ok(Job::Begin(one)) => {
                    pending.push(*one);
                    false
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            let now = Instant::now();
            let (due, waiting) = pending.into_iter().partition(|one| stop || one.due <= now);
            pending = waiting;
            let due: Vec<Pending> = due;
            due.into_iter().for_each(|one| self.keep(one, &normal, pictured));
            if stop {
                return;
            }
            if look_at <= now {
                self.look_for_normal(&mut normal);
                look_at = Instant::now() + LOOK_EVERY;
            }
        }
    }

    /// Keeps a normal window of each machine, now and then.
    fn look_for_normal(&self, normal: &mut NormalWindows) {
        if !self.clips.are_kept() {
            return;
        }
        let found: Vec<_> = {
            let state = self.monitor.lock();
            normal.retain(|machine| state.find(machine).is_some());
            let newest = |(number, machine): (usize, &Machine)| {
                let origin = state.loaded.as_ref()?.origin_of(number)?;
                let window = machine.heard.last_normal()?;
                let is_due = normal.is_due(&machine.config.id, origin, window.at);
                is_due.then(|| (number, machine.config.id.clone(), origin.clone(), window.clone()))
            };
            state.machines.iter().filter_map(newest).collect()
        };
        for (number, machine, origin, window) in found {
            if let Some(sound) = (self.sound)(number) {
                normal.keep(&machine, &origin, &sound, &window);
            }
        }
    }

    fn keep(&self, pending: Pending, normal: &NormalWindows, pictured: Option<&Pictured>) {
        let (machine, since, alarm) = (pending.entry.machine.clone(), pending.entry.record.since, pending.entry.id);
        let key = ClipKey::new(&machine, pending.entry.record.kind, since);
        // One that was removed since may have another in its place.
        let Some(material) = self.monitor.number(&machine).and_then(|number| self.material(number, pending, normal))
        else {
            tracing::info!("{machine}: the sound of the alarm was gone before a clip could be made of it");
            return;
        };
        let was_failing = self.clips.problem().is_some();
        let kept = match make(material) {
            Ok(made) => {
                let kept = self.clips.keep(&made).map_err(|error| error.to_string());
                if let Some((pictured, picture)) = pictured.zip(made.into_file(PICTURE)) {
                    pictured(&machine, picture);
                }
                kept
            }
            Err(error) => Err(error.to_string()),
        };
        match kept {
            Ok(()) => tracing::info!("{machine}: the sound of the alarm is kept in {}", key.dir().display()),
            Err(error) if !was_failing => tracing::error!(machine, error, "the sound of an alarm is not kept"),
            Err(error) => tracing::debug!(machine, error, "the sound of an alarm is not kept"),
        }
        self.catch_up(&key, alarm);
    }

    /// What was said of the alarm, and done with its machine, before there was a clip.
    fn catch_up(&self, key: &ClipKey, alarm: i64) {
        if self.monitor.number(&key.machine).is_none() {
            return self.clips.remove_machine(&key.machine);
        }
        let answer = self.journal.get(alarm).map(|entry| entry.and_then(|entry| entry.answer));
        let kept = match answer.map(|answer| answer.as_ref().and_then(FaultExample::of)) {
            Ok(None) => return,
            Ok(fault) => self.clips.set_fault(key, fault).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = kept {
            tracing::error!("{}: the clip does not have the answer to its alarm {alarm}: {error}", key.machine);
        }
    }

    /// `None` where nothing of the sound is there.
    fn material(&self, number: usize, pending: Pending, normal: &NormalWindows) -> Option<Material> {
        let Pending { entry, sound, mut windows, recent, .. } = pending;
        let JournalEntry { machine, record, .. } = entry;
        let (from, to): (DateTime<Utc>, DateTime<Utc>) = (record.since - BEFORE, record.since + AFTER);
        let origin = self.monitor.lock().loaded.as_ref().and_then(|loaded| loaded.origin_of(number)).cloned();
        let normal =
            origin.as_ref().map(|origin| normal.nearest(&machine, origin, (record.since, &windows), &sound, &recent));
        let normal = normal.unwrap_or_default();
        drop(recent);
        let sound = match (self.sound)(number) {
            Some(later) => sound.joined(later),
            None => sound,
        };
        let sound = sound.into_part(from.into(), to.into())?;
        let state = self.monitor.lock();
        if let Some(machine) = state.machines.get(number) {
            let after = windows_in(AFTER, machine.config.hop_s);
            windows.extend(machine.heard.first_after(record.since, after));
        }
        drop(state);
        let text = record.sentence();
        let like = self.clips.liked(&ClipKey::new(&machine, record.kind, record.since));
        Some(Material { machine, kind: record.kind, since: record.since, text, sound, windows, origin, like, normal })
    }
}
