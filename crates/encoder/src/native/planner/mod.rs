//! Turns the model's graph into a plan: operator by operator into drafts, of which `build` makes steps.
//!
//! Whatever is not as expected is [`ModelError::Unsupported`] here: another engine takes the model, or says what is wrong with it.

mod build;
mod elementwise;
mod images;
mod shapes;

use std::sync::Arc;

use tract_tflite::tflite::TensorType;

use super::direct::Taps;
use super::finish::{Activation, Fold};
use super::isa::Isa;
use super::layout::Layout;
use super::plan::Plan;
use super::small::Small;
use crate::engine::{ModelError, ModelResult};
use crate::graph::{Graph, MAX_ELEMENTS, MAX_WORK, Operator, Tensor};
use crate::interface::Interface;
use crate::operator::{self, Kind, translate};

/// Below it f32 holds every integer.
const EXACT: usize = 1 << f32::MANTISSA_DIGITS;
const MAX_RANK: usize = 8;

/// # Errors
/// `Unsupported` for any model that this engine does not run.
pub(super) fn plan(graph: &Graph, interface: &Interface, isa: Isa) -> ModelResult<Plan> {
    let mut planner = Planner::new(graph, isa);
    let limit = interface.shape.machines.unwrap_or(EXACT);
    let (image, machine) = (interface.image.0, interface.machine.0);
    planner.input(image, None)?;
    planner.input(machine, Some(limit - 1))?;
    for op in &graph.operators {
        let value = planner.operator(op)?;
        planner.write(op, value)?;
    }
    // A dimension that the model leaves open is known only now.
    let embedding = planner.values[interface.output].as_ref().map(|value| value.dims.clone()).unwrap_or_default();
    if embedding != [1, interface.shape.embedding] {
        return Err(ModelError::Unsupported(format!("an embedding of the shape {embedding:?}")));
    }
    planner.build([image, machine, interface.output])
}

/// What numbers a value has. All are kept as f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Float,
    Int32,
    Int64,
    Truth,
}

impl Number {
    fn of(kind: TensorType) -> Option<Number> {
        match kind {
            TensorType::FLOAT32 => Some(Number::Float),
            TensorType::INT32 => Some(Number::Int32),
            TensorType::INT64 => Some(Number::Int64),
            TensorType::BOOL => Some(Number::Truth),
            _ => None,
        }
    }

    fn is_integer(self) -> bool {
        matches!(self, Number::Int32 | Number::Int64)
    }
}

/// What a tensor stands for: a buffer seen in some shape.
#[derive(Debug, Clone)]
struct Value {
    /// The tensor that it is first known by.
    tensor: usize,
    dims: Vec<usize>,
    number: Number,
    /// Of whole numbers: none is larger, up or down.
    bound: Option<usize>,
    buffer: usize,
}

impl Value {
    fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

#[derive(Debug)]
struct Buffer {
    layout: Layout,
    constant: Option<Arc<[f32]>>,
    /// Something reads or writes it as values side by side: it can have no border.
    flat: bool,
}

/// A convolution, depthwise convolution or dense layer as far as it is known before all that follows is.
#[derive(Debug)]
struct Convolution {
    input: usize,
    /// Rows, columns and channels of the image.
    image: [usize; 3],
    taps: Taps,
    /// Rows, columns and channels before they are folded.
    outputs: [usize; 3],
    depthwise: bool,
    /// `[outputs][rows][columns][inputs]`; of depthwise ones `[rows][columns][outputs]`.
    filter: Arc<[f32]>,
    /// Whether the weights are of one order of magnitude, see [`is_even`].
    even: bool,
    bias: Vec<f32>,
    activation: Activation,
    fold: Fold,
    /// The tensor that it writes, for what only follows it to be fused with it.
    tensor: usize,
    output: usize,
}

/// Whether no weight dwarfs the others. Winograd's transforms mix the weights of a filter, and rounding leaves a part in ten
/// million of the largest on all that it is mixed with; weights of trained encoders lie within some tens of their mean.
fn is_even(filter: &[f32]) -> bool {
    const LARGEST: f64 = 1000.0;
    let sum: f64 = filter.iter().map(|weight| f64::from(weight.abs())).sum();
    let largest = filter.iter().fold(0.0, |largest: f64, weight| largest.max(weight.abs().into()));
    largest * filter.len() as f64 <= LARGEST * sum
}

/// Whether the constants together cannot make one pixel of an image dwarf its neighbours. Winograd's tiles mix pixels as
/// well, so a huge one, made by any layer before, would spoil those beside it. What is bounded is the product of the largest
/// constants; for trained encoders it is below a thousand.
fn is_moderate(graph: &Graph) -> bool {
    const LARGEST: f64 = 1e6;
    let largest = |stated: &Tensor| {
        let data = stated.data.unwrap_or_default();
        let at_least_1 = |largest: f32, value: f32| largest.max(value.abs());
        match stated.kind {
            TensorType::FLOAT32 => {
                data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).fold(1.0, at_least_1)
            }
            TensorType::FLOAT16 => {
                let values = data.as_chunks().0.iter().map(|bytes| from_float16(u16::from_le_bytes(*bytes)));
                values.fold(1.0, at_least_1)
            }
            _ => 1.0,
        }
    };
    graph.tensors.iter().map(|stated| f64::from(largest(stated))).product::<f64>() <= LARGEST
}

