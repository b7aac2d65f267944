//! Loops over many numbers in eight lanes. The order of a sum is kept by the compiler, and in one lane each addition waits
//! for the one before; in eight they go side by side, in vectors where the processor has them.
#![allow(clippy::needless_range_loop, reason = "the lanes are counted; what iterators are given may be compiled apart")]

const LANES: usize = 8;

/// The sum of the squares of all samples.
pub fn sum_of_squares(samples: &[f32]) -> f64 {
    sum(samples, |sample| sample * sample)
}

/// The sum of how far all samples lie from a number.
pub fn sum_of_distances(samples: &[f32], from: f64) -> f64 {
    sum(samples, |sample| (sample - from).abs())
}

#[inline(always)]
fn sum(samples: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let (eights, rest) = samples.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for eight in eights {
        for lane in 0..LANES {
            lanes[lane] += of(f64::from(eight[lane]));
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&sample| of(f64::from(sample))).sum::<f64>()
}

/// The sum of all products; of the longer one's end nothing counts.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    pairs(left, right, |left, right| left * right)
}

/// The sum of all squared differences; of the longer one's end nothing counts.
pub fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    pairs(left, right, |left, right| (left - right) * (left - right))
}

/// The sum of all differences, and that of their squares; of the longer one's end nothing counts.
pub fn differences(left: &[f32], right: &[f32]) -> (f32, f32) {
    (pairs(left, right, |left, right| left - right), squared_distance(left, right))
}

#[inline(always)]
fn pairs(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let length = left.len().min(right.len());
    let (left, left_rest) = left[..length].as_chunks::<LANES>();
    let (right, right_rest) = right[..length].as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for number in 0..left.len().min(right.len()) {
        for lane in 0..LANES {
            lanes[lane] += of(left[number][lane], right[number][lane]);
        }
    }
    let mut rest = 0.0;
    for number in 0..left_rest.len().min(right_rest.len()) {
        rest += of(left_rest[number], right_rest[number]);
    }
    of_lanes(lanes) + rest
}

/// The sum of all numbers.
pub fn total(numbers: &[f32]) -> f32 {
    let (eights, rest) = numbers.as_chunks::<LANES>();
    let mut sum = 0.0;
    for &number in rest {
        sum += number;
    }
    if eights.is_empty() {
        return sum;
    }
    let mut lanes = [0.0f32; LANES];
    for eight in eights {
        for lane in 0..LANES {
            lanes[lane] += eight[lane];
        }
    }
    sum + of_lanes(lanes)
}

/// Adds each number to its own sum; of the longer one's end nothing counts.
pub fn add_each(sums: &mut [f64], numbers: &[f32]) {
    let length = sums.len().min(numbers.len());
    let (sums, numbers) = (&mut sums[..length], &numbers[..length]);
    for place in 0..length {
        sums[place] += f64::from(numbers[place]);
    }
}

/// The sum of eight lanes, halved again and again.
#[inline(always)]
pub fn of_lanes(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Whether none of them is NaN or infinite.
pub fn are_finite(values: &[f32]) -> bool {
    // Zero times what is not finite is NaN, and stays in the sum.
    let (eights, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for eight in eights {
        for lane in 0..LANES {
            lanes[lane] += eight[lane] * 0.0;
        }
    }
    lanes.iter().all(|&lane| lane == 0.0) && rest.iter().all(|value| value.is_finite())
}

/// The least and the greatest; none: infinity and minus infinity. Those that are no number are passed over.
pub fn range(values: &[f32]) -> (f32, f32) {
    let (eights, rest) = values.as_chunks::<LANES>();
    let (mut lows, mut highs) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for eight in eights {
        for lane in 0..LANES {
            lows[lane] = lesser(lows[lane], eight[lane]);
            highs[lane] = greater(highs[lane], eight[lane]);
        }
    }
    let (lows, highs) = (lows.iter().chain(rest), highs.iter().chain(rest));
    (lows.copied().fold(f32::INFINITY, lesser), highs.copied().fold(f32::NEG_INFINITY, greater))
}

/// One instruction, unlike `f32::min`: the second counts only where it is a number.
#[inline(always)]
pub fn lesser(least: f32, other: f32) -> f32 {
    if other < least { other } else { least }
}

/// As [`lesser`].
#[inline(always)]
pub fn greater(most: f32, other: f32) -> f32 {
    if other > most { other } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_count() {
        for count in [0usize, 1, 7, 8, 9, 100] {
            let numbers: Vec<f32> = (0..count).map(|n| ((n * 37) % 101) as f32 - 50.0).collect();
            let ones = vec![1.0; count];
            let one_by_one: f64 = numbers.iter().map(|&number| f64::from(number).abs()).sum();
            assert_eq!(sum_of_distances(&numbers, 0.0), one_by_one);
            assert_eq!(sum_of_squares(&numbers), numbers.iter().map(|&number| f64::from(number * number)).sum::<f64>());
            assert_eq!(dot(&numbers, &ones), numbers.iter().sum::<f32>());
            assert_eq!(total(&numbers), numbers.iter().sum::<f32>());
            let squares = numbers.iter().map(|number| (number - 1.0) * (number - 1.0)).sum();
            assert_eq!(squared_distance(&numbers, &ones), squares);
            assert_eq!(differences(&numbers, &ones), (numbers.iter().map(|number| number - 1.0).sum(), squares));
            let mut sums = vec![0.5; count];
            add_each(&mut sums, &numbers);
            assert!(sums.iter().zip(&numbers).all(|(sum, number)| *sum == f64::from(*number) + 0.5));
            let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
            let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(range(&numbers), (least, most));
            assert!(are_finite(&numbers));
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for place in 0..count {
                    let mut numbers = numbers.clone();
                    numbers[place] = odd;
                    assert!(!are_finite(&numbers), "{odd} at {place} of {count}");
                }
            }
        }
    }
}
