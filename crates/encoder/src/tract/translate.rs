//! From the checked graph to a tract model, operator by operator.
//!
//! Each operator's output shape is computed here, with checked arithmetic and against a budget, before tract is asked
//! for it; tract's own answer must then be the same. Batch is 1, so all shapes are known, and what a model computes
//! about its shapes (SHAPE, STRIDED_SLICE, PACK) is a constant by the time RESHAPE reads it.

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cast::cast;
use tract_tflite::tflite::TensorType;

use crate::engine::{EncoderError, ModelError, ModelResult, one_line};
use crate::graph::{self, Graph, MAX_ELEMENTS, MAX_WORK, Operator};
use crate::interface::{IndexType, Interface};
use crate::operator::{Kind, translate};

pub(crate) struct Translation {
    pub model: TypedModel,
    /// Sizes of the tables whose (unclamped) indices are the model's outputs after the embedding.
    pub tables: Vec<usize>,
}

/// Whether an engine that trusts its model may be given this one: its shapes are followed as far as that goes. What an
/// operator gives that is not translated is taken as the model states it, where the statement can be relied on; from
/// there on nothing is known. Numbers of other types are followed as if they were float32.
///
/// # Errors
/// `Model` where the model is wrong; an operator that is merely not translated is no error.
pub(crate) fn check(graph: &Graph, interface: &Interface) -> Result<(), EncoderError> {
    let mut translator = Translator::new(graph, interface, true)?;
    let mut unknown = vec![false; graph.tensors.len()];
    for operator in &graph.operators {
        let result = if operator.inputs.iter().flatten().any(|&input| unknown[input]) {
            None
        } else {
            match translator.operator(operator) {
                Ok(output) => Some(output),
                Err(ModelError::Unsupported(_)) => None,
                Err(error) => return Err(error.into()),
            }
        };
        match (result, &operator.outputs[..]) {
            (Some(wire), &[output]) => translator.written(operator, output, wire)?,
            _ => {
                for &output in &operator.outputs {
                    unknown[output] = !translator.believe(operator, output)?;
                }
            }
        }
    }
    if unknown[interface.output] {
        return Ok(());
    }
    translator.finish(interface)?;
    Ok(())
}

/// # Errors
/// `Model` where the model is wrong or has an operator that is not translated.
pub(crate) fn translate(graph: &Graph, interface: &Interface) -> Result<Translation, EncoderError> {
    check_types(graph)?;
    let mut translator = Translator::new(graph, interface, false)?;
    for operator in &graph.operators {
        let output = translator.operator(operator)?;
        let [written] = operator.outputs[..] else {
            return Err(operator.invalid(format!("expected one output, found {}", operator.outputs.len())).into());
        };
        translator.written(operator, written, output)?;
    }
    Ok(translator.finish(interface)?)
}

/// Names the first operator or type that is not ours before anything is built.
fn check_types(graph: &Graph) -> ModelResult<()> {
    for operator in &graph.operators {
        for &index in operator.inputs.iter().flatten().chain(&operator.outputs) {
            let tensor = &graph.tensors[index];
            let known = match tensor.kind {
                TensorType::FLOAT32 | TensorType::INT32 | TensorType::INT64 | TensorType::BOOL => true,
                TensorType::FLOAT16 => tensor.data.is_some() && operator.kind == Kind::Dequantize,
                _ => false,
            };
            if !known {
                return Err(ModelError::Unsupported(format!(
                    "{} on {} of type {}",
                    operator.label(),
                    tensor.label(),
                    tensor.type_name()
                )));
            }
        }
        match &operator.kind {
            Kind::Other(what) => return Err(ModelError::Unsupported(what.clone())),
            Kind::EmbeddingLookup => return Err(ModelError::Unsupported(operator.label())),
            _ => {}
        }
    }
    Ok(())
}

pub(super) struct Translator<'g> {
    graph: &'g Graph<'g>,
    /// Only shapes are followed: values of other types count as float32.
    checking: bool,
    model: TypedModel,
    /// By tensor index: where its value comes from.
    wires: Vec<Option<OutletId>>,
    /// Raw indices of the lookups and the sizes of their tables.
    tables: Vec<(OutletId, usize)>,
    elements: usize,
    work: usize,
    names: usize,
}

