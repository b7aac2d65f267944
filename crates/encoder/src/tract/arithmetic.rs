//! Element-wise operators, sums, dense layers, lookups.

use tract_core::internal::*;
use tract_core::ops::array::Gather;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::change_axes::wire_rank_broadcast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::logic::{Iff, comp_lt};
use tract_core::ops::math::{add, div, max, min, mul, sub, tanh};
use tract_core::ops::nn::{Reduce, Reducer, Softmax, SoftmaxKind, leaky_relu, sigmoid};

use super::translate::{Translator, tract_fault};
use crate::engine::{ModelError, ModelResult};
use crate::graph::Operator;
use crate::operator::{Activation, Arithmetic, Kind};

const FLOAT: DatumType = DatumType::F32;
const NUMBERS: [DatumType; 3] = [DatumType::F32, DatumType::I32, DatumType::I64];

impl Translator<'_> {
    pub(super) fn arithmetic(&mut self, op: &Operator, which: Arithmetic, fused: Activation) -> ModelResult<OutletId> {
        let operands: [_; 2] = self.inputs(op)?;
        // Integer division by zero would be a panic of tract, and only floats are activated.
        let floats_only = which == Arithmetic::Div || fused != Activation::None;
        self.expect_type(op, &operands, if floats_only { &NUMBERS[..1] } else { &NUMBERS })?;
        let (operands, dims) = self.broadcast(op, &operands)?;
        let tract = match which {
            Arithmetic::Add => add(),
            Arithmetic::Sub => sub(),
            Arithmetic::Mul => mul(),
            Arithmetic::Div => div(),
        };
        let output = self.wire(op, tract, &operands, &dims)?;
        self.activate(op, output, fused)
    }

    pub(super) fn less(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let operands: [_; 2] = self.inputs(op)?;
        self.expect_type(op, &operands, &NUMBERS)?;
        let (operands, dims) = self.broadcast(op, &operands)?;
        self.wire(op, TypedBinOp(comp_lt(), None), &operands, &dims)
    }

    pub(super) fn select(&mut self, op: &Operator, broadcast: bool) -> ModelResult<OutletId> {
        let operands: [_; 3] = self.inputs(op)?;
        let [condition, yes, no] = operands.map(|operand| self.dims(operand));
        if !broadcast && (condition != yes || yes != no) {
            // Its condition may also stand for whole rows, by its own rules.
            return Err(op.unsupported(&format!("on the shapes {condition:?}, {yes:?}, {no:?}")));
        }
        self.expect_type(op, &operands[..1], &[DatumType::Bool])?;
        self.expect_type(op, &operands[1..], &NUMBERS)?;
        let (operands, dims) = self.broadcast(op, &operands)?;
        self.wire(op, Iff, &operands, &dims)
    }

    /// The operands with leading 1s up to one rank, and the shape that they broadcast to; booked.
    fn broadcast(&mut self, op: &Operator, operands: &[OutletId]) -> ModelResult<(TVec<OutletId>, Vec<usize>)> {
        let shapes: Vec<_> = operands.iter().map(|&operand| self.dims(operand)).collect();
        let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
        let mut dims = vec![1; rank];
        for shape in &shapes {
            for (dim, &found) in dims[rank - shape.len()..].iter_mut().zip(shape) {
                if found != 1 && *dim != 1 && found != *dim {
                    return Err(op.invalid(format!("expected shapes that broadcast, found {shapes:?}")));
                }
                *dim = (*dim).max(found);
            }
        }
        self.book(op, &dims, 0)?;
        let name = self.unique_name(op);
        let operands = wire_rank_broadcast(name, self.model(), operands).map_err(tract_fault)?;
        Ok((operands, dims))
    }

    pub(super) fn activate(&mut self, op: &Operator, wire: OutletId, activation: Activation) -> ModelResult<OutletId> {
        match activation {
            Activation::None => Ok(wire),
            Activation::Relu => self.with_scalar(op, max(), wire, 0.0),
            Activation::Relu6 => {
                let positive = self.with_scalar(op, max(), wire, 0.0)?;
                self.with_scalar(op, min(), positive, 6.0)
            }
        }
    }

    fn with_scalar(
        &mut self,
        op: &Operator,
        tract: impl Into<Box<dyn TypedOp>>,
        wire: OutletId,
        value: f32,
    ) -> ModelResult<OutletId> {
        let dims = self.dims(wire);
        let scalar = Tensor::from_shape(&vec![1; dims.len()], &[value]).map_err(tract_fault)?;
        let scalar = self.constant(scalar)?;
        self.wire(op, tract, &[wire, scalar], &dims)
    }

    pub(super) fn element_wise(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input] = self.inputs(op)?;
        self.expect_type(op, &[input], &[FLOAT])?;
        let dims = self.dims(input);
        self.book(op, &dims, 0)?;
        match op.kind {
            Kind::LeakyRelu { alpha } => self.wire(op, leaky_relu(alpha), &[input], &dims),
            Kind::Relu => self.activate(op, input, Activation::Relu),
            Kind::Relu6 => self.activate(op, input, Activation::Relu6),
            Kind::Logistic => self.wire(op, sigmoid(), &[input], &dims),
            Kind::Tanh => self.wire(op, tanh(), &[input], &dims),
            _ => Err(ModelError::Unsupported(op.label())),
        }
    }

    /// Over the last axis.
    pub(super) fn softmax(&mut self, op: &Operator, beta: f32) -> ModelResult<OutletId> {
        let [mut input] = self.inputs(op)?;
        self.expect_type(op, &[input], &[FLOAT])?;
        let dims = self.dims(input);
        let Some(last) = dims.len().checked_sub(1) else {
            return Err(op.invalid("expected at least one dimension, found a scalar".into()));
        };
        self.book(op, &dims, 0)?;
        if beta != 1.0 {
            input = self.with_scalar(op, mul(), input, beta)?;
        }
        let softmax = Softmax { axes: tvec!(last), quant_output_dt: None, kind: SoftmaxKind::Softmax };
        self.wire(op, softmax, &[input], &dims)
    }

    pub(super) fn reduce(&mut self, op: &Operator, mean: bool, keep_dims: bool) -> ModelResult<OutletId> {
        let [input, axes] = self.inputs(op)?;
        self.expect_type(op, &[input], &[FLOAT])?;
        let dims = self.dims(input);
        let mut axes = self.axes(op, axes, dims.len())?;
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() {
            return Err(op.unsupported("over no axis"));
        }
        let mut reduced = dims.to_vec();
        axes.iter().for_each(|&axis| reduced[axis] = 1);
        self.book(op, &reduced, dims.iter().product())?;
        let reduce = Reduce { axes: axes.iter().copied().collect(), reducer: Reducer::Sum };
        let mut output = self.wire(op, reduce, &[input], &reduced)?;
        if mean {
            let count: usize = axes.iter().map(|&axis| dims[axis]).product();
            output = self.with_scalar(op, mul(), output, 1.0 / count as f32)?;
        }
        if keep_dims {
            return Ok(output);
        }
        let kept: Vec<usize> = (0..dims.len()).filter(|axis| !axes.contains(axis)).map(|axis| dims[axis]).collect();
        self.reshape_to(op, output, &kept)
    }

    /// `weights` is `[out, in]`; the input's elements are taken `in` at a time.
    pub(super) fn fully_connected(
        &mut self,
        op: &Operator,
        keep_dims: bool,
        fused: Activation,
    ) -> ModelResult<OutletId> {
        let (Some(input), Some(weights), 2..=3) =
            (self.optional_input(op, 0)?, self.optional_input(op, 1)?, op.inputs.len())
        else {
            return Err(op.invalid(format!("expected an input, weights and a bias, found {} inputs", op.inputs.len())));
        };
        self.expect_type(op, &[input, weights], &[FLOAT])?;
        let (dims, weight_dims) = (self.dims(input), self.dims(weights));
        let elements: usize = dims.iter().product();
        let [out, length] = weight_dims[..] else {
            return Err(op.invalid(format!("expected weights [out, in], found {weight_dims:?}")));
        };
        let lasts = if keep_dims { dims.last().copied().unwrap_or(0) } else { length };
        if !elements.is_multiple_of(length) || lasts != length {
            return Err(op.invalid(format!("expected an input of {length} values a row, found {dims:?}")));
        }
        let rows = elements / length;
        self.book(op, &[rows, out], rows.saturating_mul(out).saturating_mul(length))?;
        let bias = self.bias(op, out)?;
        let bias = self.reshape_to(op, bias, &[1, out])?;
        let matrix = self.reshape_to(op, input, &[rows, length])?;
        let product = EinSum::new("BI,OI->BO".parse().map_err(tract_fault)?, FLOAT);
        let product = self.wire(op, product, &[matrix, weights], &[rows, out])?;
        let output = self.wire(op, add(), &[product, bias], &[rows, out])?;
        let output = self.activate(op, output, fused)?;
        if !keep_dims {
            return Ok(output);
        }
        let mut kept = dims.to_vec();
        *kept.last_mut().expect("there is a last dimension, compared above") = out;
        self.reshape_to(op, output, &kept)
    }

    /// Rows of a table. What the index will be is not known before each window, and tract does not check it: it is
    /// clamped for tract, and its raw value kept as an output, by which a window with a wrong one is refused.
    pub(super) fn gather(&mut self, op: &Operator, axis: i32) -> ModelResult<OutletId> {
        let [table, indices] = self.inputs(op)?;
        self.expect_type(op, &[table], &NUMBERS)?;
        self.expect_type(op, &[indices], &NUMBERS[1..])?;
        let (table_dims, index_dims) = (self.dims(table), self.dims(indices));
        let axis = self.axis(op, i64::from(axis), table_dims.len())?;
        let size = table_dims[axis];
        let dims = [&table_dims[..axis], &index_dims[..], &table_dims[axis + 1..]].concat();
        self.book(op, &dims, 0)?;
        let mut indices = self.cast_to(op, indices, DatumType::I64)?;
        if let Some(known) = self.known(indices) {
            let known = known.to_plain_array_view::<i64>().map_err(tract_fault)?.iter().copied().collect::<Vec<_>>();
            if let Some(index) = known.iter().find(|&&index| index < 0 || index as u64 >= size as u64) {
                return Err(op.invalid(format!("expected indices 0 to {}, found {index}", size - 1)));
            }
        } else {
            self.watch(indices, size);
            for (limit, value) in [(max(), 0), (min(), size as i64 - 1)] {
                let value = Tensor::from_shape(&vec![1; index_dims.len()], &[value]).map_err(tract_fault)?;
                let value = self.constant(value)?;
                indices = self.wire(op, limit, &[indices, value], &index_dims)?;
            }
        }
        self.wire(op, Gather::new(axis), &[table, indices], &dims)
    }

    pub(super) fn cast(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input] = self.inputs(op)?;
        let dims = self.dims(input);
        self.book(op, &dims, 0)?;
        let to = self.stated_type(op)?;
        self.cast_to(op, input, to)
    }

    /// float16 constants are read as float32: nothing is left to do.
    pub(super) fn dequantize(&mut self, op: &Operator) -> ModelResult<OutletId> {
        let [input] = self.inputs(op)?;
        self.expect_type(op, &[input], &[FLOAT])?;
        Ok(input)
    }
}
