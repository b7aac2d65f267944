//! Arithmetic, activations, sums, lookups.

use super::super::finish::{Activation, Fold};
use super::super::small::{Function, Pair, Small};
use super::super::strided::View;
use super::{EXACT, Number, Planner, Value, activation};
use crate::engine::ModelResult;
use crate::graph::Operator;
use crate::operator::{self, Arithmetic, Kind};

impl Planner<'_> {
    pub(super) fn arithmetic(
        &mut self,
        op: &Operator,
        which: Arithmetic,
        fused: operator::Activation,
    ) -> ModelResult<Value> {
        let [a, b] = self.inputs(op)?;
        let activation = activation(fused);
        let kind = match (a.number, b.number) {
            (Number::Float, Number::Float) => (Number::Float, None),
            (left, right) if left == right && left.is_integer() && activation == Activation::NONE => {
                let bounds = a.bound.zip(b.bound);
                let bound = match which {
                    Arithmetic::Add | Arithmetic::Sub => bounds.and_then(|(a, b)| a.checked_add(b)),
                    Arithmetic::Mul => bounds.and_then(|(a, b)| a.checked_mul(b)),
                    Arithmetic::Div => None,
                };
                let bound = bound.filter(|&bound| bound <= EXACT);
                (left, Some(bound.ok_or_else(|| op.unsupported("on integers that may be large"))?))
            }
            _ => return Err(op.unsupported("on such numbers")),
        };
        self.zip(op, Pair::Arithmetic(which), activation, [&a, &b], kind)
    }

    pub(super) fn less(&mut self, op: &Operator) -> ModelResult<Value> {
        let [a, b] = self.inputs(op)?;
        if a.number != b.number || a.number == Number::Truth {
            return Err(op.unsupported("on such numbers"));
        }
        self.zip(op, Pair::Less, Activation::NONE, [&a, &b], (Number::Truth, Some(1)))
    }

    fn zip(
        &mut self,
        op: &Operator,
        pair: Pair,
        activation: Activation,
        inputs: [&Value; 2],
        kind: (Number, Option<usize>),
    ) -> ModelResult<Value> {
        let dims = self.broadcast(op, &inputs)?;
        let views = inputs.map(|input| View::broadcast(&input.dims, &dims));
        self.small(op, Small::Zip { pair, activation, dims: dims.clone(), views }, &inputs, dims, kind)
    }

    pub(super) fn select(&mut self, op: &Operator, broadcast: bool) -> ModelResult<Value> {
        let [condition, yes, no] = self.inputs(op)?;
        if condition.number != Number::Truth || yes.number != no.number || yes.number == Number::Truth {
            return Err(op.unsupported("on such numbers"));
        }
        if !broadcast && (condition.dims != yes.dims || yes.dims != no.dims) {
            return Err(op.unsupported("on such shapes"));
        }
        let inputs = [&condition, &yes, &no];
        let dims = self.broadcast(op, &inputs)?;
        let views = inputs.map(|input| View::broadcast(&input.dims, &dims));
        let bound = yes.bound.zip(no.bound).map(|(yes, no)| yes.max(no));
        let number = yes.number;
        self.small(op, Small::Select { dims: dims.clone(), views }, &inputs, dims, (number, bound))
    }

    /// The shape that the operands broadcast to; booked.
    fn broadcast(&mut self, op: &Operator, inputs: &[&Value]) -> ModelResult<Vec<usize>> {
        let rank = inputs.iter().map(|input| input.dims.len()).max().unwrap_or(0);
        let mut dims = vec![1; rank];
        for input in inputs {
            for (dim, &found) in dims[rank - input.dims.len()..].iter_mut().zip(&input.dims) {
                if found != 1 && *dim != 1 && found != *dim {
                    return Err(op.unsupported("on shapes that do not broadcast"));
                }
                *dim = (*dim).max(found);
            }
        }
        self.book(op, &dims, 0)?;
        Ok(dims)
    }

    pub(super) fn element_wise(&mut self, op: &Operator) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        if input.number != Number::Float {
            return Err(op.unsupported("on such numbers"));
        }
        self.book(op, &input.dims, 0)?;
        let function = match op.kind {
            Kind::LeakyRelu { alpha } => Function::Activation(Activation { slope: alpha, limit: f32::INFINITY }),
            Kind::Relu => Function::Activation(Activation::RELU),
            Kind::Relu6 => Function::Activation(Activation::RELU6),
            Kind::Logistic => Function::Logistic,
            Kind::Tanh => Function::Tanh,
            _ => return Err(op.unsupported("")),
        };
        if let Function::Activation(activation) = function
            && let Some(value) = self.activated(op, &input, activation)
        {
            return Ok(value);
        }
        let dims = input.dims.clone();
        self.small(op, Small::Map(function), &[&input], dims, (Number::Float, None))
    }

    /// Over the last axis.
    pub(super) fn softmax(&mut self, op: &Operator, beta: f32) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        let &[.., length] = &input.dims[..] else { return Err(op.unsupported("on a scalar")) };
        if input.number != Number::Float {
            return Err(op.unsupported("on such numbers"));
        }
        self.book(op, &input.dims, 0)?;
        let dims = input.dims.clone();
        self.small(op, Small::Softmax { length, beta }, &[&input], dims, (Number::Float, None))
    }

    pub(super) fn reduce(&mut self, op: &Operator, mean: bool, keep_dims: bool) -> ModelResult<Value> {
        let axes = self.integers(op, 1)?;
        let [input, _] = self.inputs(op)?;
        let rank = input.dims.len();
        let mut axes: Vec<usize> = axes.iter().map(|&axis| Self::axis(op, axis, rank)).collect::<Result<_, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() || input.number != Number::Float {
            return Err(op.unsupported("over such axes or numbers"));
        }
        let mut dims: Vec<usize> = input.dims.clone();
        axes.iter().for_each(|&axis| dims[axis] = 1);
        let kept: Vec<usize> = (0..rank).filter(|axis| !axes.contains(axis)).collect();
        let shape: Vec<usize> = if keep_dims { dims } else { kept.iter().map(|&axis| input.dims[axis]).collect() };
        self.book(op, &shape, input.elements())?;
        if mean
            && rank == 4
            && axes == [1, 2]
            && let Some(value) = self.fold(op, &input, Fold::Mean, &shape)
        {
            return Ok(value);
        }
        let view = View::of(&input.dims);
        let along = |axes: &[usize]| {
            let strides = axes.iter().map(|&axis| view.strides[axis]).collect();
            (axes.iter().map(|&axis| input.dims[axis]).collect::<Vec<_>>(), View { first: 0, strides })
        };
        let (outer, inner) = (along(&kept), along(&axes));
        let scale = if mean { 1.0 / inner.0.iter().product::<usize>() as f64 } else { 1.0 };
        self.small(op, Small::Reduce { outer, inner, scale }, &[&input], shape, (Number::Float, None))
    }

    pub(super) fn gather(&mut self, op: &Operator, axis: i32) -> ModelResult<Value> {
        let [table, indices] = self.inputs(op)?;
        if table.number == Number::Truth || !indices.number.is_integer() {
            return Err(op.unsupported("on such numbers"));
        }
        let axis = Self::axis(op, i64::from(axis), table.dims.len())?;
        let (size, inner) = (table.dims[axis], table.dims[axis + 1..].iter().product());
        let beyond = |&index: &f32| !(0.0..size as f32).contains(&index);
        if self.constant_of(&indices).is_some_and(|indices| indices.iter().any(beyond)) {
            return Err(op.unsupported("with an index beyond its table"));
        }
        let dims = [&table.dims[..axis], &indices.dims[..], &table.dims[axis + 1..]].concat();
        self.book(op, &dims, 0)?;
        let kind = (table.number, table.bound);
        self.small(op, Small::Gather { size, inner }, &[&table, &indices], dims, kind)
    }

    pub(super) fn cast(&mut self, op: &Operator) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        let stated = op.outputs.first().and_then(|&output| Number::of(self.graph.tensors[output].kind));
        let to = stated.ok_or_else(|| op.unsupported("to such numbers"))?;
        self.book(op, &input.dims, 0)?;
        match (to, input.number, input.bound) {
            (Number::Truth, from, _) if from != Number::Truth => {
                let dims = input.dims.clone();
                self.small(op, Small::Map(Function::Truth), &[&input], dims, (to, Some(1)))
            }
            // Fractions would have to be cut off.
            (Number::Int32 | Number::Int64, Number::Float, None) => Err(op.unsupported("of fractions to integers")),
            _ => Ok(Value { number: to, ..input }),
        }
    }

    /// float16 constants are read as f32: nothing is left to do.
    pub(super) fn dequantize(&mut self, op: &Operator) -> ModelResult<Value> {
        let [input] = self.inputs(op)?;
        match input.number {
            Number::Float => Ok(input),
            _ => Err(op.unsupported("on such numbers")),
        }
    }
}
