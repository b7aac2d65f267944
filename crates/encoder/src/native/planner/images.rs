//! Convolutions, pooling and dense layers, and what is fused with them.

use std::sync::Arc;

use super::super::direct::Taps;
use super::super::finish::{Activation, Fold};
use super::{Convolution, Draft, Number, Planner, Value, activation, is_even};
use crate::engine::{ModelError, ModelResult};
use crate::graph::{MAX_ELEMENTS, Operator};
use crate::operator::{self, Walk, walk_axis};

/// A filter with groups is written out with zeros between them, up to this many values.
const MAX_GROUPED: usize = 1 << 22;

/// Where a kernel walks, and the rows and columns that this gives.
struct Windows {
    taps: Taps,
    outputs: [usize; 2],
}

/// A convolution, depthwise convolution or dense layer as the model has it.
struct Layer {
    /// The buffer of the image, and its rows, columns and channels.
    image: (usize, [usize; 3]),
    windows: Windows,
    /// Channels of the output.
    out: usize,
    depthwise: bool,
    filter: Arc<[f32]>,
    bias: Vec<f32>,
    fused: operator::Activation,
}

impl Planner<'_> {
    pub(super) fn conv2d(&mut self, op: &Operator, walk: &Walk, fused: operator::Activation) -> ModelResult<Value> {
        let (image, [rows, columns, channels]) = self.image(op)?;
        let (filter, dims) = self.filter(op)?;
        let &[out, kernel_rows, kernel_columns, group_channels] = &dims[..] else {
            return Err(op.unsupported("with such a filter"));
        };
        if !channels.is_multiple_of(group_channels) || !out.is_multiple_of(channels / group_channels) {
            return Err(op.unsupported("with such a filter"));
        }
        let kernel = [kernel_rows, kernel_columns];
        let windows = windows(op, [rows, columns], kernel, walk)?;
        let points = kernel_rows * kernel_columns;
        let filter = if group_channels == channels {
            filter
        } else {
            if out.saturating_mul(points).saturating_mul(channels) > MAX_GROUPED {
                return Err(op.unsupported("with groups of this size"));
            }
            written_out(&filter, out, points, channels, group_channels)
        };
        let (image, bias) = ((image.buffer, [rows, columns, channels]), self.bias(op, out)?);
        let layer = Layer { image, windows, out, depthwise: false, filter, bias, fused };
        self.image_layer(op, layer, points * group_channels)
    }

    pub(super) fn depthwise_conv2d(
        &mut self,
        op: &Operator,
        walk: &Walk,
        multiplier: usize,
        fused: operator::Activation,
    ) -> ModelResult<Value> {
        let (image, [rows, columns, channels]) = self.image(op)?;
        let (filter, dims) = self.filter(op)?;
        let &[1, kernel_rows, kernel_columns, out] = &dims[..] else {
            return Err(op.unsupported("with such a filter"));
        };
        if !out.is_multiple_of(channels) || (multiplier != 0 && multiplier != out / channels) {
            return Err(op.unsupported("with such a filter"));
        }
        let windows = windows(op, [rows, columns], [kernel_rows, kernel_columns], walk)?;
        let (image, bias) = ((image.buffer, [rows, columns, channels]), self.bias(op, out)?);
        let layer = Layer { image, windows, out, depthwise: true, filter, bias, fused };
        self.image_layer(op, layer, kernel_rows * kernel_columns * 4)
    }

    /// A dense layer is a convolution of 1 x 1 over a row of pixels.
    pub(super) fn fully_connected(
        &mut self,
        op: &Operator,
        keep_dims: bool,
        fused: operator::Activation,
    ) -> ModelResult<Value> {
        let input = self.optional(op, 0)?.ok_or_else(|| op.unsupported("without an input"))?;
        let (weights, dims) = self.filter(op)?;
        let &[out, length] = &dims[..] else { return Err(op.unsupported("with such weights")) };
        let last = if keep_dims { input.dims.last().copied().unwrap_or(0) } else { length };
        if input.number != Number::Float || !input.elements().is_multiple_of(length) || last != length {
            return Err(op.unsupported("on such an input"));
        }
        let rows = input.elements() / length;
        let bias = self.bias(op, out)?;
        self.book(op, &[rows, out], rows.saturating_mul(out).saturating_mul(length))?;
        let mut dims = vec![rows, out];
        if keep_dims {
            dims = input.dims.clone();
            dims.pop();
            dims.push(out);
        }
        let output = self.buffer(&dims, None);
        self.buffers[input.buffer].flat = true;
        self.buffers[output].flat = true;
        let taps = Taps { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
        let (image, windows) = ((input.buffer, [1, rows, length]), Windows { taps, outputs: [1, rows] });
        let layer = Layer { image, windows, out, depthwise: false, filter: weights, bias, fused };
        let value = self.convolution(op, layer, output)?;
        Ok(Value { dims, ..value })
    }

    /// A layer over an image, of so many multiply-adds for each output.
    fn image_layer(&mut self, op: &Operator, layer: Layer, work: usize) -> ModelResult<Value> {
        let [rows, columns] = layer.windows.outputs;
        let dims = [1, rows, columns, layer.out];
        self.book(op, &dims, (rows * columns).saturating_mul(layer.out).saturating_mul(work))?;
        let output = self.buffer(&dims, None);
        self.convolution(op, layer, output)
    }

    fn convolution(&mut self, op: &Operator, layer: Layer, output: usize) -> ModelResult<Value> {
        let Layer { image: (input, image), windows: Windows { taps, outputs }, out, .. } = layer;
        if self.buffers[input].constant.is_some() {
            return Err(op.unsupported("on a constant"));
        }
        let tensor = op.outputs.first().copied().unwrap_or(usize::MAX);
        let [rows, columns] = outputs;
        self.drafts.push(Draft::Convolution(Box::new(Convolution {
            input,
            image,
            taps,
            outputs: [rows, columns, out],
            depthwise: layer.depthwise,
            even: self.moderate && is_even(&layer.filter),
            filter: layer.filter,
            bias: layer.bias,
            activation: activation(layer.fused),
            fold: Fold::None,
            tensor,
            output,
        })));
        Ok(Value { tensor, dims: vec![1, rows, columns, out], number: Number::Float, bound: None, buffer: output })
    }

    pub(super) fn pool2d(
        &mut self,
        op: &Operator,
        max: bool,
        kernel: [usize; 2],
        walk: &Walk,
        fused: operator::Activation,
    ) -> ModelResult<Value> {
        let (image, [rows, columns, channels]) = self.image(op)?;
        let Windows { taps, outputs } = windows(op, [rows, columns], kernel, walk)?;
        let dims = vec![1, outputs[0], outputs[1], channels];
        let work = dims.iter().product::<usize>().saturating_mul(kernel[0] * kernel[1] * 4);
        self.book(op, &dims, work)?;
        let halves = kernel == [2, 2] && taps.stride == [2, 2] && outputs == [rows / 2, columns / 2];
        if max
            && halves
            && fused == operator::Activation::None
            && let Some(value) = self.fold(op, &image, Fold::MaxPool, &dims)
        {
            return Ok(value);
        }
        if self.buffers[image.buffer].constant.is_some() {
            return Err(op.unsupported("on a constant"));
        }
        let output = self.buffer(&dims, None);
        self.drafts.push(Draft::Pool {
            input: image.buffer,
            image: [rows, columns, channels],
            taps,
            outputs: [outputs[0], outputs[1], channels],
            max,
            activation: activation(fused),
            output,
        });
        Ok(Value { tensor: usize::MAX, dims, number: Number::Float, bound: None, buffer: output })
    }

    /// The convolution that writes `value` for nobody else, and has nothing folded yet.
    fn writer(&mut self, value: &Value) -> Option<&mut Convolution> {
        if self.readers.get(value.tensor) != Some(&1) {
            return None;
        }
        self.drafts.iter_mut().find_map(|draft| match draft {
            Draft::Convolution(conv) if conv.tensor == value.tensor && conv.fold == Fold::None => Some(&mut **conv),
            _ => None,
        })
    }

    /// Max-pool or mean as part of the convolution that is read, where that can be.
    pub(super) fn fold(&mut self, op: &Operator, value: &Value, fold: Fold, dims: &[usize]) -> Option<Value> {
        let conv = self.writer(value)?;
        // The maximum is taken before the activation, which must not turn the order around.
        let apt = !conv.depthwise && value.dims.len() == 4 && conv.activation.slope >= 0.0;
        if !apt || value.dims[1..] != conv.outputs {
            return None;
        }
        conv.fold = fold;
        conv.tensor = *op.outputs.first()?;
        let output = self.buffer(dims, None);
        self.buffers[output].flat = fold == Fold::Mean;
        let tensor = *op.outputs.first()?;
        self.drafts.iter_mut().for_each(|draft| match draft {
            Draft::Convolution(conv) if conv.tensor == tensor => conv.output = output,
            _ => {}
        });
        Some(Value { tensor, dims: dims.to_vec(), number: Number::Float, bound: None, buffer: output })
    }

    /// An activation as part of the convolution that is read, where that can be.
    pub(super) fn activated(&mut self, op: &Operator, value: &Value, activation: Activation) -> Option<Value> {
        let tensor = *op.outputs.first()?;
        let conv = self.writer(value).filter(|conv| conv.activation == Activation::NONE)?;
        conv.activation = activation;
        conv.tensor = tensor;
        Some(Value { tensor, ..value.clone() })
    }

    fn image(&mut self, op: &Operator) -> Result<(Value, [usize; 3]), ModelError> {
        let image = self.optional(op, 0)?.ok_or_else(|| op.unsupported("without an image"))?;
        match image.dims[..] {
            [1, rows, columns, channels] if image.number == Number::Float => Ok((image, [rows, columns, channels])),
            _ => Err(op.unsupported("on such an image")),
        }
    }

    fn filter(&mut self, op: &Operator) -> ModelResult<(Arc<[f32]>, Vec<usize>)> {
        let filter = self.optional(op, 1)?.ok_or_else(|| op.unsupported("without a filter"))?;
        match self.constant_of(&filter) {
            Some(values) if filter.number == Number::Float => Ok((values.clone(), filter.dims)),
            _ => Err(op.unsupported("with a filter that is no constant")),
        }
    }

    fn bias(&mut self, op: &Operator, length: usize) -> ModelResult<Vec<f32>> {
        let Some(bias) = self.optional(op, 2)? else { return Ok(vec![0.0; length]) };
        match self.constant_of(&bias) {
            Some(values) if bias.dims == [length] && bias.number == Number::Float => Ok(values.to_vec()),
            _ => Err(op.unsupported("with such a bias")),
        }
    }
}

