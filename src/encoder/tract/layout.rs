//! Operators that move values without computing: shapes, axes, slices.

use tract_core::internal::*;
use tract_core::ops::array::{Pad, PadMode, Slice, TypedConcat};
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::downsample::Downsample;

use super::translate::{Translator, tract_fault};
use crate::encoder::Fault;
use crate::encoder::graph::Operator;
use crate::encoder::operator::{Activation, Kind};

const MAX_RANK: usize = 8;

impl Translator<'_> {
    /// An axis as models write it, where negative ones count from the end.
    pub(super) fn axis(&self, op: &Operator, axis: i64, rank: usize) -> Result<usize, Fault> {
        let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        usize::try_from(from_start)
            .ok()
            .filter(|&axis| axis < rank)
            .ok_or_else(|| op.invalid(format!("expected an axis of {rank}, found {axis}")))
    }

    pub(super) fn axes(&self, op: &Operator, list: OutletId, rank: usize) -> Result<Vec<usize>, Fault> {
        self.integers(op, list, "axes")?.into_iter().map(|axis| self.axis(op, axis, rank)).collect()
    }

    /// The same values in another shape of as many elements.
    pub(super) fn reshape_to(&mut self, op: &Operator, wire: OutletId, dims: &[usize]) -> Result<OutletId, Fault> {
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

    pub(super) fn reshape(&mut self, op: &Operator, attribute: Option<&[i32]>) -> Result<OutletId, Fault> {
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

    pub(super) fn squeeze(&mut self, op: &Operator, axes: &[i32]) -> Result<OutletId, Fault> {
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

    pub(super) fn expand_dims(&mut self, op: &Operator) -> Result<OutletId, Fault> {
        let [input, axis] = self.inputs(op)?;
        let mut dims = self.dims(input);
        let [axis] = self.integers(op, axis, "axes")?[..] else { return Err(op.invalid("expected one axis".into())) };
        dims.insert(self.axis(op, axis, dims.len() + 1)?, 1);
        self.book(op, &dims, 0)?;
        self.reshape_to(op, input, &dims)
    }

    pub(super) fn concatenation(&mut self, op: &Operator, axis: i32, fused: Activation) -> Result<OutletId, Fault> {
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

    pub(super) fn pack(&mut self, op: &Operator, axis: i32) -> Result<OutletId, Fault> {
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
    pub(super) fn pad(&mut self, op: &Operator) -> Result<OutletId, Fault> {
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

    pub(super) fn shape(&mut self, op: &Operator) -> Result<OutletId, Fault> {
        let [input] = self.inputs(op)?;
        let dims: Vec<i64> = self.dims(input).iter().map(|&dim| dim as i64).collect();
        let to = self.stated_type(op)?;
        let dims = tensor1(&dims).cast_to_dt(to).map_err(tract_fault)?.into_owned();
        self.constant(dims)
    }

    /// NumPy's `x[begin:end:stride]`, with a bit of each mask for each position: begin and end may be left open, an
    /// ellipsis stands for all axes not named, a new axis is inserted, a shrunk one is indexed and dropped.
    pub(super) fn strided_slice(&mut self, op: &Operator) -> Result<OutletId, Fault> {
        let Kind::StridedSlice { begin: open_begin, end: open_end, ellipsis, new_axis, shrink } = op.kind else {
            return Err(Fault::Unsupported(op.label()));
        };
        let [mut wire, begins, ends, strides] = self.inputs(op)?;
        let begins = self.integers(op, begins, "begins")?;
        let ends = self.integers(op, ends, "ends")?;
        let strides = self.integers(op, strides, "strides")?;
        let count = begins.len();
        if ends.len() != count || strides.len() != count || count > MAX_RANK {
            return Err(op.invalid(format!(
                "expected begins, ends and strides of one length, found {begins:?}, {ends:?}, {strides:?}"
            )));
        }
        let set = |mask: i32, position: usize| mask & (1 << position) != 0;
        let from = self.dims(wire);
        let mut sliced = from.clone();
        let mut result = Vec::new();
        let mut axis = 0;
        let mut seen_ellipsis = false;
        for position in 0..count {
            if set(ellipsis, position) && !seen_ellipsis {
                seen_ellipsis = true;
                let named = (position + 1..count).filter(|&later| !set(new_axis, later)).count();
                let until = from.len().saturating_sub(named).max(axis);
                result.extend_from_slice(&from[axis..until]);
                axis = until;
                continue;
            }
            if set(new_axis, position) {
                result.push(1);
                continue;
            }
            let Some(&dim) = from.get(axis) else {
                return Err(op.invalid(format!("expected at most {} positions, found {count}", from.len())));
            };
            let range = if set(shrink, position) {
                Range::index(begins[position], dim)
            } else {
                let begin = (!set(open_begin, position)).then_some(begins[position]);
                let end = (!set(open_end, position)).then_some(ends[position]);
                Range::slice(begin, end, strides[position], dim)
            };
            let Some(range) = range else {
                return Err(op.invalid(format!(
                    "expected a slice within {dim}, found {}:{}:{}",
                    begins[position], ends[position], strides[position]
                )));
            };
            if (range.start, range.end) != (0, dim) {
                sliced[axis] = range.end - range.start;
                wire = self.wire(op, Slice::new(axis, range.start, range.end), &[wire], &sliced)?;
            }
            if range.stride != 1 {
                sliced[axis] = sliced[axis].div_ceil(range.stride.unsigned_abs());
                wire = self.wire(op, Downsample { axis, stride: range.stride, modulo: 0 }, &[wire], &sliced)?;
            }
            if !set(shrink, position) {
                result.push(sliced[axis]);
            }
            axis += 1;
        }
        result.extend_from_slice(&from[axis..]);
        self.book(op, &result, from.iter().product())?;
        self.reshape_to(op, wire, &result)
    }
}

/// Elements `start..end` of an axis, every `stride`th of them; from the last one backwards where it is negative.
#[derive(Debug, PartialEq)]
struct Range {
    start: usize,
    end: usize,
    stride: isize,
}

impl Range {
    fn index(index: i64, dim: usize) -> Option<Range> {
        let index = usize::try_from(if index < 0 { index.checked_add(dim as i64)? } else { index }).ok()?;
        (index < dim).then_some(Range { start: index, end: index + 1, stride: 1 })
    }

    /// `None` for a stride of 0 and for slices without elements.
    fn slice(begin: Option<i64>, end: Option<i64>, stride: i64, dim: usize) -> Option<Range> {
        let size = dim as i64;
        let from_start = |position: i64| if position < 0 { position.saturating_add(size) } else { position };
        let stride_size = isize::try_from(stride).ok().filter(|&stride| stride != 0 && stride != isize::MIN)?;
        let (start, end) = if stride > 0 {
            (begin.map_or(0, from_start).clamp(0, size), end.map_or(size, from_start).clamp(0, size))
        } else {
            // Backwards from `begin` down to, but without, `end`.
            let first = begin.map_or(size - 1, from_start).clamp(-1, size - 1);
            let last = end.map_or(-1, from_start).clamp(-1, size - 1);
            (last + 1, first + 1)
        };
        (start < end).then_some(Range { start: start as usize, end: end as usize, stride: stride_size })
    }
}

fn as_tdims(dims: &[usize]) -> TVec<TDim> {
    dims.iter().map(|dim| dim.to_dim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_numpys() {
        let found = |start, end, stride| Some(Range { start, end, stride });
        assert_eq!(Range::slice(None, None, 1, 5), found(0, 5, 1));
        assert_eq!(Range::slice(Some(1), Some(-1), 2, 6), found(1, 5, 2));
        assert_eq!(Range::slice(Some(-9), Some(99), 1, 6), found(0, 6, 1));
        assert_eq!(Range::slice(None, None, -1, 6), found(0, 6, -1));
        assert_eq!(Range::slice(Some(-2), Some(0), -1, 6), found(1, 5, -1));
        assert_eq!(Range::slice(Some(3), Some(3), 1, 6), None);
        assert_eq!(Range::slice(None, None, 0, 6), None);
        assert_eq!(Range::slice(Some(i64::MIN), Some(i64::MIN), i64::MIN, 6), None);
        assert_eq!(Range::index(-1, 4), found(3, 4, 1));
        assert_eq!(Range::index(4, 4), None);
        assert_eq!(Range::index(-5, 4), None);
    }
}
