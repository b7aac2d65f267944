//! Ways of running that a machine has: speeds, loads, stages. They are found in what was learned, as groups of windows
//! whose mean spectra are alike, whatever their level.
//!
//! Two windows are of one group where they, or others that lie between them, differ by little more than windows do that
//! follow each other. A speed that wanders makes one group of all; one that is switched makes one of each. How loud each
//! is, and how often it was heard, is found afterwards ([`mode_level`](super::mode_level)).

use serde::{Deserialize, Serialize};

use super::mode_level::ModeLevel;
use crate::scoring::lanes::Rows;
use crate::scoring::why::LevelInMode;

/// Windows that are compared with each other, at most; of those that somebody has confirmed, as many again.
const COMPARED_LIMIT: usize = 512;
/// Fewer windows than this show no groups.
const COMPARED_LEAST: usize = 12;
/// Windows are linked that differ by up to so many times what windows differ that follow each other.
const LINK: f32 = 2.0;
/// Least difference that counts, root mean square over the bands, dB.
const LEAST_DB: f32 = 0.5;
/// Fewest windows of a group, and their least share of all where nobody has confirmed them.
const GROUP_LEAST: usize = 4;
const GROUP_SHARE: f64 = 0.02;
/// More groups than this are no ways of running, but windows that are all different.
const GROUPS_LIMIT: usize = 12;
/// A window is unlike a group beyond so many times the farthest of the group's own windows. Another speed lies hardly farther
/// away than twice that: a fan at 1.2 times its speed 1.4 times as far, at 0.85 times its speed 2 times (simulated).
const BEYOND: f32 = 1.5;

/// What is to be known of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModeWindow<'a> {
    pub recording: u32,
    /// Its mean spectrum, dB, `[n_mels]`.
    pub spectrum: &'a [f32],
    pub level_dbfs: f64,
    /// Somebody has said that it is normal.
    pub confirmed: bool,
}

/// The ways of running that were found, the quietest first; two at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Modes {
    /// The middle of each, dB, less the mean over all bands.
    middles: Rows,
    /// How far from each a window may lie, root mean square over the bands, dB.
    reach_db: Vec<f32>,
    /// How loud each is; what an earlier version learned has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    levels: Vec<ModeLevel>,
}

impl Modes {
    /// From windows of which none shares sound with another, in the order of time. `None` where there is only one way of
    /// running, or too little was heard to tell.
    pub fn find(windows: &[ModeWindow]) -> Option<Modes> {
        let step = windows.len().div_ceil(COMPARED_LIMIT).max(1);
        let of_time = windows.windows(2).step_by(step).filter(|pair| pair[0].recording == pair[1].recording);
        let mut steps: Vec<f32> = of_time
            .map(|pair| difference_db(&without_level(pair[0].spectrum), &without_level(pair[1].spectrum)))
            .collect();
        let (confirmed, others): (Vec<ModeWindow>, Vec<ModeWindow>) =
            windows.iter().partition(|window| window.confirmed);
        let (heard, confirmed) = (thinned(&others), thinned(&confirmed));
        if heard.len() < COMPARED_LEAST || steps.is_empty() {
            return None;
        }
        let middle = steps.len() / 2;
        let link = LINK * steps.select_nth_unstable_by(middle, f32::total_cmp).1.max(LEAST_DB / LINK);
        let least = ((GROUP_SHARE * heard.len() as f64).ceil() as usize).max(GROUP_LEAST);
        let mut found: Vec<(Vec<f32>, f32)> = groups(&heard, link, least);
        if found.is_empty() {
            return None;
        }
        // What was added is little beside what was learned, and may lie between two of its groups: it is grouped by itself.
        let is_new = |window: &Vec<f32>| found.iter().all(|(middle, reach)| difference_db(window, middle) > *reach);
        let added: Vec<Vec<f32>> = confirmed.into_iter().filter(is_new).collect();
        found.extend(groups(&added, link, GROUP_LEAST));
        if !(2..=GROUPS_LIMIT).contains(&found.len()) {
            return None;
        }
        let (middles, reach_db): (Vec<Vec<f32>>, Vec<f32>) = found.into_iter().unzip();
        let middles = Rows::new(middles.iter().map(Vec::as_slice))?;
        let modes = Modes { middles, reach_db, levels: Vec::new() };
        Some(modes.with_levels(windows))
    }

