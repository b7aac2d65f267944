//! Convolutions of any kernel, stride and dilation, computed as they are defined; dense layers are those of one pixel.
#![allow(clippy::needless_range_loop, reason = "registers are counted; what iterators are given may be compiled apart")]

use super::finish::{Finish, Fold};
use super::isa::{Isa, Kernel};
use super::layout::{Border, Layout};
use super::vector::Vector;

/// A kernel's way over the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taps {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Zeros that are read before the image's first pixel.
    pub before: [usize; 2],
}

impl Taps {
    /// What is read beyond an image of `image` rows and columns for `outputs`.
    pub fn border(&self, outputs: [usize; 2], image: [usize; 2]) -> Border {
        let after = |n: usize| {
            let reach = (outputs[n] - 1) * self.stride[n] + (self.kernel[n] - 1) * self.dilation[n] + 1;
            reach.saturating_sub(self.before[n] + image[n])
        };
        Border { top: self.before[0], bottom: after(0), left: self.before[1], right: after(1) }
    }
}

/// A convolution, ready to run.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    input: Layout,
    taps: Taps,
    finish: Finish,
    lanes: usize,
    /// Where the values lie that a weight meets, from the window's first one on: (distance, count), in the weights' order.
    runs: Vec<(usize, usize)>,
    /// By block of outputs, kernel row, kernel column, input, output within the block.
    weights: Vec<f32>,
}

/// Values that the weights take, for `depth` of them an output.
pub(super) fn weights_length(depth: usize, outputs: usize, lanes: usize) -> Option<usize> {
    outputs.div_ceil(2 * lanes).checked_mul(2 * lanes)?.checked_mul(depth)
}

impl Direct {
    /// `filter` is `[outputs][kernel rows][kernel columns][inputs]`; the input's border is at least that of the taps.
    pub fn new(isa: Isa, input: Layout, taps: Taps, filter: &[f32], finish: Finish) -> Direct {
        let lanes = isa.lanes();
        let [rows, columns] = taps.kernel;
        let mut runs = Vec::new();
        for row in 0..rows {
            let row = row * taps.dilation[0] * input.row_stride();
            if taps.dilation[1] == 1 {
                runs.push((row, columns * input.channels));
            } else {
                let step = taps.dilation[1] * input.channels;
                runs.extend((0..columns).map(|column| (row + column * step, input.channels)));
            }
        }
        let weights = packed(filter, rows * columns * input.channels, finish.output.channels, 2 * lanes);
        Direct { input, taps, finish, lanes, runs, weights }
    }

    pub fn run(&self, isa: Isa, input: &[f32], output: &mut [f32]) {
        self.finish.begin(output);
        for block in 0..self.finish.output.channels.div_ceil(2 * self.lanes) {
            match self.finish.fold {
                Fold::MaxPool => isa.run(Pooled { conv: self, block, input, output }),
                _ => isa.run(Plain { conv: self, block, input, output }),
            }
        }
        self.finish.end(output);
    }

    /// Where the window of an output begins.
    #[inline(always)]
    fn window(&self, corner: usize, row: usize, column: usize) -> usize {
        let [down, across] = self.taps.stride;
        corner + row * down * self.input.row_stride() + column * across * self.input.channels
    }

    fn corner(&self) -> usize {
        let [top, left] = self.taps.before;
        self.input.corner(Border { top, left, ..Border::default() })
    }

    fn block_weights(&self, block: usize) -> &[f32] {
        let length = self.weights.len() / self.finish.output.channels.div_ceil(2 * self.lanes);
        &self.weights[block * length..][..length]
    }
}

fn packed(filter: &[f32], depth: usize, outputs: usize, block: usize) -> Vec<f32> {
    let mut packed = vec![0.0; outputs.div_ceil(block) * block * depth];
    for (output, filter) in filter.chunks_exact(depth).enumerate() {
        let first = output / block * block * depth + output % block;
        for (place, &value) in packed[first..].iter_mut().step_by(block).zip(filter) {
            *place = value;
        }
    }
    packed
}