#[derive(Debug)]
enum Draft {
    Convolution(Box<Convolution>),
    Pool {
        input: usize,
        image: [usize; 3],
        taps: Taps,
        outputs: [usize; 3],
        max: bool,
        activation: Activation,
        output: usize,
    },
    Small {
        small: Small,
        inputs: Vec<usize>,
        output: usize,
    },
}

struct Planner<'g> {
    graph: &'g Graph<'g>,
    isa: Isa,
    /// See [`is_moderate`].
    moderate: bool,
    /// By tensor.
    values: Vec<Option<Value>>,
    /// How often each tensor is read.
    readers: Vec<usize>,
    buffers: Vec<Buffer>,
    drafts: Vec<Draft>,
    elements: usize,
    work: usize,
}

impl<'g> Planner<'g> {
    fn new(graph: &'g Graph<'g>, isa: Isa) -> Self {
        let mut readers = vec![0; graph.tensors.len()];
        let read = graph.operators.iter().flat_map(|op| op.inputs.iter().flatten()).chain(&graph.outputs);
        read.for_each(|&tensor| readers[tensor] += 1);
        Planner {
            graph,
            isa,
            moderate: is_moderate(graph),
            values: vec![None; graph.tensors.len()],
            readers,
            buffers: Vec::new(),
            drafts: Vec::new(),
            elements: 0,
            work: 0,
        }
    }

    fn input(&mut self, tensor: usize, bound: Option<usize>) -> ModelResult<()> {
        let stated = &self.graph.tensors[tensor];
        let number = Number::of(stated.kind).ok_or_else(|| ModelError::Unsupported(stated.label()))?;
        let buffer = self.buffer(&stated.shape, None);
        self.buffers[buffer].flat = true;
        self.values[tensor] = Some(Value { tensor, dims: stated.shape.clone(), number, bound, buffer });
        Ok(())
    }

    fn operator(&mut self, op: &Operator) -> ModelResult<Value> {
        translate!(self, op)
    }

    /// Notes what an operator's output is, which must be as the model states it.
    fn write(&mut self, op: &Operator, value: Value) -> ModelResult<()> {
        let &[output] = &op.outputs[..] else { return Err(op.unsupported("with more than one output")) };
        let stated = &self.graph.tensors[output];
        let same = value.dims.len() == stated.shape.len()
            && (0..value.dims.len()).all(|axis| stated.free[axis] || value.dims[axis] == stated.shape[axis]);
        if !same || Number::of(stated.kind) != Some(value.number) {
            return Err(op.unsupported(&format!("that writes {:?} to {:?}", value.dims, stated.shape)));
        }
        self.values[output] = Some(Value { tensor: output, ..value });
        Ok(())
    }

    // What the operators' translations are written with.

    fn buffer(&mut self, dims: &[usize], constant: Option<Arc<[f32]>>) -> usize {
        let layout = match *dims {
            [1, rows, columns, channels] => Layout::new(rows, columns, channels),
            _ => Layout::new(1, 1, dims.iter().product()),
        };
        self.buffers.push(Buffer { layout, constant, flat: false });
        self.buffers.len() - 1
    }

    fn value(&mut self, op: &Operator, tensor: usize) -> ModelResult<Value> {
        if let Some(value) = &self.values[tensor] {
            return Ok(value.clone());
        }
        let (number, bound, values) = constant(self.graph, tensor).ok_or_else(|| {
            op.unsupported(&format!(
                "on {} of type {}",
                self.graph.tensors[tensor].label(),
                self.graph.tensors[tensor].type_name()
            ))
        })?;
        let dims = self.graph.tensors[tensor].shape.clone();
        let buffer = self.buffer(&dims, Some(values));
        let value = Value { tensor, dims, number, bound, buffer };
        self.values[tensor] = Some(value.clone());
        Ok(value)
    }

    /// Input `position`, where it is there.
    fn optional(&mut self, op: &Operator, position: usize) -> ModelResult<Option<Value>> {
        op.inputs.get(position).copied().flatten().map(|tensor| self.value(op, tensor)).transpose()
    }

    fn all_inputs(&mut self, op: &Operator) -> ModelResult<Vec<Value>> {
        let input =
            |input: &Option<usize>| self.value(op, input.ok_or_else(|| op.unsupported("with an input left out"))?);
        op.inputs.iter().map(input).collect()
    }

    fn inputs<const N: usize>(&mut self, op: &Operator) -> Result<[Value; N], ModelError> {
        self.all_inputs(op)?.try_into().map_err(|_| op.unsupported(&format!("without exactly {N} inputs")))
    }

