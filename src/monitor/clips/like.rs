//! Whether an alarm sounds like a fault of the same machine that somebody has named.

use super::clip::Like;
use super::{ClipKey, Clips, readable};
use crate::monitor::heard::HeardWindow;
use crate::scoring::Verdict;
use crate::scoring::alarm::Kind;
use crate::scoring::baseline::{Origin, Sample};
use crate::scoring::likeness::{Example, likeness};

/// The newest examples that an alarm is compared with.
const EXAMPLES: usize = 24;

impl Clips {
    /// The known fault of the machine that its windows sound like; `None` also when unsure. Reads files.
    pub fn like(&self, machine: &str, origin: &Origin, windows: &[HeardWindow]) -> Option<Like> {
        let own = |key: &ClipKey| key.machine == machine && key.kind != Kind::Deaf;
        let known = self.all().into_iter().rev().filter(|(key, clip)| own(key) && clip.fault.is_some()).take(EXAMPLES);
        let read = known.filter_map(|(key, clip)| {
            let about = readable(self.clip(&key))?;
            about.origin.filter(|made| made.check(origin).is_ok())?;
            let like = Like { name: clip.fault?.name, since: about.since };
            Some((like, readable(self.windows(&key))?))
        });
        let read: Vec<(Like, Vec<HeardWindow>)> = read.collect();
        let examples: Vec<Example<'_, Like>> = read
            .iter()
            .map(|(like, windows)| {
                let windows = anomalous(windows).map(|(sample, _)| sample).collect();
                Example { name: &like.name, of: like.clone(), windows }
            })
            .collect();
        likeness(&anomalous(windows).collect::<Vec<_>>(), &examples)
    }
}

/// The anomalous windows, each with its distance to the nearest normal one.
fn anomalous(windows: &[HeardWindow]) -> impl Iterator<Item = (&Sample, f64)> {
    let windows = windows.iter().filter(|window| window.verdict == Verdict::Anomalous);
    windows.filter_map(|window| Some((window.sample.as_ref()?, window.distance?)))
}
