//! Operators that move values without computing.

use super::super::finish::Activation;
use super::super::small::{Part, Small};
use super::super::strided::View;
use super::{MAX_RANK, Number, Planner, Value, activation};
use crate::engine::ModelResult;
use crate::graph::{MAX_ELEMENTS, Operator};
use crate::operator::{self, Kind};
use crate::slice::Slices;

impl Planner<'_> {
    /// The same values in another shape.
    fn reshaped(&mut self, op: &Operator, input: Value, dims: Vec<usize>) -> ModelResult<Value> {
        self.book(op, &dims, 0)?;
        Ok(Value { dims, ..input })
    }

    pub(super) fn reshape(&mut self, op: &Operator, attribute: Option<&[i32]>) -> ModelResult<Value> {
        let input = self.optional(op, 0)?.ok_or_else(|| op.unsupported("without an input"))?;
        let stated = match (op.inputs.get(1).copied().flatten(), attribute) {
            (Some(_), _) => self.integers(op, 1)?,
            (None, Some(attribute)) => attribute.iter().map(|&dim| i64::from(dim)).collect(),
            (None, None) => return Err(op.unsupported("without a shape")),
        };
        let elements = input.elements();
        let known = stated.iter().filter(|&&dim| dim != -1).try_fold(1_usize, |product, &dim| {
            usize::try_from(dim).ok().filter(|&dim| dim > 0).and_then(|dim| product.checked_mul(dim))
        });
        let open = stated.iter().filter(|&&dim| dim == -1).count();
        match known {
            Some(known) if open <= 1 && elements.is_multiple_of(known) && (open == 1 || known == elements) => {
                let dims = stated.iter().map(|&dim| usize::try_from(dim).unwrap_or(elements / known)).collect();
                self.reshaped(op, input, dims)
            }
            _ => Err(op.unsupported("to such a shape")),
        }
    }

    pub(super) fn squeeze(&mut self, op: &Operator, axes: &[i32]) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        let rank = input.dims.len();
        let axes: Vec<usize> = if axes.is_empty() {
            (0..rank).filter(|&axis| input.dims[axis] == 1).collect()
        } else {
            axes.iter().map(|&axis| Self::axis(op, i64::from(axis), rank)).collect::<Result<_, _>>()?
        };
        if axes.iter().any(|&axis| input.dims[axis] != 1) {
            return Err(op.unsupported("along such axes"));
        }
        let dims = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| input.dims[axis]).collect();
        self.reshaped(op, input, dims)
    }

    pub(super) fn expand_dims(&mut self, op: &Operator) -> ModelResult<Value> {
        let [axis] = self.integers(op, 1)?[..] else { return Err(op.unsupported("along such axes")) };
        let [input, _] = self.inputs(op)?;
        let mut dims = input.dims.clone();
        dims.insert(Self::axis(op, axis, dims.len() + 1)?, 1);
        self.reshaped(op, input, dims)
    }

    pub(super) fn concatenation(
        &mut self,
        op: &Operator,
        axis: i32,
        fused: operator::Activation,
    ) -> ModelResult<Value> {
        let inputs = self.all_inputs(op)?;
        let axis = Self::axis(op, i64::from(axis), inputs.first().map_or(0, |input| input.dims.len()))?;
        let activation = activation(fused);
        if activation != Activation::NONE && inputs[0].number != Number::Float {
            return Err(op.unsupported("on such numbers"));
        }
        let parts = inputs.iter().map(|input| input.dims.clone()).collect();
        self.joined(op, &inputs, parts, axis, activation)
    }

    pub(super) fn pack(&mut self, op: &Operator, axis: i32) -> ModelResult<Value> {
        let inputs = self.all_inputs(op)?;
        let axis = Self::axis(op, i64::from(axis), inputs.first().map_or(0, |input| input.dims.len() + 1))?;
        let slot = |input: &Value| {
            let mut dims = input.dims.clone();
            dims.insert(axis.min(dims.len()), 1);
            dims
        };
        let parts = inputs.iter().map(slot).collect();
        self.joined(op, &inputs, parts, axis, Activation::NONE)
    }

    /// Inputs, seen in the shapes `parts`, side by side along `axis`.
    fn joined(
        &mut self,
        op: &Operator,
        inputs: &[Value],
        parts: Vec<Vec<usize>>,
        axis: usize,
        activation: Activation,
    ) -> ModelResult<Value> {
        let number = inputs[0].number;
        let mut dims = parts[0].clone();
        dims[axis] = parts.iter().filter_map(|part| part.get(axis)).fold(0, |sum: usize, &dim| sum.saturating_add(dim));
        let fits =
            |part: &Vec<usize>| part.len() == dims.len() && (0..dims.len()).all(|n| n == axis || part[n] == dims[n]);
        if !parts.iter().all(fits) || inputs.iter().any(|input| input.number != number) || number == Number::Truth {
            return Err(op.unsupported("on such parts"));
        }
        self.book(op, &dims, 0)?;
        let whole = View::of(&dims);
        let mut first = 0;
        let mut moves = Vec::with_capacity(parts.len());
        for part in parts {
            let to = View { first: first * whole.strides[axis] as usize, strides: whole.strides.clone() };
            first += part[axis];
            moves.push(Part { from: View::of(&part), to, dims: part });
        }
        let bound = inputs.iter().map(|input| input.bound).collect::<Option<Vec<_>>>();
        let bound = bound.and_then(|bounds| bounds.into_iter().max());
        let inputs: Vec<&Value> = inputs.iter().collect();
        self.small(op, Small::Move { parts: moves, activation }, &inputs, dims, (number, bound))
    }

    /// With zeros.
    pub(super) fn pad(&mut self, op: &Operator) -> ModelResult<Value> {
        let list = self.integers(op, 1)?;
        let [input, _] = self.inputs(op)?;
        let sizes: Vec<usize> = list.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
        if sizes.len() != list.len() || sizes.len() != 2 * input.dims.len() || input.number != Number::Float {
            return Err(op.unsupported("with such paddings"));
        }
        let pads = sizes.as_chunks::<2>().0;
        let padded = |(dim, [before, after]): (&usize, &[usize; 2])| dim.saturating_add(*before).saturating_add(*after);
        let dims: Vec<usize> = input.dims.iter().zip(pads).map(padded).collect();
        if dims.iter().any(|&dim| dim > MAX_ELEMENTS) {
            return Err(op.unsupported("with such paddings"));
        }
        self.book(op, &dims, 0)?;
        let mut to = View::of(&dims);
        to.first = pads.iter().zip(&to.strides).map(|([before, _], &stride)| before * stride as usize).sum();
        let part = Part { dims: input.dims.clone(), from: View::of(&input.dims), to };
        let small = Small::Move { parts: vec![part], activation: Activation::NONE };
        self.small(op, small, &[&input], dims, (Number::Float, None))
    }

    pub(super) fn shape(&mut self, op: &Operator) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        let stated = op.outputs.first().and_then(|&output| Number::of(self.graph.tensors[output].kind));
        let number = stated.filter(|number| number.is_integer()).ok_or_else(|| op.unsupported("to such numbers"))?;
        let list: Vec<f32> = input.dims.iter().map(|&dim| dim as f32).collect();
        let (dims, bound) = (vec![list.len()], input.dims.iter().copied().max());
        let buffer = self.buffer(&dims, Some(list.into()));
        Ok(Value { tensor: usize::MAX, dims, number, bound, buffer })
    }

    pub(super) fn strided_slice(&mut self, op: &Operator) -> ModelResult<Value> {
        let Kind::StridedSlice { masks } = op.kind else { return Err(op.unsupported("")) };
        let (begins, ends, strides) = (self.integers(op, 1)?, self.integers(op, 2)?, self.integers(op, 3)?);
        let input = self.optional(op, 0)?.ok_or_else(|| op.unsupported("without an input"))?;
        let slices = Slices::of(&masks, &input.dims, [&begins, &ends, &strides])
            .map_err(|problem| op.unsupported(&format!("as it is: {problem}")))?;
        if slices.result.len() > MAX_RANK {
            return Err(op.unsupported("with so many axes"));
        }
        self.book(op, &slices.result, input.elements())?;
        let mut from = View::of(&input.dims);
        let mut dims = Vec::with_capacity(input.dims.len());
        for (range, stride) in slices.axes.iter().zip(&mut from.strides) {
            let first = if range.stride < 0 { range.end - 1 } else { range.start };
            from.first += first * *stride as usize;
            dims.push(range.count());
            *stride *= range.stride;
        }
        let part = Part { to: View::of(&dims), from, dims };
        let small = Small::Move { parts: vec![part], activation: Activation::NONE };
        self.small(op, small, &[&input], slices.result, (input.number, input.bound))
    }
}