    /// The same, in the order of their levels in these windows.
    fn with_levels(self, windows: &[ModeWindow]) -> Modes {
        let mut heard: Vec<Vec<f64>> = vec![Vec::new(); self.count()];
        for window in windows {
            if let Some(number) = self.of(window.spectrum) {
                heard[number].push(window.level_dbfs);
            }
        }
        let found: Option<Vec<ModeLevel>> =
            heard.into_iter().map(|levels| ModeLevel::of(levels, windows.len())).collect();
        // Each has its own windows within its reach, but another may lie nearer to all of them.
        let Some(found) = found else { return self };
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by(|a, b| found[*a].level_dbfs.total_cmp(&found[*b].level_dbfs));
        let middles: Vec<&[f32]> = self.middles.iter().collect();
        let sorted = Rows::new(order.iter().map(|&number| middles[number]));
        Modes {
            middles: sorted.unwrap_or(self.middles),
            reach_db: order.iter().map(|&number| self.reach_db[number]).collect(),
            levels: order.iter().map(|&number| found[number]).collect(),
        }
    }

    pub fn count(&self) -> usize {
        self.reach_db.len()
    }

    /// How loud each is; empty where that is not known.
    pub fn levels(&self) -> &[ModeLevel] {
        &self.levels
    }

    /// Whether a window's mean spectrum is of none of them.
    pub fn are_all_unlike(&self, spectrum: &[f32]) -> bool {
        spectrum.len() == self.middles.width() && self.of(spectrum).is_none()
    }

    /// How loud a window is beside the way of running that it is of, where that is unusual.
    pub fn unusual_level(&self, spectrum: &[f32], level_dbfs: f64) -> Option<LevelInMode> {
        let number = self.of(spectrum)?;
        let difference_db = self.levels.get(number)?.unusual_db(level_dbfs)?;
        Some(LevelInMode { mode: number + 1, known: self.count(), difference_db })
    }

    /// The nearest of those that a window's mean spectrum is of.
    pub fn of(&self, spectrum: &[f32]) -> Option<usize> {
        let own = without_level(spectrum);
        if own.len() != self.middles.width() {
            return None;
        }
        let away = self.middles.iter().map(|middle| difference_db(&own, middle)).zip(&self.reach_db);
        let within = away.enumerate().filter(|(_, (away_db, reach_db))| away_db <= reach_db);
        within.min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(number, _)| number)
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        let levels = self.levels.is_empty() || self.levels.len() == self.count();
        self.middles.is_valid()
            && self.middles.len() == self.reach_db.len()
            && levels
            && self.levels.iter().all(ModeLevel::is_valid)
    }
}

/// Spectra without their levels, few enough to be compared with each other.
fn thinned(windows: &[ModeWindow]) -> Vec<Vec<f32>> {
    let step = windows.len().div_ceil(COMPARED_LIMIT).max(1);
    windows.iter().step_by(step).map(|window| without_level(window.spectrum)).collect()
}

/// The middle and the reach of each group of so many windows at least.
fn groups(windows: &[Vec<f32>], link_db: f32, least: usize) -> Vec<(Vec<f32>, f32)> {
    let mut groups = linked(windows, link_db);
    groups.retain(|group| group.len() >= least);
    let group = |group: Vec<usize>| {
        let middle = mean(&group, windows);
        let own = group.iter().map(|&window| difference_db(&windows[window], &middle));
        let reach_db = BEYOND * own.fold(LEAST_DB / LINK, f32::max);
        (middle, reach_db)
    };
    groups.into_iter().map(group).collect()
}

fn without_level(spectrum: &[f32]) -> Vec<f32> {
    let level = spectrum.iter().sum::<f32>() / spectrum.len().max(1) as f32;
    spectrum.iter().map(|value| value - level).collect()
}

fn difference_db(a: &[f32], b: &[f32]) -> f32 {
    let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (squares / a.len().max(1) as f32).sqrt()
}

fn mean(group: &[usize], rows: &[Vec<f32>]) -> Vec<f32> {
    let width = group.first().map_or(0, |first| rows[*first].len());
    let count = group.len() as f32;
    (0..width).map(|band| group.iter().map(|&number| rows[number][band]).sum::<f32>() / count).collect()
}