    fn constant_of(&self, value: &Value) -> Option<&Arc<[f32]>> {
        self.buffers[value.buffer].constant.as_ref()
    }

    /// A list of integers that is known before the first window.
    fn integers(&mut self, op: &Operator, position: usize) -> ModelResult<Vec<i64>> {
        let missing = || op.unsupported("with a list that depends on the input");
        let tensor = op.inputs.get(position).copied().flatten().ok_or_else(missing)?;
        let stated = &self.graph.tensors[tensor];
        if stated.shape.len() > 2 {
            return Err(missing());
        }
        if let Some(data) = stated.data {
            return operator_integers(stated.kind, data).ok_or_else(missing);
        }
        let value = self.value(op, tensor)?;
        let list = self.constant_of(&value).filter(|_| value.number.is_integer() && value.dims.len() < 3);
        Ok(list.ok_or_else(missing)?.iter().map(|&value| value as i64).collect())
    }

    /// An axis as models write it, where negative ones count from the end.
    fn axis(op: &Operator, axis: i64, rank: usize) -> ModelResult<usize> {
        let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let axis = usize::try_from(from_start).ok().filter(|&axis| axis < rank);
        axis.ok_or_else(|| op.unsupported("along an axis that there is not"))
    }

    /// Books `dims` as the output of an operator that takes `work` multiply-adds.
    fn book(&mut self, op: &Operator, dims: &[usize], work: usize) -> ModelResult<()> {
        let elements = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let elements = elements.filter(|&elements| elements > 0 && dims.len() <= MAX_RANK);
        let total = elements.and_then(|elements| self.elements.checked_add(elements));
        let work = self.work.checked_add(work.max(elements.unwrap_or(0)));
        match (total, work) {
            (Some(total), Some(work)) if total <= MAX_ELEMENTS && work <= MAX_WORK => {
                (self.elements, self.work) = (total, work);
                Ok(())
            }
            _ => Err(op.unsupported(&format!("of this size: {dims:?}"))),
        }
    }

    /// Adds a small step, or computes at once what depends on constants alone. The output is booked before.
    fn small(
        &mut self,
        op: &Operator,
        small: Small,
        inputs: &[&Value],
        dims: Vec<usize>,
        (number, bound): (Number, Option<usize>),
    ) -> ModelResult<Value> {
        let known: Option<Vec<&[f32]>> =
            inputs.iter().map(|input| self.constant_of(input).map(|values| &**values)).collect();
        let constant = match known {
            Some(known) => {
                let mut output = vec![0.0; dims.iter().product()];
                small.run(&known, &mut output).map_err(|_| op.unsupported("with an index beyond its table"))?;
                Some(output.into())
            }
            None => None,
        };
        let computed = constant.is_some();
        let output = self.buffer(&dims, constant);
        self.buffers[output].flat = true;
        if !computed {
            let inputs: Vec<usize> = inputs.iter().map(|input| input.buffer).collect();
            inputs.iter().for_each(|&input| self.buffers[input].flat = true);
            self.drafts.push(Draft::Small { small, inputs, output });
        }
        Ok(Value { tensor: usize::MAX, dims, number, bound, buffer: output })
    }
}

fn activation(fused: operator::Activation) -> Activation {
    match fused {
        operator::Activation::None => Activation::NONE,
        operator::Activation::Relu => Activation::RELU,
        operator::Activation::Relu6 => Activation::RELU6,
    }
}

fn operator_integers(kind: TensorType, data: &[u8]) -> Option<Vec<i64>> {
    match kind {
        TensorType::INT32 => {
            Some(data.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect())
        }
        TensorType::INT64 => Some(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        _ => None,
    }
}

/// A constant as f32, with the bound of whole numbers; `None` where f32 does not hold it.
fn constant(graph: &Graph, tensor: usize) -> Option<(Number, Option<usize>, Arc<[f32]>)> {
    let stated = &graph.tensors[tensor];
    let data = stated.data?;
    match stated.kind {
        TensorType::FLOAT32 => {
            Some((Number::Float, None, data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
        }
        TensorType::FLOAT16 => {
            let values = data.as_chunks().0.iter().map(|bytes| from_float16(u16::from_le_bytes(*bytes))).collect();
            Some((Number::Float, None, values))
        }
        TensorType::BOOL => Some((Number::Truth, Some(1), data.iter().map(|&byte| f32::from(byte != 0)).collect())),
        kind => {
            let integers = operator_integers(kind, data)?;
            let bound = integers.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0);
            let bound = usize::try_from(bound).ok().filter(|&bound| bound <= EXACT)?;
            Some((Number::of(kind)?, Some(bound), integers.iter().map(|&value| value as f32).collect()))
        }
    }
}

/// The value of an IEEE half; the graph has seen that it is finite.
fn from_float16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-24),
        _ => sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}
