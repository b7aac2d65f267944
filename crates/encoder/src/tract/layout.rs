//! Operators that move values without computing: shapes, axes, slices.

use tract_core::internal::*;
use tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::downsample::Downsample;

use super::translate::{Translator, tract_fault};
use crate::engine::{ModelError, ModelResult};
use crate::graph::Operator;
use crate::operator::{Activation, Kind};
use crate::slice::Slices;

const MAX_RANK: usize = 8;

impl Translator<'_> {
    /// An axis as models write it, where negative ones count from the end.
    pub(super) fn axis(&self, op: &Operator, axis: i64, rank: usize) -> ModelResult<usize> {
        let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(from_start)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| op.invalid(format!("expected an axis of {rank}, found {axis}")))
    }

    pub(super) fn axes(&self, op: &Operator, list: OutletId, rank: usize) -> ModelResult<Vec<usize>> {
        self.integers(op, list, "axes")?.into_iter().map(|axis| self.axis(op, axis, rank)).collect()
    }

    /// The same values in another shape of as many elements.
    pub(super) fn reshape_to(&mut self, op: &Operator, wire: OutletId, dims: &[usize]) -> ModelResult<OutletId> {
        let from = self.dims(wire);
        if from[..] == *dims {
            return Ok(wire);
        }
        if dims.len() > MAX_RANK {
            return Err(op.invalid(format!("expected at most {MAX_RANK} dimensions, found {dims:?}")));
        }
        // tract's reshape wants dimensions on both sides.
        let (mut wire, mut from) = (wire, from);
        if from.is_empty() {
            wire = self.wire(op, AxisOp::Add(0), &[wire], &[1])?;
            from.push(1);
        }
        let to: Vec<usize> = if dims.is_empty() { vec![1] } else { dims.to_vec() };
        if from[..] != to[..] {
            let reshape = AxisOp::Reshape(0, as_tdims(&from), as_tdims(&to));
            wire = self.wire(op, reshape, &[wire], &to)?;
        }
        if dims.is_empty() {
            wire = self.wire(op, AxisOp::Rm(0), &[wire], &[])?;
        }
        Ok(wire)
    }

    pub(super) fn reshape(&mut self, op: &Operator, attribute: Option<&[i32]>) -> ModelResult<OutletId> {
        let Some(input) = self.optional_input(op, 0)? else {
            return Err(op.invalid("expected an input, found none".into()));
        };
        let stated = match (self.optional_input(op, 1)?, attribute) {
            (Some(list), _) => self.integers(op, list, "dimensions")?,
            (None, Some(attribute)) => attribute.iter().map(|&dim| i64::from(dim)).collect(),
            (None, None) => return Err(op.invalid("expected a new shape, found none".into())),
        };
        let from = self.dims(input);
        let elements: usize = from.iter().product();
        let misfit = || op.invalid(format!("expected a shape of {elements} elements, found {stated:?}"));
        let known = stated.iter().filter(|&&dim| dim != -1).try_fold(1_usize, |product, &dim| {
            usize::try_from(dim).ok().filter(|&dim| dim > 0).and_then(|dim| product.checked_mul(dim))
        });
        let known = known.ok_or_else(misfit)?;
        let open = stated.iter().filter(|&&dim| dim == -1).count();
        if open > 1 || (open == 0 && known != elements) || !elements.is_multiple_of(known) {
            return Err(misfit());
        }
        let dims: Vec<usize> = stated.iter().map(|&dim| usize::try_from(dim).unwrap_or(elements / known)).collect();
        self.book(op, &dims, 0)?;
        self.reshape_to(op, input, &dims)
    }

    pub(super) fn squeeze(&mut self, op: &Operator, axes: &[i32]) -> ModelResult<OutletId> {
        let [input] = self.inputs(op)?;
        let from = self.dims(input);
        let axes: Vec<usize> = if axes.is_empty() {
            (0..from.len()).filter(|&axis| from[axis] == 1).collect()
        } else {
            axes.iter().map(|&axis| self.axis(op, i64::from(axis), from.len())).collect::<Result<_, _>>()?
        };
        if let Some(&axis) = axes.iter().find(|&&axis| from[axis] != 1) {
            return Err(op.invalid(format!("expected 1 along axis {axis}, found the shape {from:?}")));
        }
        let dims: Vec<usize> = (0..from.len()).filter(|axis| !axes.contains(axis)).map(|axis| from[axis]).collect();
        self.book(op, &dims, 0)?;
        self.reshape_to(op, input, &dims)
    }

    pub(super) fn expand_dims(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input, axis] = self.inputs(op)?;
        let mut dims = self.dims(input);
        let [axis] = self.integers(op, axis, "axes")?[..] else { return Err(op.invalid("expected one axis".into())) };
        dims.insert(self.axis(op, axis, dims.len() + 1)?, 1);
        self.book(op, &dims, 0)?;
        self.reshape_to(op, input, &dims)
    }

    pub(super) fn concatenation(&mut self, op: &Operator, axis: i32, fused: Activation) -> ModelResult<OutletId> {
        let parts = self.all_inputs(op)?;
        let types = [DatumType::F32, DatumType::I32, DatumType::I64];
        self.expect_type(op, &parts, if fused == Activation::None { &types } else { &types[..1] })?;
        let shapes: Vec<_> = parts.iter().map(|&part| self.dims(part)).collect();
        let axis = self.axis(op, i64::from(axis), shapes.first().map_or(0, |shape| shape.len()))?;
        let mut dims = shapes[0].clone();
        dims[axis] =
            shapes.iter().filter_map(|shape| shape.get(axis)).fold(0, |sum: usize, &dim| sum.saturating_add(dim));
        let fits = |shape: &TVec<usize>| {
            shape.len() == dims.len() && (0..dims.len()).all(|n| n == axis || shape[n] == dims[n])
        };
        if !shapes.iter().all(fits) {
            return Err(op.invalid(format!("expected parts that fit along axis {axis}, found {shapes:?}")));
        }
        self.book(op, &dims, 0)?;
        let output = self.wire(op, TypedConcat { axis }, &parts, &dims)?;
        self.activate(op, output, fused)
    }

    pub(super) fn pack(&mut self, op: &Operator, axis: i32) -> ModelResult<OutletId> {
        let parts = self.all_inputs(op)?;
        self.expect_type(op, &parts, &[DatumType::F32, DatumType::I32, DatumType::I64])?;
        let shapes: Vec<_> = parts.iter().map(|&part| self.dims(part)).collect();
        let mut dims = shapes[0].clone();
        if shapes.iter().any(|shape| *shape != dims) {
            return Err(op.invalid(format!("expected parts of one shape, found {shapes:?}")));
        }
        let axis = self.axis(op, i64::from(axis), dims.len() + 1)?;
        dims.insert(axis, 1);
        let slot = dims.clone();
        dims[axis] = parts.len();
        self.book(op, &dims, 0)?;
        let mut slots = Vec::with_capacity(parts.len());
        for part in parts {
            slots.push(self.reshape_to(op, part, &slot)?);
        }
        self.wire(op, TypedConcat { axis }, &slots, &dims)
    }

    /// With zeros.
    pub(super) fn pad(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input, paddings] = self.inputs(op)?;
        self.expect_type(op, &[input], &[DatumType::F32])?;
        let from = self.dims(input);
        let misfit = |found: &[i64]| op.invalid(format!("expected two paddings for each of {from:?}, found {found:?}"));
        let list = self.integers(op, paddings, "paddings")?;
        if list.len() != 2 * from.len() {
            return Err(misfit(&list));
        }
        let sizes: Vec<usize> = list.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
        if sizes.len() != list.len() {
            return Err(misfit(&list));
        }
        let pads: Vec<(usize, usize)> = sizes.as_chunks().0.iter().map(|[before, after]| (*before, *after)).collect();
        let dims: Vec<usize> = from
            .iter()
            .zip(&pads)
            .map(|(dim, (before, after))| dim.saturating_add(*before).saturating_add(*after))
            .collect();
        self.book(op, &dims, 0)?;
        self.wire(op, Pad { pads, mode: PadMode::Constant(rctensor0(0.0_f32)) }, &[input], &dims)
    }

    pub(super) fn shape(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input] = self.inputs(op)?;
        let dims: Vec<i64> = self.dims(input).iter().map(|&dim| dim as i64).collect();
        let to = self.stated_type(op)?;
        let dims = tensor1(&dims).cast_to_dt(to).map_err(tract_fault)?.into_owned();
        self.constant(dims)
    }

    pub(super) fn strided_slice(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let Kind::StridedSlice { masks } = op.kind else { return Err(ModelError::Unsupported(op.label())) };
        let [mut wire, begins, ends, strides] = self.inputs(op)?;
        let begins = self.integers(op, begins, "begins")?;
        let ends = self.integers(op, ends, "ends")?;
        let strides = self.integers(op, strides, "strides")?;
        let from = self.dims(wire);
        let slices = Slices::of(&masks, &from, [&begins, &ends, &strides]).map_err(|problem| op.invalid(problem))?;
        let mut sliced = from.clone();
        for (axis, range) in slices.axes.iter().enumerate() {
            if (range.start, range.end) != (0, from[axis]) {
                sliced[axis] = range.end - range.start;
                wire = self.wire(op, Slice::new(axis, range.start, range.end), &[wire], &sliced)?;
            }
            if range.stride != 1 {
                sliced[axis] = range.count();
                wire = self.wire(op, Downsample { axis, stride: range.stride, modulo: 0 }, &[wire], &sliced)?;
            }
        }
        self.book(op, &slices.result, from.iter().product())?;
        self.reshape_to(op, wire, &slices.result)
    }
}

fn as_tdims(dims: &[usize]) -> TVec<TDim> {
    dims.iter().map(|dim| dim.to_dim()).collect()
}
