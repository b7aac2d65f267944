//! Whether an alarm sounds like a fault that somebody has named before. Silent when unsure: a wrong name sends people to
//! the wrong part.

use super::baseline::Sample;

/// The windows of an alarm must lie so much nearer to the example than to anything normal ...
const NEARER: f64 = 0.6;
/// ... no farther from it than its own windows lie apart, times this ...
const WITHIN: f64 = 1.5;
/// ... and so much nearer than to an example of another name.
const AHEAD: f64 = 0.8;
/// Fewest windows on either side.
const LEAST: usize = 3;

/// A fault that somebody has named, by the anomalous windows of its clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Example<'a, T> {
    pub name: &'a str,
    /// Which one it is.
    pub of: T,
    pub windows: Vec<&'a Sample>,
}

/// The example that these windows sound like; each with its distance to the nearest normal window.
pub fn likeness<T: Clone>(windows: &[(&Sample, f64)], examples: &[Example<'_, T>]) -> Option<T> {
    if windows.len() < LEAST {
        return None;
    }
    let mut ranked: Vec<(f64, &Example<'_, T>)> = Vec::new();
    for example in examples.iter().filter(|example| example.windows.len() >= LEAST) {
        let to = |sample: &Sample, but: Option<usize>| {
            let others = example.windows.iter().enumerate().filter(|(number, _)| Some(*number) != but);
            others.map(|(_, other)| distance(&sample.embedding, &other.embedding)).fold(f64::INFINITY, f64::min)
        };
        let own: Vec<f64> = example.windows.iter().enumerate().map(|(number, one)| to(one, Some(number))).collect();
        let found: Vec<f64> = windows.iter().map(|(one, _)| to(one, None)).collect();
        let shares: Vec<f64> = found.iter().zip(windows).map(|(near, (_, normal))| near / normal).collect();
        let (near, share) = (median(found), median(shares));
        if share <= NEARER && near <= WITHIN * median(own) {
            ranked.push((near, example));
        }
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (near, best) = ranked.first()?;
    let rival = ranked.iter().find(|(_, example)| example.name != best.name);
    rival.is_none_or(|(other, _)| *near <= AHEAD * other).then(|| best.of.clone())
}

/// Between two embeddings; infinite where they are not of one encoder.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoring::lanes::Features;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// Windows around a place, which is so far from normal.
    fn around(seed: u64, place: f32, count: usize) -> Vec<Sample> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut embedding = || (0..16).map(|n| place * (n % 2) as f32 + rng.random_range(-1.0..1.0)).collect();
        (0..count).map(|n| Sample::new(0, n as f64, -30.0, embedding(), Features::default())).collect()
    }

    fn example<'a>(name: &'a str, windows: &'a [Sample]) -> Example<'a, String> {
        Example { name, of: name.to_owned(), windows: windows.iter().collect() }
    }

    #[test]
    fn the_same_sound_is_recognised_and_everything_else_is_not() {
        let (bearing, belt) = (around(1, 8.0, 8), around(2, -8.0, 8));
        let examples = [example("bearing", &bearing), example("belt", &belt)];
        let like = |place: f32, count: usize| {
            let windows = around(3, place, count);
            let windows: Vec<_> = windows.iter().map(|one| (one, f64::from(place.abs()) * 2.8 + 1.0)).collect();
            likeness(&windows, &examples)
        };
        assert_eq!(like(8.0, 6).as_deref(), Some("bearing"));
        assert_eq!(like(-8.0, 6).as_deref(), Some("belt"));
        for (place, count, why) in
            [(12.0, 6, "farther out"), (0.5, 6, "near normal"), (4.0, 6, "between"), (8.0, 2, "few")]
        {
            assert_eq!(like(place, count), None, "{why}");
        }
        let twin = around(4, 8.0, 8);
        let rivals = [example("bearing", &bearing), example("rub", &twin)];
        let windows = around(3, 8.0, 6);
        let windows: Vec<_> = windows.iter().map(|one| (one, 23.0)).collect();
        assert_eq!(likeness(&windows, &rivals), None, "two names for one sound");
        assert_eq!(likeness(&windows, &[example("bearing", &bearing[..2])]), None);
    }
}