fn windows(op: &Operator, image: [usize; 2], kernel: [usize; 2], walk: &Walk) -> ModelResult<Windows> {
    let along = |n: usize| walk_axis(image[n], kernel[n], walk.stride[n], walk.dilation[n], walk.same);
    let (Some(rows), Some(columns)) = (along(0), along(1)) else { return Err(op.unsupported("with such a kernel")) };
    let furthest = [rows.before, rows.after, columns.before, columns.after].into_iter().max().unwrap_or(0);
    if furthest > MAX_ELEMENTS || kernel[0].saturating_mul(kernel[1]) > 1 << 16 {
        return Err(op.unsupported("with such a kernel"));
    }
    let taps = Taps { kernel, stride: walk.stride, dilation: walk.dilation, before: [rows.before, columns.before] };
    Ok(Windows { taps, outputs: [rows.outputs, columns.outputs] })
}

/// The filter of a convolution with groups as one without: zeros where an output does not see a channel.
fn written_out(filter: &[f32], out: usize, points: usize, channels: usize, group_channels: usize) -> Arc<[f32]> {
    let mut all = vec![0.0; out * points * channels];
    let group_outputs = out / (channels / group_channels);
    for (number, (all, taps)) in all.chunks_exact_mut(channels).zip(filter.chunks_exact(group_channels)).enumerate() {
        let first = number / points / group_outputs * group_channels;
        all[first..first + group_channels].copy_from_slice(taps);
    }
    all.into()
}
