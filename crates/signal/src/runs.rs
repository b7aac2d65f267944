//! The longest run of one value in a window.

/// Pairs of neighbours that are looked at together.
const PAIRS: usize = 32;

/// How many samples the longest run of equal ones has. Sound has few that are equal to the one before: stretches without
/// any, which are most, are passed over quickly.
pub fn longest_run(window: &[f32]) -> usize {
    let Some(rest) = window.get(1..) else { return 0 };
    let (befores, before_rest) = window[..rest.len()].as_chunks::<PAIRS>();
    let (afters, after_rest) = rest.as_chunks::<PAIRS>();
    // Equal pairs in a row: one less than the samples of their run.
    let (mut run, mut longest) = (0, 0);
    for (before, after) in befores.iter().zip(afters) {
        let mut equal = 0;
        for pair in 0..PAIRS {
            equal += u32::from(before[pair] == after[pair]);
        }
        match equal as usize {
            0 => run = 0,
            // Whatever of these belongs to the run so far, and however they lie, none gets longer than the longest.
            equal if run + equal <= longest && before[PAIRS - 1] != after[PAIRS - 1] => run = 0,
            PAIRS => {
                run += PAIRS;
                longest = longest.max(run);
            }
            _ => walk(before, after, &mut run, &mut longest),
        }
    }
    walk(before_rest, after_rest, &mut run, &mut longest);
    longest + 1
}

/// Pair by pair.
fn walk(before: &[f32], after: &[f32], run: &mut usize, longest: &mut usize) {
    for (before, after) in before.iter().zip(after) {
        *run = if before == after { *run + 1 } else { 0 };
        *longest = (*longest).max(*run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// As it is meant.
    fn one_by_one(window: &[f32]) -> usize {
        window.chunk_by(|a, b| a == b).map(<[f32]>::len).max().unwrap_or(0)
    }

    #[test]
    fn runs_are_found_wherever_they_lie() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for count in [0usize, 1, 2, 32, 33, 34, 64, 65, 300] {
            for values in [1, 2, 3, 10, 1000] {
                for _ in 0..50 {
                    let mut window: Vec<f32> = (0..count).map(|_| random.random_range(0..values) as f32).collect();
                    if count > 2 {
                        let (begin, length) = (random.random_range(0..count), random.random_range(0..count));
                        window[begin..count.min(begin + length)].fill(0.5);
                    }
                    assert_eq!(longest_run(&window), one_by_one(&window), "{window:?}");
                }
            }
        }
    }
}
