//! Depthwise convolutions: each channel has its own filters. Vectors run over channels.

use std::sync::Arc;

use super::direct::Taps;
use super::finish::Finish;
use super::isa::{Isa, Kernel};
use super::layout::{Border, Layout};
use super::vector::{MAX_LANES, Vector};

/// Pixels whose sums are computed side by side, with the same weights.
const PIXELS: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    input: Layout,
    taps: Taps,
    /// Filters of one channel.
    multiplier: usize,
    finish: Finish,
    /// As the model has them: `[kernel rows][kernel columns][outputs]`.
    weights: Arc<[f32]>,
}

impl Depthwise {
    /// The input's border is at least that of the taps; nothing is folded.
    pub fn new(input: Layout, taps: Taps, filter: Arc<[f32]>, finish: Finish) -> Depthwise {
        let multiplier = finish.output.channels / input.channels;
        Depthwise { input, taps, multiplier, finish, weights: filter }
    }

    pub fn run(&self, isa: Isa, input: &[f32], output: &mut [f32]) {
        self.finish.begin(output);
        isa.run(Run { conv: self, input, output });
    }
}

struct Run<'a> {
    conv: &'a Depthwise,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Run<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Run { conv, input, output } = self;
        let (finish, taps) = (&conv.finish, &conv.taps);
        let [top, left] = taps.before;
        let corner = conv.input.corner(Border { top, left, ..Border::default() });
        let step = taps.stride[1] * conv.input.channels;
        for row in 0..finish.rows {
            let line = corner + row * taps.stride[0] * conv.input.row_stride();
            for first in (0..finish.columns).step_by(PIXELS) {
                let mut windows = [0; PIXELS];
                for (n, window) in windows.iter_mut().enumerate() {
                    *window = line + (first + n).min(finish.columns - 1) * step;
                }
                for channel in (0..finish.output.channels).step_by(V::LANES) {
                    let sums: [V; PIXELS] = sums(conv, input, windows, channel);
                    for (n, sum) in sums.into_iter().enumerate().take(finish.columns - first) {
                        finish.store(output, row, first + n, channel, sum);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn sums<V: Vector>(conv: &Depthwise, input: &[f32], windows: [usize; PIXELS], channel: usize) -> [V; PIXELS] {
    let outputs = conv.finish.output.channels;
    let count = (outputs - channel).min(V::LANES);
    let mut sums = [V::splat(0.0); PIXELS];
    let mut tap = 0;
    for row in 0..conv.taps.kernel[0] {
        for column in 0..conv.taps.kernel[1] {
            let distance = row * conv.taps.dilation[0] * conv.input.row_stride()
                + column * conv.taps.dilation[1] * conv.input.channels;
            let weights = V::load_part(&conv.weights[tap * outputs + channel..][..count]);
            for (sum, window) in sums.iter_mut().zip(windows) {
                let pixel = &input[window + distance..][..conv.input.channels];
                let values = if conv.multiplier == 1 {
                    V::load_part(&pixel[channel..][..count])
                } else {
                    spread(conv, pixel, channel, count)
                };
                *sum = values.mul_add(weights, *sum);
            }
            tap += 1;
        }
    }
    sums
}

/// Each channel as often as it has filters.
#[inline(always)]
fn spread<V: Vector>(conv: &Depthwise, pixel: &[f32], channel: usize, count: usize) -> V {
    let mut values = [0.0; MAX_LANES];
    for (n, value) in values.iter_mut().enumerate().take(count) {
        *value = pixel[(channel + n) / conv.multiplier];
    }
    V::load(&values)
}
