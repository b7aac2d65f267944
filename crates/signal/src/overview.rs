//! A window at a glance: its sums and, block by block, its extremes. What lies at an extreme is found by them without a look
//! at the rest.
#![allow(clippy::needless_range_loop, reason = "the lanes are counted; what iterators are given may be compiled apart")]

use crate::sums::{greater, lesser, of_lanes, range};

/// Samples in a block. Their sums are exact in `f32` for sound of 16 bits.
pub const BLOCK: usize = 64;
const LANES: usize = 8;

/// What one pass over a window tells.
pub struct Overview {
    /// Mean of the samples, of their absolute values, of their squares.
    pub mean: f64,
    pub mean_abs: f64,
    pub power: f64,
    /// The least and the greatest sample; no samples: infinity and minus infinity.
    pub least: f32,
    pub most: f32,
    /// The same of each block; the last one may be shorter.
    pub lows: Vec<f32>,
    pub highs: Vec<f32>,
}

impl Overview {
    pub fn of(window: &[f32]) -> Overview {
        let blocks = window.len().div_ceil(BLOCK);
        let (mut lows, mut highs) = (Vec::with_capacity(blocks), Vec::with_capacity(blocks));
        let (mut sum, mut sum_abs, mut squares) = (0.0, 0.0, 0.0);
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for block in window.chunks(BLOCK) {
            let block = Block::of(block);
            (sum, sum_abs, squares) = (sum + block.sum, sum_abs + block.sum_abs, squares + block.squares);
            (least, most) = (lesser(least, block.least), greater(most, block.most));
            lows.push(block.least);
            highs.push(block.most);
        }
        let count = window.len() as f64;
        let (mean, mean_abs, power) = (sum / count, sum_abs / count, squares / count);
        Overview { mean, mean_abs, power, least, most, lows, highs }
    }

    /// From the least sample to the greatest.
    pub fn span(&self) -> f32 {
        self.most - self.least
    }

    /// The greatest absolute value.
    pub fn peak(&self) -> f32 {
        self.most.max(-self.least)
    }
}

struct Block {
    sum: f64,
    sum_abs: f64,
    squares: f64,
    least: f32,
    most: f32,
}

impl Block {
    /// In two loops: the lanes of one are too many for the processor's registers.
    fn of(samples: &[f32]) -> Block {
        let (eights, rest) = samples.as_chunks::<LANES>();
        let [mut sums, mut abs, mut squares] = [[0.0f32; LANES]; 3];
        for eight in eights {
            for lane in 0..LANES {
                sums[lane] += eight[lane];
                abs[lane] += eight[lane].abs();
                squares[lane] += eight[lane] * eight[lane];
            }
        }
        let [mut sum, mut sum_abs, mut sum_of_squares] = [of_lanes(sums), of_lanes(abs), of_lanes(squares)];
        for sample in rest {
            sum += sample;
            sum_abs += sample.abs();
            sum_of_squares += sample * sample;
        }
        let (least, most) = range(samples);
        Block { sum: sum.into(), sum_abs: sum_abs.into(), squares: sum_of_squares.into(), least, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_all_samples() {
        for count in [1usize, 7, 8, 9, 63, 64, 65, 1000] {
            let samples: Vec<f32> = (0..count).map(|n| ((n * 37) % 101) as f32 / 64.0 - 0.5).collect();
            let overview = Overview::of(&samples);
            let mean = |of: fn(f64) -> f64| samples.iter().map(|&s| of(f64::from(s))).sum::<f64>() / count as f64;
            assert_eq!((overview.mean, overview.mean_abs), (mean(|s| s), mean(f64::abs)));
            assert!((overview.power / mean(|s| s * s) - 1.0).abs() < 1e-6);
            let least = samples.iter().copied().fold(f32::INFINITY, f32::min);
            let most = samples.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!((overview.least, overview.most), (least, most));
            for (number, block) in samples.chunks(BLOCK).enumerate() {
                assert_eq!(overview.lows[number], block.iter().copied().fold(f32::INFINITY, f32::min));
                assert_eq!(overview.highs[number], block.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            }
        }
        let none = Overview::of(&[]);
        assert!(none.mean_abs.is_nan() && none.lows.is_empty());
        assert!(!Overview::of(&[0.0, f32::NAN]).mean_abs.is_finite());
    }
}
