//! Ways of running that a machine has: speeds, loads, stages. They are found in what was learned, as groups of windows
//! whose mean spectra are alike, whatever their level.
//!
//! Two windows are of one group where they, or others that lie between them, differ by little more than windows do that
//! follow each other. A speed that wanders makes one group of all; one that is switched makes one of each.

use serde::{Deserialize, Serialize};

use crate::scoring::lanes::Rows;

/// Windows that are compared with each other, at most.
const COMPARED_LIMIT: usize = 512;
/// Fewer windows than this show no groups.
const COMPARED_LEAST: usize = 12;
/// Windows are linked that differ by up to so many times what windows differ that follow each other.
const LINK: f32 = 2.0;
/// Least difference that counts, root mean square over the bands, dB.
const LEAST_DB: f32 = 0.5;
/// Fewest windows of a group, and their least share of all.
const GROUP_LEAST: usize = 4;
const GROUP_SHARE: f64 = 0.02;
/// More groups than this are no ways of running, but windows that are all different.
const GROUPS_LIMIT: usize = 12;
/// A window is unlike a group beyond so many times the farthest of the group's own windows ...
const BEYOND: f32 = 1.5;
/// ... and this part of the way to the nearest other group.
const WAY: f32 = 0.5;

/// The ways of running that were found; two at least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Modes {
    /// The middle of each, dB, less the mean over all bands.
    middles: Rows,
    /// How far from each a window may lie, root mean square over the bands, dB.
    reach_db: Vec<f32>,
}

impl Modes {
    /// From the recording and the mean spectrum of each window, in the order of time; none shares sound with another. `None`
    /// where there is only one way of running, or too little was heard to tell.
    pub fn find(windows: &[(u32, &[f32])]) -> Option<Modes> {
        let step = windows.len().div_ceil(COMPARED_LIMIT).max(1);
        let of_time = windows.windows(2).step_by(step).filter(|pair| pair[0].0 == pair[1].0);
        let mut steps: Vec<f32> =
            of_time.map(|pair| difference_db(&without_level(pair[0].1), &without_level(pair[1].1))).collect();
        let compared: Vec<Vec<f32>> =
            windows.iter().step_by(step).map(|(_, spectrum)| without_level(spectrum)).collect();
        if compared.len() < COMPARED_LEAST || steps.is_empty() {
            return None;
        }
        let middle = steps.len() / 2;
        let usual = steps.select_nth_unstable_by(middle, f32::total_cmp).1.max(LEAST_DB / LINK);
        let least = GROUP_LEAST.max((GROUP_SHARE * compared.len() as f64).ceil() as usize);
        let mut groups = linked(&compared, LINK * usual);
        groups.retain(|group| group.len() >= least);
        if !(2..=GROUPS_LIMIT).contains(&groups.len()) {
            return None;
        }
        let middles: Vec<Vec<f32>> = groups.iter().map(|group| mean(group, &compared)).collect();
        let reach = |(number, group): (usize, &Vec<usize>)| {
            let own = group.iter().map(|&window| difference_db(&compared[window], &middles[number]));
            let others = middles.iter().enumerate().filter(|(other, _)| *other != number);
            let nearest = others.map(|(_, other)| difference_db(other, &middles[number])).fold(f32::INFINITY, f32::min);
            (BEYOND * own.fold(0.0, f32::max)).max(WAY * nearest)
        };
        let reach_db = groups.iter().enumerate().map(reach).collect();
        Some(Modes { middles: Rows::new(middles.iter().map(Vec::as_slice))?, reach_db })
    }

    pub fn count(&self) -> usize {
        self.reach_db.len()
    }

    /// Whether a window's mean spectrum is of none of them.
    pub fn are_all_unlike(&self, spectrum: &[f32]) -> bool {
        let own = without_level(spectrum);
        own.len() == self.middles.width()
            && self.middles.iter().zip(&self.reach_db).all(|(middle, reach)| difference_db(&own, middle) > *reach)
    }

    /// Whether what was read makes sense.
    pub fn is_valid(&self) -> bool {
        self.middles.is_valid() && self.middles.len() == self.reach_db.len()
    }
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
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Mean spectra; `tilt` says how the spectrum leans in each.
    fn windows(tilts: impl IntoIterator<Item = f32>) -> Vec<Vec<f32>> {
        let mut rng = StdRng::seed_from_u64(3);
        let window =
            |tilt: f32| (0..64).map(|band| tilt * band as f32 / 8.0 + rng.random_range(-1.0..1.0f32)).collect();
        tilts.into_iter().map(window).collect()
    }

    fn find(windows: &[Vec<f32>]) -> Option<Modes> {
        Modes::find(&windows.iter().map(|spectrum| (0, spectrum.as_slice())).collect::<Vec<_>>())
    }

    #[test]
    fn speeds_that_are_switched_are_found_and_one_that_was_never_heard_is_told() {
        let learned = windows((0..120).map(|number| [0.0, 2.0, -2.0][number / 10 % 3]));
        let modes = find(&learned).expect("three ways of running");
        assert!(modes.count() == 3 && modes.is_valid());
        let unlike = |tilt: f32| windows([tilt; 20]).iter().filter(|one| modes.are_all_unlike(one)).count();
        assert_eq!([0.0, 2.0, -2.0, 0.2].map(unlike), [0; 4]);
        assert_eq!([4.0, -4.0, 8.0].map(unlike), [20; 3]);
        // The level tells nothing, and another width nothing either.
        let louder: Vec<f32> = learned[0].iter().map(|value| value + 9.0).collect();
        assert!(!modes.are_all_unlike(&louder) && !modes.are_all_unlike(&[1.0]));
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
