//! The steps beside convolutions: arithmetic, sums, lookups, moves. All values are `f32`; integers and truths too, as far
//! as they are exact in it.

use super::finish::Activation;
use super::strided::{View, each};
use crate::operator::Arithmetic;

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    Activation(Activation),
    Logistic,
    Tanh,
    /// Anything but 0 is 1.
    Truth,
}

/// A function of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    Arithmetic(Arithmetic),
    Less,
}

/// What is computed from values that lie without a border, in the order of the step's inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Small {
    Map(Function),
    Zip {
        pair: Pair,
        activation: Activation,
        dims: Vec<usize>,
        views: [View; 2],
    },
    /// Where the first is not 0 the second, else the third.
    Select {
        dims: Vec<usize>,
        views: [View; 3],
    },
    /// Copies each input to its place in the output, which is cleared before.
    Move {
        parts: Vec<Part>,
        activation: Activation,
    },
    /// Sums along `inner` for each element of `outer`, times `scale`.
    Reduce {
        outer: (Vec<usize>, View),
        inner: (Vec<usize>, View),
        scale: f64,
    },
    Softmax {
        length: usize,
        beta: f32,
    },
    /// Rows of a table (the first input) by index (the second): `[outer][size][inner]` gives `[outer][indices][inner]`.
    Gather {
        size: usize,
        inner: usize,
    },
}

/// A piece of an output that is copied.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub dims: Vec<usize>,
    pub from: View,
    pub to: View,
}

impl Part {
    fn copy(&self, input: &[f32], output: &mut [f32]) {
        let side_by_side = |view: &View| view.strides.last() == Some(&1);
        match self.dims.split_last() {
            Some((&length, outer)) if side_by_side(&self.from) && side_by_side(&self.to) => {
                each(outer, [&self.from.outer(), &self.to.outer()], |[from, to]| {
                    output[to..to + length].copy_from_slice(&input[from..from + length]);
                });
            }
            _ => each(&self.dims, [&self.from, &self.to], |[from, to]| output[to] = input[from]),
        }
    }
}

/// An index that its table does not have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct OutOfTable {
    pub index: f32,
    pub size: usize,
}

impl Small {
    /// # Errors
    /// Where a lookup's index is beyond its table.
    pub fn run(&self, inputs: &[&[f32]], output: &mut [f32]) -> Result<(), OutOfTable> {
        match self {
            Small::Map(function) => map(*function, inputs[0], output),
            Small::Zip { pair, activation, dims, views } => {
                zip(*pair, dims, views, [inputs[0], inputs[1]], output);
                activate(*activation, output);
            }
            Small::Select { dims, views: [condition, yes, no] } => {
                let mut place = output.iter_mut();
                each(dims, [condition, yes, no], |[condition, yes, no]| {
                    let chosen = if inputs[0][condition] != 0.0 { inputs[1][yes] } else { inputs[2][no] };
                    if let Some(place) = place.next() {
                        *place = chosen;
                    }
                });
            }
            Small::Move { parts, activation } => {
                output.fill(0.0);
                parts.iter().zip(inputs).for_each(|(part, input)| part.copy(input, output));
                activate(*activation, output);
            }
            Small::Reduce { outer, inner, scale } => {
                let mut place = output.iter_mut();
                each(&outer.0, [&outer.1], |[first]| {
                    let mut sum = 0.0_f64;
                    each(&inner.0, [&inner.1], |[at]| sum += f64::from(inputs[0][first + at]));
                    if let Some(place) = place.next() {
                        *place = (sum * scale) as f32;
                    }
                });
            }
            Small::Softmax { length, beta } => softmax(*length, *beta, inputs[0], output),
            Small::Gather { size, inner } => gather(*size, *inner, inputs[0], inputs[1], output)?,
        }
        Ok(())
    }
}

/// The same as `Activation::apply`, for one value.
fn activated(activation: Activation, value: f32) -> f32 {
    (value.max(0.0) + activation.slope * value.min(0.0)).min(activation.limit)
}

fn activate(activation: Activation, values: &mut [f32]) {
    if activation != Activation::NONE {
        values.iter_mut().for_each(|value| *value = activated(activation, *value));
    }
}

fn map(function: Function, input: &[f32], output: &mut [f32]) {
    let compute = |compute: fn(f32) -> f32, output: &mut [f32]| {
        output.iter_mut().zip(input).for_each(|(place, &value)| *place = compute(value));
    };
    match function {
        Function::Activation(activation) => {
            output.iter_mut().zip(input).for_each(|(place, &value)| *place = activated(activation, value));
        }
        Function::Logistic => compute(|value| 1.0 / (1.0 + (-value).exp()), output),
        Function::Tanh => compute(f32::tanh, output),
        Function::Truth => compute(|value| f32::from(value != 0.0), output),
    }
}

fn zip(pair: Pair, dims: &[usize], [left, right]: &[View; 2], [a, b]: [&[f32]; 2], output: &mut [f32]) {
    let mut compute = |compute: fn(f32, f32) -> f32| {
        let mut place = output.iter_mut();
        each(dims, [left, right], |[left, right]| {
            if let Some(place) = place.next() {
                *place = compute(a[left], b[right]);
            }
        });
    };
    match pair {
        Pair::Arithmetic(Arithmetic::Add) => compute(|a, b| a + b),
        Pair::Arithmetic(Arithmetic::Sub) => compute(|a, b| a - b),
        Pair::Arithmetic(Arithmetic::Mul) => compute(|a, b| a * b),
        Pair::Arithmetic(Arithmetic::Div) => compute(|a, b| a / b),
        Pair::Less => compute(|a, b| f32::from(a < b)),
    }
}

fn softmax(length: usize, beta: f32, input: &[f32], output: &mut [f32]) {
    for (row, input) in output.chunks_exact_mut(length).zip(input.chunks_exact(length)) {
        let greatest = input.iter().map(|value| value * beta).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (place, value) in row.iter_mut().zip(input) {
            *place = (value * beta - greatest).exp();
            sum += *place;
        }
        row.iter_mut().for_each(|value| *value /= sum);
    }
}

fn gather(size: usize, inner: usize, table: &[f32], indices: &[f32], output: &mut [f32]) -> Result<(), OutOfTable> {
    if let Some(&index) = indices.iter().find(|&&index| !(0.0..size as f32).contains(&index)) {
        return Err(OutOfTable { index, size });
    }
    let rows = output.chunks_exact_mut(indices.len() * inner).zip(table.chunks_exact(size * inner));
    for (output, table) in rows {
        for (row, &index) in output.chunks_exact_mut(inner).zip(indices) {
            row.copy_from_slice(&table[index as usize * inner..][..inner]);
        }
    }
    Ok(())
}
