//! Convolution and pooling: a kernel that walks over rows and columns. Images are `[1, rows, columns, channels]`.

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::nn::DataFormat;

use super::translate::{Translator, tract_fault};
use crate::engine::{ModelError, ModelResult};
use crate::graph::{MAX_ELEMENTS, Operator};
use crate::operator::{self, Activation, Walk, walk_axis};

impl Translator<'_> {
    pub(super) fn conv2d(&mut self, op: &Operator, walk: &Walk, fused: Activation) -> ModelResult<OutletId> {
        let (image, [rows, columns, channels], filter) = self.image_and_filter(op)?;
        let &[out, kernel_rows, kernel_columns, group_channels] = filter.shape() else {
            return Err(op.invalid(format!("expected a filter of 4 dimensions, found {:?}", filter.shape())));
        };
        if channels % group_channels != 0 || out % (channels / group_channels) != 0 {
            let found = filter.shape();
            return Err(op.invalid(format!("expected a filter that fits {channels} channels, found {found:?}")));
        }
        let group = channels / group_channels;
        let kernel = [kernel_rows, kernel_columns];
        let (spec, dims) = self.walk(op, [rows, columns], kernel, walk, channels, out)?;
        self.book_windows(op, &dims, kernel, group_channels, channels)?;
        // tract groups filters only where they are [out, in, rows, columns].
        let filter = filter.into_tensor().permute_axes(&[0, 3, 1, 2]).map_err(tract_fault)?;
        self.convolution(op, image, filter, spec, group, &dims, fused)
    }

    pub(super) fn depthwise_conv2d(
        &mut self,
        op: &Operator,
        walk: &Walk,
        multiplier: usize,
        fused: Activation,
    ) -> ModelResult<OutletId> {
        let (image, [rows, columns, channels], filter) = self.image_and_filter(op)?;
        let &[1, kernel_rows, kernel_columns, out] = filter.shape() else {
            return Err(
                op.invalid(format!("expected a filter [1, rows, columns, channels], found {:?}", filter.shape()))
            );
        };
        if out % channels != 0 || (multiplier != 0 && multiplier != out / channels) {
            return Err(
                op.invalid(format!("expected a filter for {channels} channels x {multiplier}, found one for {out}"))
            );
        }
        // Each channel is its own group, and its filters are the group's outputs.
        let filter = filter.into_tensor().permute_axes(&[3, 0, 1, 2]).map_err(tract_fault)?;
        let kernel = [kernel_rows, kernel_columns];
        let (spec, dims) = self.walk(op, [rows, columns], kernel, walk, channels, out)?;
        self.book_windows(op, &dims, kernel, 4, channels)?;
        self.convolution(op, image, filter, spec, channels, &dims, fused)
    }

    pub(super) fn pool2d(
        &mut self,
        op: &Operator,
        max: bool,
        kernel: [usize; 2],
        walk: &Walk,
        fused: Activation,
    ) -> ModelResult<OutletId> {
        let [image] = self.inputs(op)?;
        let [rows, columns, channels] = self.image_dims(op, image)?;
        let (pool_spec, dims) = self.walk(op, [rows, columns], kernel, walk, channels, channels)?;
        self.book_windows(op, &dims, kernel, 4, 1)?;
        let pooled = if max {
            self.wire(op, MaxPool { pool_spec, with_index_outputs: None }, &[image], &dims)?
        } else {
            // The mean is over what lies inside of the image.
            self.wire(op, SumPool { pool_spec, count_include_pad: false, normalize: true }, &[image], &dims)?
        };
        self.activate(op, pooled, fused)
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is one convolution")]
    fn convolution(
        &mut self,
        op: &Operator,
        image: OutletId,
        filter: Tensor,
        pool_spec: PoolSpec,
        group: usize,
        dims: &[usize],
        fused: Activation,
    ) -> ModelResult<OutletId> {
        let out = pool_spec.output_channels;
        let bias = self.bias(op, out)?;
        let filter = self.constant(filter)?;
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group, q_params: None };
        let output = self.wire(op, conv, &[image, filter, bias], dims)?;
        self.activate(op, output, fused)
    }

    /// Input 2: one value for each output, zeros where it is left out.
    pub(super) fn bias(&mut self, op: &Operator, length: usize) -> ModelResult<OutletId> {
        let zeros = Tensor::zero::<f32>(&[length]).map_err(tract_fault)?;
        let Some(bias) = self.optional_input(op, 2)? else { return self.constant(zeros) };
        let found = self.dims(bias);
        if found[..] != [length] {
            return Err(op.invalid(format!("expected a bias [{length}], found {found:?}")));
        }
        // Of a quantised model, whose shapes alone are followed, it is int32.
        if self.checking() && self.datum(bias).is_integer() {
            return self.constant(zeros);
        }
        self.expect_type(op, &[bias], &[f32::datum_type()])?;
        Ok(bias)
    }

    fn image_and_filter(&mut self, op: &Operator) -> Result<(OutletId, [usize; 3], TValue), ModelError> {
        let (Some(image), Some(filter), 2..=3) =
            (self.optional_input(op, 0)?, self.optional_input(op, 1)?, op.inputs.len())
        else {
            return Err(op.invalid(format!("expected an image, a filter and a bias, found {} inputs", op.inputs.len())));
        };
        self.expect_type(op, &[image, filter], &[f32::datum_type()])?;
        let dims = self.image_dims(op, image)?;
        let Some(filter) = self.known(filter) else { return Err(op.unsupported("with a filter that is no constant")) };
        Ok((image, dims, filter.into_tvalue()))
    }

    fn image_dims(&self, op: &Operator, image: OutletId) -> Result<[usize; 3], ModelError> {
        self.expect_type(op, &[image], &[f32::datum_type()])?;
        match self.dims(image)[..] {
            [1, rows, columns, channels] => Ok([rows, columns, channels]),
            ref found => Err(op.invalid(format!("expected an image [1, rows, columns, channels], found {found:?}"))),
        }
    }

    fn walk(
        &self,
        op: &Operator,
        image: [usize; 2],
        kernel: [usize; 2],
        walk: &Walk,
        channels: usize,
        out: usize,
    ) -> Result<(PoolSpec, [usize; 4]), ModelError> {
        let along = |n: usize| walk_axis(image[n], kernel[n], walk.stride[n], walk.dilation[n], walk.same);
        let (Some(rows), Some(columns)) = (along(0), along(1)) else {
            let reach =
                if walk.dilation == [1, 1] { String::new() } else { format!(" dilated by {:?}", walk.dilation) };
            return Err(op.invalid(format!("expected a kernel that fits into {image:?}, found {kernel:?}{reach}")));
        };
        // tract copies the image with its padding, which a wide dilation makes far larger than the image.
        let padded =
            |axis: &operator::Axis, length: usize| length.saturating_add(axis.before).saturating_add(axis.after);
        let copied = padded(&rows, image[0]).saturating_mul(padded(&columns, image[1])).saturating_mul(channels);
        if copied > MAX_ELEMENTS {
            return Err(op.invalid(format!(
                "expected a kernel for which the image is padded to at most {MAX_ELEMENTS} elements, found {copied}"
            )));
        }
        if kernel[0].saturating_mul(kernel[1]) > 1 << 16 {
            return Err(op.invalid(format!("expected a kernel of at most 65536 points, found {kernel:?}")));
        }
        let padding = if [&rows, &columns].iter().all(|axis| axis.before + axis.after == 0) {
            PaddingSpec::Valid
        } else {
            PaddingSpec::Explicit(tvec!(rows.before, columns.before), tvec!(rows.after, columns.after))
        };
        let spec = PoolSpec {
            data_format: DataFormat::NHWC,
            kernel_shape: kernel[..].into(),
            padding,
            dilations: Some(walk.dilation[..].into()),
            strides: Some(walk.stride[..].into()),
            input_channels: channels,
            output_channels: out,
        };
        Ok((spec, [1, rows.outputs, columns.outputs, out]))
    }

    /// `cost` multiply-adds for each output and point of the kernel; `gathered` channels are copied for each point.
    fn book_windows(
        &mut self,
        op: &Operator,
        dims: &[usize; 4],
        kernel: [usize; 2],
        cost: usize,
        gathered: usize,
    ) -> ModelResult<()> {
        let product =
            |factors: &[usize]| factors.iter().try_fold(1_usize, |product, &factor| product.checked_mul(factor));
        let [_, rows, columns, out] = *dims;
        let [kernel_rows, kernel_columns] = kernel;
        let work = product(&[rows, columns, out, kernel_rows, kernel_columns, cost]).unwrap_or(usize::MAX);
        let copied = product(&[rows, columns, kernel_rows, kernel_columns, gathered]).unwrap_or(usize::MAX);
        if copied > 2 * MAX_ELEMENTS && gathered > 1 {
            return Err(
                op.invalid(format!("expected windows of at most {} elements, found {copied}", 2 * MAX_ELEMENTS))
            );
        }
        self.book(op, dims, work)
    }
}
