//! From drafts to steps: where images get their borders, and buffers their place in memory.

use super::super::depthwise::Depthwise;
use super::super::direct::{self, Direct};
use super::super::finish::{Activation, Finish, Fold};
use super::super::layout::{Border, Layout};
use super::super::plan::{Place, Plan, Planned, Step};
use super::super::pool::Pool;
use super::super::small::{Part, Small};
use super::super::strided::View;
use super::super::vector::MAX_LANES;
use super::super::winograd::{self, Winograd};
use super::{Convolution, Draft, Planner};
use crate::engine::{ModelError, ModelResult};

/// Values of all weights, and of all memory of one thread, that a plan may take: 64 MB each.
const MAX_VALUES: usize = 12 << 20;
/// From as many channels on Winograd's transforms are worth it.
const MIN_CHANNELS: usize = 8;

impl Convolution {
    /// Whether Winograd's way is open, exact enough, and less work: not where most of a tile lies beyond the image.
    fn winograd(&self) -> bool {
        let [rows, columns, outputs] = self.outputs;
        let taps = &self.taps;
        let tiles = rows.div_ceil(4) * columns.div_ceil(4);
        (taps.kernel, taps.stride, taps.dilation) == ([3, 3], [1, 1], [1, 1])
            && taps.before[0] == taps.before[1]
            && !self.depthwise
            && self.image[2] >= MIN_CHANNELS
            && outputs >= MIN_CHANNELS
            && 16 * tiles <= 2 * rows * columns
            && self.even
    }

    fn border(&self) -> Border {
        let ([rows, columns, _], [image_rows, image_columns, _]) = (self.outputs, self.image);
        if self.winograd() {
            winograd::border(rows, columns, (image_rows, image_columns), self.taps.before[0])
        } else {
            self.taps.border([rows, columns], [image_rows, image_columns])
        }
    }

    /// Values of weights, and to work in; `None` where no memory could hold them.
    fn lengths(&self, lanes: usize) -> Option<(usize, usize)> {
        let ([rows, columns, outputs], inputs) = (self.outputs, self.image[2]);
        if self.winograd() {
            let tiles = rows.div_ceil(4) * columns.div_ceil(4);
            let weights = winograd::weights_length(inputs, outputs, lanes)?;
            return Some((weights, winograd::scratch_length(inputs, tiles, lanes)?));
        }
        let points = self.taps.kernel[0] * self.taps.kernel[1];
        let depth = if self.depthwise { points } else { points.checked_mul(inputs)? };
        Some((direct::weights_length(depth, outputs, lanes)?, 0))
    }
}