/// The sums of `R` windows for one block of outputs, all in registers.
#[inline(always)]
fn sums<V: Vector, const R: usize>(
    input: &[f32],
    windows: [usize; R],
    runs: &[(usize, usize)],
    weights: &[f32],
) -> [[V; 2]; R] {
    let width = 2 * V::LANES;
    let mut all = [[V::splat(0.0); 2]; R];
    let mut rest = weights;
    for &(distance, count) in runs {
        let mut rows: [&[f32]; R] = [&[]; R];
        for (row, window) in rows.iter_mut().zip(windows) {
            *row = &input[window + distance..][..count];
        }
        let (now, later) = rest.split_at(count * width);
        rest = later;
        for (n, weights) in now.chunks_exact(width).enumerate() {
            let (left, right) = (V::load(&weights[..V::LANES]), V::load(&weights[V::LANES..]));
            for row in 0..R {
                let value = V::splat(rows[row][n]);
                all[row] = [value.mul_add(left, all[row][0]), value.mul_add(right, all[row][1])];
            }
        }
    }
    all
}

/// One block of outputs of a convolution that is stored as it is, or whose mean is.
struct Plain<'a> {
    conv: &'a Direct,
    block: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Plain<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        if self.conv.finish.rows * self.conv.finish.columns == 1 {
            self.rows::<V, 1>();
        } else if V::REGISTERS >= 32 {
            self.rows::<V, 8>();
        } else {
            self.rows::<V, 6>();
        }
    }
}

impl Plain<'_> {
    #[inline(always)]
    fn rows<V: Vector, const R: usize>(self) {
        let Plain { conv, block, input, output } = self;
        let (finish, corner, weights) = (&conv.finish, conv.corner(), conv.block_weights(block));
        let channels = [2 * block * V::LANES, (2 * block + 1) * V::LANES];
        let mut totals = [V::splat(0.0); 2];
        for row in 0..finish.rows {
            for first in (0..finish.columns).step_by(R) {
                // Beyond the row's end the last window is computed again, and not stored.
                let mut windows = [0; R];
                for (n, window) in windows.iter_mut().enumerate() {
                    *window = conv.window(corner, row, (first + n).min(finish.columns - 1));
                }
                let all: [[V; 2]; R] = sums(input, windows, &conv.runs, weights);
                for (n, sums) in all.into_iter().enumerate().take(finish.columns - first) {
                    for half in 0..2 {
                        if channels[half] >= finish.output.channels {
                            continue;
                        }
                        if finish.fold == Fold::Mean {
                            let bias = V::load(&finish.bias[channels[half]..]);
                            totals[half] = totals[half].add(finish.activation.apply(sums[half].add(bias)));
                        } else {
                            finish.store(output, row, first + n, channels[half], sums[half]);
                        }
                    }
                }
            }
        }
        if finish.fold == Fold::Mean {
            for half in 0..2 {
                if channels[half] < finish.output.channels {
                    finish.add_up(output, channels[half], totals[half]);
                }
            }
        }
    }
}

/// One block of outputs of a convolution of which the greatest of each 2 x 2 are stored.
struct Pooled<'a> {
    conv: &'a Direct,
    block: usize,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Pooled<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        if V::REGISTERS >= 32 {
            self.rows::<V, 8>();
        } else {
            self.rows::<V, 4>();
        }
    }
}

impl Pooled<'_> {
    /// `R` windows are `R / 4` pixels of the output.
    #[inline(always)]
    fn rows<V: Vector, const R: usize>(self) {
        let Pooled { conv, block, input, output } = self;
        let (finish, corner, weights) = (&conv.finish, conv.corner(), conv.block_weights(block));
        for row in 0..finish.output.rows {
            for first in (0..finish.output.columns).step_by(R / 4) {
                let mut windows = [0; R];
                for (n, window) in windows.iter_mut().enumerate() {
                    let column = (first + n / 4).min(finish.output.columns - 1);
                    *window = conv.window(corner, 2 * row + n % 4 / 2, 2 * column + n % 2);
                }
                let all: [[V; 2]; R] = sums(input, windows, &conv.runs, weights);
                for (n, quad) in all.as_chunks::<4>().0.iter().enumerate().take(finish.output.columns - first) {
                    for half in 0..2 {
                        let channel = (2 * block + half) * V::LANES;
                        if channel < finish.output.channels {
                            let upper = quad[0][half].max(quad[1][half]);
                            let lower = quad[2][half].max(quad[3][half]);
                            finish.store(output, row, first + n, channel, upper.max(lower));
                        }
                    }
                }
            }
        }
    }
}