impl<'g> Translator<'g> {
    fn new(graph: &'g Graph<'g>, interface: &Interface, checking: bool) -> ModelResult<Self> {
        let mut translator = Translator {
            graph,
            checking,
            model: TypedModel::default(),
            wires: vec![None; graph.tensors.len()],
            tables: Vec::new(),
            elements: 0,
            work: 0,
            names: 0,
        };
        let index_type = match interface.machine_type {
            IndexType::F32 => f32::datum_type(),
            IndexType::I32 => i32::datum_type(),
            IndexType::I64 => i64::datum_type(),
        };
        for ((tensor, dims), datum) in [(&interface.image, f32::datum_type()), (&interface.machine, index_type)] {
            translator.source(*tensor, datum, dims)?;
        }
        Ok(translator)
    }

    fn source(&mut self, tensor: usize, datum: DatumType, dims: &[usize]) -> ModelResult<()> {
        let source = self.model.add_source(format!("input {tensor}"), datum.fact(dims)).map_err(tract_fault)?;
        self.wires[tensor] = Some(source);
        Ok(())
    }

    /// Takes as given what the model states of a tensor that an unknown operator writes: where no dimension is left to
    /// be found out at run time, or where it is like an input of that operator.
    fn believe(&mut self, operator: &Operator, output: usize) -> ModelResult<bool> {
        let tensor = &self.graph.tensors[output];
        let like_input = || {
            operator
                .inputs
                .iter()
                .flatten()
                .filter_map(|&input| self.wires[input])
                .any(|wire| self.dims(wire)[..] == tensor.shape[..])
        };
        if tensor.free.contains(&true) && !like_input() {
            return Ok(false);
        }
        let datum = plain_type(tensor.kind).unwrap_or(f32::datum_type());
        self.source(output, datum, &tensor.shape)?;
        Ok(true)
    }

    /// Notes where a tensor's value comes from. What the model states of it must be so, for LiteRT reserves memory and
    /// shares it out by that before it computes.
    fn written(&mut self, op: &Operator, output: usize, wire: OutletId) -> ModelResult<()> {
        let tensor = &self.graph.tensors[output];
        let (dims, datum) = (self.dims(wire), self.datum(wire));
        let same_dims = dims.len() == tensor.shape.len()
            && (0..dims.len()).all(|axis| tensor.free[axis] || dims[axis] == tensor.shape[axis]);
        let same_type = plain_type(tensor.kind).map_or(self.checking, |stated| stated == datum);
        if !same_dims || !same_type {
            return Err(op.invalid(format!(
                "expected {} {:?} as the model states for {}, found that it computes {datum:?} {dims:?}",
                tensor.type_name(),
                tensor.shape,
                tensor.label()
            )));
        }
        self.wires[output] = Some(wire);
        Ok(())
    }

    fn operator(&mut self, op: &Operator) -> ModelResult<OutletId> {
        translate!(self, op)
    }

    fn finish(mut self, interface: &Interface) -> ModelResult<Translation> {
        let output = self.wires[interface.output].expect("every output is written by an operator");
        let found = self.dims(output);
        if self.datum(output) != f32::datum_type() || found[..] != [1, interface.shape.embedding] {
            return Err(ModelError::Invalid(format!(
                "{}: expected [1, {}] as the model states, found that it computes {found:?}",
                self.graph.tensors[interface.output].label(),
                interface.shape.embedding
            )));
        }
        let outputs: Vec<_> = [output].into_iter().chain(self.tables.iter().map(|(indices, _)| *indices)).collect();
        self.model.select_output_outlets(&outputs).map_err(tract_fault)?;
        Ok(Translation { model: self.model, tables: self.tables.into_iter().map(|(_, size)| size).collect() })
    }

    // What the operators' translations are written with.

    /// The operator's inputs, exactly as many as asked for.
    pub(super) fn inputs<const N: usize>(&mut self, op: &Operator) -> Result<[OutletId; N], ModelError> {
        let present: Vec<usize> = op.inputs.iter().flatten().copied().collect();
        if present.len() != op.inputs.len() || present.len() != N {
            return Err(op.invalid(format!("expected {N} inputs, found {}", present.len())));
        }
        let mut wires = [OutletId::new(0, 0); N];
        for (wire, index) in wires.iter_mut().zip(present) {
            *wire = self.wire_of(index)?;
        }
        Ok(wires)
    }