impl Planner<'_> {
    /// The plan; `ends` are the tensors of the image, the machine's index and the embedding.
    pub(super) fn build(mut self, ends: [usize; 3]) -> ModelResult<Plan> {
        let missing = || ModelError::Unsupported("an input or output that is nowhere".into());
        let ends = ends.map(|tensor| self.values[tensor].as_ref().map(|value| value.buffer));
        let [Some(image), Some(machine), Some(output)] = ends else { return Err(missing()) };
        if self.buffers[output].constant.is_some() {
            return Err(ModelError::Unsupported("an embedding that is constant".into()));
        }
        self.buffers[output].flat = true;
        self.give_borders();
        let scratch = self.check_memory()?;
        let isa = self.isa;
        let drafts = std::mem::take(&mut self.drafts);
        let steps: Vec<Planned> = drafts.into_iter().map(|draft| self.step(draft)).collect();
        let (buffers, slots) = self.places(&steps, [image, machine, output]);
        Ok(Plan { isa, steps, buffers, slots, scratch, image, machine, output })
    }

    /// Gives each image that is convolved the border that this reads, or copies it to where it has one.
    fn give_borders(&mut self) {
        let drafts = std::mem::take(&mut self.drafts);
        // By buffer: its copy with a border.
        let mut copies: Vec<Option<usize>> = vec![None; self.buffers.len()];
        for mut draft in drafts {
            if let Draft::Convolution(conv) = &mut draft {
                let (border, [rows, columns, channels]) = (conv.border(), conv.image);
                let own =
                    Layout { border: self.buffers[conv.input].layout.border, ..Layout::new(rows, columns, channels) };
                if border != Border::default()
                    && (self.buffers[conv.input].flat || own != self.buffers[conv.input].layout)
                {
                    let copy = copies[conv.input].filter(|&copy| {
                        let layout = self.buffers[copy].layout;
                        [layout.rows, layout.columns, layout.channels] == conv.image
                    });
                    let copy = copy.unwrap_or_else(|| {
                        let copy = self.buffer(&[1, rows, columns, channels], None);
                        self.drafts.push(Draft::Small {
                            small: unbordered_copy(),
                            inputs: vec![conv.input],
                            output: copy,
                        });
                        copies[conv.input] = Some(copy);
                        copy
                    });
                    conv.input = copy;
                }
                let layout = &mut self.buffers[conv.input].layout;
                layout.border = layout.border.union(border);
            }
            self.drafts.push(draft);
        }
        for draft in &mut self.drafts {
            if let Draft::Small { small, output, .. } = draft
                && *small == unbordered_copy()
            {
                *small = bordered_copy(&self.buffers[*output].layout);
            }
        }
    }

    /// What the steps need to work in. Nothing of that size is allocated before.
    fn check_memory(&self) -> ModelResult<usize> {
        let too_large = || ModelError::Unsupported("a model that takes more memory than this engine gives it".into());
        let (mut weights, mut scratch) = (0_usize, 0);
        for draft in &self.drafts {
            if let Draft::Convolution(conv) = draft {
                let (own, working) = conv.lengths(self.isa.lanes()).ok_or_else(too_large)?;
                weights = weights.checked_add(own).ok_or_else(too_large)?;
                scratch = scratch.max(working);
            }
        }
        let lengths = self.buffers.iter().filter(|buffer| buffer.constant.is_none());
        let mut buffers = lengths.map(|buffer| buffer.layout.checked_length());
        let values = buffers.try_fold(scratch, |sum, length| sum.checked_add(length?)).ok_or_else(too_large)?;
        if weights > MAX_VALUES || values > MAX_VALUES {
            return Err(too_large());
        }
        Ok(scratch)
    }

    fn step(&self, draft: Draft) -> Planned {
        match draft {
            Draft::Small { small, inputs, output } => Planned { step: Step::Small(small), inputs, output },
            Draft::Pool { input, image, taps, outputs, max, activation, output } => {
                let finish = self.finish(outputs, output, vec![0.0; outputs[2]], activation, Fold::None);
                let pool = Pool { input: self.layout(input, image), taps, max, finish };
                Planned { step: Step::Pool(Box::new(pool)), inputs: vec![input], output }
            }
            Draft::Convolution(conv) => {
                let winograd = conv.winograd();
                let Convolution {
                    input, image, taps, outputs, depthwise, filter, bias, activation, fold, output, ..
                } = *conv;
                let finish = self.finish(outputs, output, bias, activation, fold);
                let layout = self.layout(input, image);
                let step = if depthwise {
                    Step::Depthwise(Box::new(Depthwise::new(layout, taps, filter, finish)))
                } else if winograd {
                    Step::Winograd(Box::new(Winograd::new(self.isa, layout, taps.before[0], &filter, finish)))
                } else {
                    Step::Direct(Box::new(Direct::new(self.isa, layout, taps, &filter, finish)))
                };
                Planned { step, inputs: vec![input], output }
            }
        }
    }

    /// How the image lies in `buffer`, which may know it in another shape.
    fn layout(&self, buffer: usize, [rows, columns, channels]: [usize; 3]) -> Layout {
        Layout { border: self.buffers[buffer].layout.border, ..Layout::new(rows, columns, channels) }
    }

    fn finish(
        &self,
        [rows, columns, channels]: [usize; 3],
        output: usize,
        mut bias: Vec<f32>,
        activation: Activation,
        fold: Fold,
    ) -> Finish {
        bias.resize(channels.next_multiple_of(2 * MAX_LANES), 0.0);
        let shape = match fold {
            Fold::None => [rows, columns, channels],
            Fold::MaxPool => [rows / 2, columns / 2, channels],
            Fold::Mean => [1, 1, channels],
        };
        Finish { output: self.layout(output, shape), rows, columns, activation, fold, bias }
    }

    /// Gives each buffer a slot that is free from where it is written to where it is last read.
    fn places(&mut self, steps: &[Planned], ends: [usize; 3]) -> (Vec<Place>, Vec<usize>) {
        let [image, machine, output] = ends;
        let mut last_read = vec![None; self.buffers.len()];
        for (number, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&input| last_read[input] = Some(number));
        }
        last_read[output] = Some(steps.len());
        let mut places: Vec<Place> = self.buffers.iter().map(|_| Place::Unused).collect();
        let mut slots: Vec<usize> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        let mut assign = |buffer: usize, free: &mut Vec<usize>, slots: &mut Vec<usize>| {
            let length = self.buffers[buffer].layout.length();
            // The free slot that fits best, else the largest, which grows.
            let best = (0..free.len()).min_by_key(|&n| (slots[free[n]] < length, slots[free[n]].abs_diff(length)));
            let slot = best.map(|n| free.swap_remove(n)).unwrap_or_else(|| {
                slots.push(0);
                slots.len() - 1
            });
            slots[slot] = slots[slot].max(length);
            places[buffer] = Place::Slot { slot, length };
            slot
        };
        let mut living: Vec<(usize, usize)> = Vec::new();
        for input in [image, machine] {
            living.push((input, assign(input, &mut free, &mut slots)));
        }
        for (number, step) in steps.iter().enumerate() {
            let slot = assign(step.output, &mut free, &mut slots);
            living.push((step.output, slot));
            living.retain(|&(buffer, slot)| {
                let needed = last_read[buffer].is_some_and(|last| last > number);
                if !needed {
                    free.push(slot);
                }
                needed
            });
        }
        for (place, buffer) in places.iter_mut().zip(&mut self.buffers) {
            if let Some(constant) = buffer.constant.take() {
                *place = Place::Constant(constant);
            }
        }
        // Weights that were packed are not kept twice.
        let read = steps.iter().flat_map(|step| &step.inputs).copied().collect::<std::collections::HashSet<_>>();
        for (buffer, place) in places.iter_mut().enumerate() {
            if matches!(place, Place::Constant(_)) && !read.contains(&buffer) {
                *place = Place::Unused;
            }
        }
        (places, slots)
    }
}

/// Stands for a copy whose border is not known yet.
fn unbordered_copy() -> Small {
    Small::Move { parts: Vec::new(), activation: Activation::NONE }
}

fn bordered_copy(layout: &Layout) -> Small {
    let dims = vec![layout.rows, layout.columns * layout.channels];
    let to = View { first: layout.pixel(0, 0), strides: vec![layout.row_stride() as isize, 1] };
    Small::Move { parts: vec![Part { from: View::of(&dims), to, dims }], activation: Activation::NONE }
}
