//! How well scores tell faults from normal running, and how sure that is.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// False alarm rate up to which the partial area counts.
const PARTIAL: f64 = 0.1;
/// Times that the recordings are drawn anew for an interval.
const DRAWS: usize = 400;
/// Share of the draws that an interval leaves out at either end.
const OUTSIDE: f64 = 0.05;

/// Scores of the windows of each block; a block without windows does not exist.
pub type Blocks = Vec<Vec<f64>>;

/// A share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub value: f64,
    /// The interval in which it lies nine times in ten; `None` where one block says nothing of others.
    pub interval: Option<(f64, f64)>,
}

/// Areas under the curve of found faults over false alarms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Areas {
    pub auc: f64,
    /// The interval in which it lies nine times in ten; `None` where one block of a kind says nothing of others.
    pub interval: Option<(f64, f64)>,
    /// Up to a false alarm rate of 0.1, scaled so that guessing has 0.5 (McClish 1989).
    pub partial: f64,
}

/// `None` where one of the two is missing. The interval comes from drawing whole blocks anew.
pub fn areas(normal: &Blocks, faulty: &Blocks) -> Option<Areas> {
    let curve = curve(&flat(normal), &flat(faulty))?;
    let mut rng = StdRng::seed_from_u64(1);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .filter_map(|_| Some(area(&self::curve(&draw(normal, &mut rng), &draw(faulty, &mut rng))?, 1.0)))
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn[((drawn.len() - 1) as f64 * share).round() as usize];
    let auc = area(&curve, 1.0);
    let can_differ = normal.len() > 1 && faulty.len() > 1;
    let interval = can_differ.then(|| (at(OUTSIDE).min(auc), at(1.0 - OUTSIDE).max(auc)));
    let (least, most) = (0.5 * PARTIAL * PARTIAL, PARTIAL);
    let partial = 0.5 * (1.0 + (area(&curve, PARTIAL) - least) / (most - least));
    Some(Areas { auc, interval, partial })
}

/// Share of windows for which `counts` holds: Wilson's interval, with as many windows as the spread between the blocks
/// says that there are independent ones.
pub fn share(blocks: &Blocks, counts: impl Fn(f64) -> bool) -> Option<Measured> {
    let tally: Vec<(f64, f64)> = blocks
        .iter()
        .map(|block| (block.iter().filter(|score| counts(**score)).count() as f64, block.len() as f64))
        .collect();
    let total: f64 = tally.iter().map(|(_, windows)| windows).sum();
    if total == 0.0 {
        return None;
    }
    let value = tally.iter().map(|(found, _)| found).sum::<f64>() / total;
    // Where all or none are counted, nothing is known of the spread: each block is one witness.
    let blocks = tally.len() as f64;
    let independent = design_effect(&tally).map_or(blocks, |effect| (total / effect).max(1.0));
    let interval = (tally.len() > 1).then(|| wilson(value, independent));
    Some(Measured { value, interval })
}

/// By how much windows of one block are more alike than windows of different ones (Kish's design effect), at least 1; of each
/// block those that are counted, and all. `None` where nothing can be known of it: of one block, or where all or none are
/// counted.
fn design_effect(blocks: &[(f64, f64)]) -> Option<f64> {
    let (counted, all) = blocks.iter().fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
    let share = counted / all;
    let (expected, count) = (share * (1.0 - share) * all, blocks.len() as f64);
    if count < 2.0 || expected.is_nan() || expected <= 0.0 {
        return None;
    }
    let spread: f64 = blocks.iter().map(|(counted, all)| (counted - share * all).powi(2)).sum();
    Some((spread / expected * count / (count - 1.0)).max(1.0))
}

fn wilson(share: f64, count: f64) -> (f64, f64) {
    const Z: f64 = 1.645;
    let scale = 1.0 + Z * Z / count;
    let middle = (share + Z * Z / (2.0 * count)) / scale;
    let half = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    // Rounding must not put the share itself outside.
    ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0))
}