    /// All inputs, of which none may be left out.
    pub(super) fn all_inputs(&mut self, op: &Operator) -> ModelResult<Vec<OutletId>> {
        op.inputs
            .iter()
            .map(|input| {
                self.wire_of(input.ok_or_else(|| op.invalid("expected all inputs, found one left out".into()))?)
            })
            .collect()
    }

    /// Input `number`, where it is there.
    pub(super) fn optional_input(&mut self, op: &Operator, number: usize) -> ModelResult<Option<OutletId>> {
        op.inputs.get(number).copied().flatten().map(|index| self.wire_of(index)).transpose()
    }

    fn wire_of(&mut self, index: usize) -> ModelResult<OutletId> {
        if let Some(wire) = self.wires[index] {
            return Ok(wire);
        }
        let tensor = &self.graph.tensors[index];
        let Some(data) = tensor.data else {
            return Err(ModelError::Unsupported(format!("{}, a state kept from run to run,", tensor.label())));
        };
        let constant = constant(tensor.kind, &tensor.shape, data)
            .or_else(|| self.checking.then(|| Tensor::zero::<f32>(&tensor.shape).ok()).flatten())
            .ok_or_else(|| ModelError::Unsupported(format!("{} of type {}", tensor.label(), tensor.type_name())))?;
        let wire = self.constant(constant)?;
        self.wires[index] = Some(wire);
        Ok(wire)
    }

    pub(super) fn model(&mut self) -> &mut TypedModel {
        &mut self.model
    }

    pub(super) fn unique_name(&mut self, op: &Operator) -> String {
        self.names += 1;
        format!("{} {}", op.label(), self.names)
    }

    pub(super) fn constant(&mut self, tensor: Tensor) -> ModelResult<OutletId> {
        self.names += 1;
        self.model.add_const(format!("constant {}", self.names), tensor).map_err(tract_fault)
    }

    pub(super) fn dims(&self, wire: OutletId) -> TVec<usize> {
        let fact = self.model.outlet_fact(wire).expect("wires lead to outlets of this model");
        fact.shape.as_concrete().expect("all shapes are known at batch 1").into()
    }

    pub(super) fn datum(&self, wire: OutletId) -> DatumType {
        self.model.outlet_fact(wire).expect("wires lead to outlets of this model").datum_type
    }

    /// Whether only shapes are followed.
    pub(super) fn checking(&self) -> bool {
        self.checking
    }

    pub(super) fn known(&self, wire: OutletId) -> Option<Arc<Tensor>> {
        self.model.outlet_fact(wire).expect("wires lead to outlets of this model").konst.clone()
    }

    /// A list of integers (axes, a shape) that must be known before the first window.
    pub(super) fn integers(&self, op: &Operator, wire: OutletId, what: &str) -> ModelResult<Vec<i64>> {
        let Some(known) = self.known(wire) else {
            return Err(op.unsupported(&format!("with {what} that depend on the input")));
        };
        if !known.datum_type().is_integer() || known.rank() > 2 {
            return Err(op.invalid(format!(
                "expected a list of integers as {what}, found {:?} {:?}",
                known.datum_type(),
                known.shape()
            )));
        }
        let list = known.cast_to::<i64>().map_err(tract_fault)?;
        Ok(list.to_plain_array_view::<i64>().map_err(tract_fault)?.iter().copied().collect())
    }

    /// # Errors
    /// Where the wires are not all of one type, or of none of `types`.
    pub(super) fn expect_type(&self, op: &Operator, wires: &[OutletId], types: &[DatumType]) -> ModelResult<DatumType> {
        let found: Vec<DatumType> = wires.iter().map(|&wire| self.datum(wire)).collect();
        match found.first() {
            Some(first) if found.iter().any(|other| other != first) => {
                Err(op.invalid(format!("expected inputs of one type, found {found:?}")))
            }
            Some(first) if types.contains(first) => Ok(*first),
            _ => Err(op.unsupported(&format!("on {found:?}"))),
        }
    }