/// Groups of rows that hang together by differences of at most `limit_db`.
fn linked(rows: &[Vec<f32>], limit_db: f32) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let (mut group, mut looked_at) = (vec![first], 0);
        while let Some(&from) = group.get(looked_at) {
            let is_near = |other: &mut usize| difference_db(&rows[from], &rows[*other]) <= limit_db;
            group.extend(left.extract_if(.., is_near));
            looked_at += 1;
        }
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::baseline::Sample;
    use crate::scoring::lanes::Features;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Windows; `tilt` says how the spectrum leans in each.
    fn windows(tilts: impl IntoIterator<Item = f32>) -> Vec<Sample> {
        let mut rng = StdRng::seed_from_u64(3);
        let window = |(number, tilt): (usize, f32)| {
            let spectrum = (0..64).map(|band| tilt * band as f32 / 8.0 + rng.random_range(-1.0..1.0f32)).collect();
            let features = Features { spectrum, ..Features::default() };
            // What leans more is louder.
            let level_dbfs = -30.0 + 5.0 * f64::from(tilt) + rng.random_range(-0.5..0.5);
            Sample::new(0, 5.0 * number as f64, level_dbfs, vec![0.0], features)
        };
        tilts.into_iter().enumerate().map(window).collect()
    }

    fn find(windows: &[Sample]) -> Option<Modes> {
        Modes::find(&windows.iter().map(Sample::as_mode_window).collect::<Vec<_>>())
    }

    fn unlike(modes: &Modes, tilt: f32) -> usize {
        windows([tilt; 20]).iter().filter(|one| modes.are_all_unlike(&one.features.spectrum)).count()
    }

    #[test]
    fn speeds_that_are_switched_are_found_and_one_that_was_never_heard_is_told() {
        let learned = windows((0..120).map(|number| [0.0, 2.0, -2.0][number / 10 % 3]));
        let modes = find(&learned).expect("three ways of running");
        assert!(modes.count() == 3 && modes.is_valid());
        assert_eq!([0.0, 2.0, -2.0, 0.2].map(|tilt| unlike(&modes, tilt)), [0; 4]);
        assert_eq!([4.0, -4.0, 8.0].map(|tilt| unlike(&modes, tilt)), [20; 3]);
        // The level tells nothing, and another width nothing either.
        let louder: Vec<f32> = learned[0].features.spectrum.iter().map(|value| value + 9.0).collect();
        assert!(!modes.are_all_unlike(&louder) && !modes.are_all_unlike(&[1.0]));
    }

    #[test]
    fn each_has_a_level_of_its_own_and_a_window_far_from_it_says_so() {
        let learned = windows((0..200).map(|number| if number / 10 % 5 == 0 { 2.0 } else { -2.0 }));
        let modes = find(&learned).expect("two ways of running");
        let [quiet, loud] = modes.levels() else { panic!("{:?}", modes.levels()) };
        assert_eq!((quiet.share, loud.share), (0.8, 0.2));
        assert!((quiet.level_dbfs + 40.0).abs() < 0.2 && (loud.level_dbfs + 20.0).abs() < 0.2, "{quiet:?} {loud:?}");
        let spectrum = &learned[0].features.spectrum;
        let unusual = |level_dbfs: f64| modes.unusual_level(spectrum, level_dbfs).map(|found| found.to_string());
        assert_eq!(unusual(-20.0), None);
        assert_eq!(unusual(-12.0).as_deref(), Some("8 dB louder than in mode 2 of 2"));
        assert_eq!(unusual(-40.0).as_deref(), Some("20 dB quieter than in mode 2 of 2"));
        assert_eq!(modes.unusual_level(&windows([9.0])[0].features.spectrum, -12.0), None, "of none of them");
    }

    #[test]
    fn what_was_added_is_a_way_of_running_however_little_it_is_of_all() {
        let mut heard = windows((0..1500).map(|number| [0.0, 2.0][number / 10 % 2]));
        let added = windows([-2.0; 8]);
        let count = |heard: &[Sample]| find(heard).map(|modes| modes.count());
        heard.extend(added.iter().cloned());
        assert_eq!(count(&heard), Some(2), "a rare sound is no way of running by itself");
        heard.truncate(1500);
        heard.extend(added.into_iter().map(|sample| Sample { confirmed: true, ..sample }));
        assert_eq!(count(&heard), Some(3));
        assert_eq!(find(&heard).map(|modes| unlike(&modes, -2.0)), Some(0));
    }

    #[test]
    fn one_way_of_running_and_a_speed_that_wanders_have_no_modes() {
        assert_eq!(find(&windows([1.0; 100])), None);
        assert_eq!(find(&windows((0..400).map(|number| (number as f32 / 60.0).sin() * 2.0))), None);
        assert_eq!(find(&windows((0..8).map(|number| (number / 4) as f32))), None, "too little was heard");
        // Single windows that stand out are no way of running.
        let bangs = (0..100).map(|number| if number % 40 == 20 { 5.0 } else { 0.0 });
        assert_eq!(find(&windows(bangs)), None);
    }
}