fn flat(blocks: &Blocks) -> Vec<f64> {
    blocks.iter().flatten().copied().collect()
}

fn draw(blocks: &Blocks, rng: &mut StdRng) -> Vec<f64> {
    (0..blocks.len()).flat_map(|_| &blocks[rng.random_range(0..blocks.len())]).copied().collect()
}

/// Rising points (share of false alarms, share of faults found), one for each limit; equal scores are one step.
fn curve(normal: &[f64], faulty: &[f64]) -> Option<Vec<(f64, f64)>> {
    if normal.is_empty() || faulty.is_empty() {
        return None;
    }
    let mut all: Vec<(f64, bool)> = normal.iter().map(|score| (*score, false)).collect();
    all.extend(faulty.iter().map(|score| (*score, true)));
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut wrong, mut found) = (0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let faults = equal.iter().filter(|(_, is_fault)| *is_fault).count() as f64;
        found += faults / faulty.len() as f64;
        wrong += (equal.len() as f64 - faults) / normal.len() as f64;
        points.push((wrong, found));
    }
    Some(points)
}

/// Area below the curve up to a share of false alarms.
fn area(curve: &[(f64, f64)], up_to: f64) -> f64 {
    let piece = |pair: &[(f64, f64)]| {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        let end = to.min(up_to);
        if end <= from {
            return 0.0;
        }
        let at_end = low + (high - low) * (end - from) / (to - from);
        0.5 * (low + at_end) * (end - from)
    };
    curve.windows(2).map(piece).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_known_scores() {
        let blocks = |scores: &[f64]| scores.iter().map(|score| vec![*score]).collect::<Blocks>();
        let apart = areas(&blocks(&[1.0, 2.0, 3.0]), &blocks(&[4.0, 5.0])).expect("both");
        assert_eq!((apart.auc, apart.interval, apart.partial), (1.0, Some((1.0, 1.0)), 1.0));
        let equal = areas(&blocks(&[1.0, 1.0]), &blocks(&[1.0])).expect("both");
        assert!(
            (equal.auc - 0.5).abs() < 1e-12 && equal.interval.is_none() && (equal.partial - 0.5).abs() < 1e-9,
            "{equal:?}"
        );
        // One of four pairs is the wrong way round, and it is the loudest normal window.
        let mixed = areas(&blocks(&[1.0, 3.0]), &blocks(&[2.0, 4.0])).expect("both");
        assert!((mixed.auc - 0.75).abs() < 1e-12);
        assert!(mixed.interval.is_some_and(|(from, to)| from < 0.75 && to > 0.75), "{mixed:?}");
        assert_eq!(areas(&Vec::new(), &blocks(&[1.0])), None);
    }

    #[test]
    fn a_share_is_less_sure_where_blocks_differ() {
        let alike: Blocks = (0..10).map(|_| vec![1.0, 0.0, 0.0, 0.0, 0.0]).collect();
        let apart: Blocks = (0..10).map(|number| vec![f64::from(u8::from(number < 2)); 5]).collect();
        let of = |blocks: &Blocks| share(blocks, |score| score > 0.5).expect("windows");
        assert!((of(&alike).value - 0.2).abs() < 1e-12 && (of(&apart).value - 0.2).abs() < 1e-12);
        let interval = |measured: Measured| measured.interval.expect("several blocks");
        let width = |measured: Measured| interval(measured).1 - interval(measured).0;
        assert!(width(of(&apart)) > 1.5 * width(of(&alike)));
        let none = share(&alike, |_| false).expect("windows");
        let blocks = alike.len() as f64;
        assert!(none.value == 0.0 && interval(none) == wilson(0.0, blocks), "each block is one witness: {none:?}");
        assert_eq!(share(&vec![vec![1.0; 30]], |score| score > 0.0).expect("windows").interval, None);
    }
}