    /// Books `dims` as the output of an operator that takes `work` multiply-adds.
    pub(super) fn book(&mut self, op: &Operator, dims: &[usize], work: usize) -> ModelResult<()> {
        let elements = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        if dims.contains(&0) {
            return Err(op.invalid(format!("expected an output with dimensions above 0, found {dims:?}")));
        }
        let total = elements.and_then(|elements| self.elements.checked_add(elements));
        self.elements = total.filter(|&total| total <= MAX_ELEMENTS).ok_or_else(|| {
            op.invalid(format!(
                "expected at most {MAX_ELEMENTS} elements up to here, found {dims:?} on top of {}",
                self.elements
            ))
        })?;
        let work = self.work.checked_add(work.max(elements.unwrap_or(usize::MAX)));
        self.work = work
            .filter(|&work| work <= MAX_WORK)
            .ok_or_else(|| op.invalid(format!("expected at most {MAX_WORK} multiply-adds up to here, found more")))?;
        Ok(())
    }

    /// Adds one tract operator; `dims` is what it must give, booked before.
    pub(super) fn wire(
        &mut self,
        op: &Operator,
        tract: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
        dims: &[usize],
    ) -> ModelResult<OutletId> {
        let name = self.unique_name(op);
        let fault = |error: TractError| op.invalid(format!("tract refuses it: {}", one_line(&format!("{error:#}"))));
        let [output] = self.model.wire_node(name, tract, inputs).map_err(fault)?[..] else {
            return Err(op.invalid("expected one output".into()));
        };
        let found = self.model.outlet_fact(output).map_err(fault)?.shape.as_concrete().map(<[usize]>::to_vec);
        if found.as_deref() != Some(dims) {
            return Err(op.invalid(format!("expected the shape {dims:?}, found that tract computes {found:?}")));
        }
        Ok(output)
    }

    pub(super) fn cast_to(&mut self, op: &Operator, wire: OutletId, to: DatumType) -> ModelResult<OutletId> {
        if self.datum(wire) == to {
            return Ok(wire);
        }
        let dims = self.dims(wire);
        self.wire(op, cast(to), &[wire], &dims)
    }

    /// Keeps the raw `indices` as an output of the model, to be checked against `size` after each run.
    pub(super) fn watch(&mut self, indices: OutletId, size: usize) {
        self.tables.push((indices, size));
    }

    /// The type that the model states for what `op` writes.
    pub(super) fn stated_type(&self, op: &Operator) -> ModelResult<DatumType> {
        let output = op.outputs.first().map(|&index| &self.graph.tensors[index]);
        match output.map(|tensor| tensor.kind) {
            Some(kind) => plain_type(kind).ok_or_else(|| op.unsupported(&format!("to {}", graph::type_name(kind)))),
            None => Err(op.invalid("expected one output, found none".into())),
        }
    }
}

pub(super) fn tract_fault(error: TractError) -> ModelError {
    ModelError::Invalid(format!("tract refuses the model: {}", one_line(&format!("{error:#}"))))
}

/// The types that are computed with.
fn plain_type(kind: TensorType) -> Option<DatumType> {
    match kind {
        TensorType::FLOAT32 => Some(f32::datum_type()),
        TensorType::INT32 => Some(i32::datum_type()),
        TensorType::INT64 => Some(i64::datum_type()),
        TensorType::BOOL => Some(bool::datum_type()),
        _ => None,
    }
}

/// A constant's bytes, whose number the graph has checked, as a tensor; float16 at once as float32.
fn constant(kind: TensorType, dims: &[usize], data: &[u8]) -> Option<Tensor> {
    match kind {
        TensorType::FLOAT32 => numbers(dims, data, f32::from_le_bytes),
        TensorType::INT32 => numbers(dims, data, i32::from_le_bytes),
        TensorType::INT64 => numbers(dims, data, i64::from_le_bytes),
        TensorType::BOOL => numbers(dims, data, |[byte]: [u8; 1]| byte != 0),
        TensorType::FLOAT16 => numbers(dims, data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        _ => None,
    }
}

fn numbers<const N: usize, T: Datum + Copy>(
    dims: &[usize],
    data: &[u8],
    number: impl Fn([u8; N]) -> T,
) -> Option<Tensor> {
    let numbers: Vec<T> = data.as_chunks().0.iter().map(|chunk| number(*chunk)).collect();
    Tensor::from_shape(dims, &numbers).ok()
}
