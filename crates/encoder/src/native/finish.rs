//! What becomes of a convolution's sums before they reach memory: bias, activation, max-pool or mean.

use super::layout::Layout;
use super::vector::Vector;

/// `min(max(x, 0) + slope * min(x, 0), limit)`: every activation that is fused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activation {
    pub slope: f32,
    pub limit: f32,
}

impl Activation {
    pub const NONE: Activation = Activation { slope: 1.0, limit: f32::INFINITY };
    pub const RELU: Activation = Activation { slope: 0.0, limit: f32::INFINITY };
    pub const RELU6: Activation = Activation { slope: 0.0, limit: 6.0 };

    #[inline(always)]
    pub fn apply<V: Vector>(self, value: V) -> V {
        let zero = V::splat(0.0);
        value.min(zero).mul_add(V::splat(self.slope), value.max(zero)).min(V::splat(self.limit))
    }
}

/// What a convolution's image becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    None,
    /// The greatest of each 2 x 2.
    MaxPool,
    /// The mean over rows and columns.
    Mean,
}

/// The end of a convolution.
#[derive(Debug, Clone)]
pub(super) struct Finish {
    /// Of what is written.
    pub output: Layout,
    /// Rows and columns that the convolution has, before they are folded.
    pub rows: usize,
    pub columns: usize,
    pub activation: Activation,
    pub fold: Fold,
    /// One for each channel, zeros up to a whole block.
    pub bias: Vec<f32>,
}

impl Finish {
    /// Where pixel (`row`, `column`) of the output begins, from `channel` on, and how many channels there are from there.
    #[inline(always)]
    pub fn place<'o, V: Vector>(
        &self,
        output: &'o mut [f32],
        row: usize,
        column: usize,
        channel: usize,
    ) -> &'o mut [f32] {
        let count = (self.output.channels - channel).min(V::LANES);
        let at = self.output.pixel(row, column) + channel;
        &mut output[at..at + count]
    }

    /// Writes a pixel of the output.
    #[inline(always)]
    pub fn store<V: Vector>(&self, output: &mut [f32], row: usize, column: usize, channel: usize, sum: V) {
        let bias = V::load(&self.bias[channel..]);
        let value = self.activation.apply(sum.add(bias));
        value.store_part(self.place::<V>(output, row, column, channel));
    }

    /// Adds to the one pixel of a mean.
    #[inline(always)]
    pub fn add_up<V: Vector>(&self, output: &mut [f32], channel: usize, sum: V) {
        let place = self.place::<V>(output, 0, 0, channel);
        V::load_part(place).add(sum).store_part(place);
    }

    /// To be called before the first sums.
    pub fn begin(&self, output: &mut [f32]) {
        self.output.clear_border(output);
        if self.fold == Fold::Mean {
            output.fill(0.0);
        }
    }

    /// To be called after the last sums.
    pub fn end(&self, output: &mut [f32]) {
        if self.fold == Fold::Mean {
            let share = 1.0 / (self.rows * self.columns) as f32;
            output.iter_mut().for_each(|value| *value *= share);
        }
    }
}
