//! The model file as checked data: what is inside the flatbuffer, without a byte that points outside of it.
//!
//! Nothing here belongs to one engine: both are given only models that passed these checks, because what runs behind
//! them (LiteRT is C++) trusts the indices and sizes that a file states.

use tract_tflite::tflite;
use tract_tflite::tflite::TensorType;

use super::engine::{EncoderError, ModelError, ModelResult};
use super::operator::{self, Kind};

/// The activations of one model together: 50 MB as f32. The real encoder has 3.6 M elements. With the largest file that
/// is read (`bundle/files.rs`) this keeps every engine below 150 MB above the bundle's files, whatever the model.
pub(super) const MAX_ELEMENTS: usize = 12 << 20;
/// Multiply-adds of one window; the real encoder has 231 M. A bundle may have 64 golden cases.
pub(super) const MAX_WORK: usize = 1 << 30;
const MAX_TENSORS: usize = 1 << 14;
const MAX_OPERATORS: usize = 1 << 12;
const MAX_SUBGRAPHS: usize = 64;
const MAX_RANK: usize = 8;

/// Slots of tables that newer writers use to point outside of the flatbuffer, and that no verifier of it covers.
const BUFFER_OFFSET: u16 = 6;
const BUFFER_SIZE: u16 = 8;
const OPERATOR_LARGE_CUSTOM_OPTIONS_OFFSET: u16 = 22;
const OPERATOR_LARGE_CUSTOM_OPTIONS_SIZE: u16 = 24;

/// One subgraph: tensors by index, operators in the order in which they run.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub tensors: Vec<Tensor<'a>>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub index: usize,
    name: &'a str,
    pub kind: TensorType,
    /// As the file states it, with 1 for a free batch dimension.
    pub shape: Vec<usize>,
    /// Which dimensions are only known at run time; `shape` has 1 for them.
    pub free: Vec<bool>,
    /// The bytes of a constant, as many as type and shape need.
    pub data: Option<&'a [u8]>,
    variable: bool,
}

#[derive(Debug)]
pub(super) struct Operator {
    pub number: usize,
    /// As in the schema, `CONV_2D`; for a custom operator its own name.
    pub name: String,
    pub kind: Kind,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
}

impl Tensor<'_> {
    /// For messages: `tensor 3 "dense/bias"`.
    pub fn label(&self) -> String {
        format!("tensor {} {:?}", self.index, self.name.chars().take(60).collect::<String>())
    }

    pub fn type_name(&self) -> String {
        type_name(self.kind)
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Operator {
    /// For messages: `operator 3 CONV_2D`.
    pub fn label(&self) -> String {
        format!("operator {} {}", self.number, self.name)
    }

    pub fn invalid(&self, problem: String) -> ModelError {
        ModelError::Invalid(format!("{}: {problem}", self.label()))
    }

    pub fn unsupported(&self, what: &str) -> ModelError {
        ModelError::Unsupported(format!("{} {what}", self.label()))
    }
}

/// Reads and checks `model`; the answer is the main subgraph, the others are checked and left.
///
/// # Errors
/// `Model` for anything that is not as the schema wants it.
pub(super) fn read(model: &[u8]) -> Result<Graph<'_>, EncoderError> {
    Ok(read_model(model)?)
}

fn read_model(bytes: &[u8]) -> ModelResult<Graph<'_>> {
    if bytes.get(4..8) != Some(b"TFL3") {
        return invalid(format!("expected a TFLite model (identifier TFL3), found {} other bytes", bytes.len()));
    }
    let model = tflite::root_as_model(bytes).map_err(|error| {
        ModelError::Invalid(format!(
            "expected a whole TFLite flatbuffer, found {}",
            super::engine::one_line(&error.to_string())
        ))
    })?;
    if model.version() != 3 {
        return invalid(format!("expected schema version 3, found {}", model.version()));
    }
    let mut buffers = Vec::new();
    for (index, buffer) in model.buffers().into_iter().flatten().enumerate() {
        let table = buffer._tab.vtable();
        if table.get(BUFFER_OFFSET) != 0 || table.get(BUFFER_SIZE) != 0 {
            return invalid(format!("buffer {index}: expected its bytes inside of the flatbuffer, found them outside"));
        }
        buffers.push(buffer.data().map(|data| data.bytes()).filter(|data| !data.is_empty()));
    }
    let codes: Vec<_> = model.operator_codes().into_iter().flatten().collect();
    let subgraphs: Vec<_> = model.subgraphs().into_iter().flatten().collect();
    if subgraphs.is_empty() || subgraphs.len() > MAX_SUBGRAPHS {
        return invalid(format!("expected 1 to {MAX_SUBGRAPHS} subgraphs, found {}", subgraphs.len()));
    }
    check_names(&model, &subgraphs)?;
    let mut budget = MAX_ELEMENTS;
    let mut main = None;
    for subgraph in &subgraphs {
        let graph = read_subgraph(subgraph, &codes, &buffers, &mut budget)?;
        main.get_or_insert(graph);
    }
    Ok(main.expect("there is at least one subgraph"))
}

/// A signature gives names to the inputs and outputs of a subgraph; LiteRT addresses the model through the first one,
/// and looks up the names of all of them and of the metadata.
fn check_names(model: &tflite::Model, subgraphs: &[tflite::SubGraph]) -> ModelResult<()> {
    let buffers = model.buffers().map_or(0, |buffers| buffers.len());
    for (number, metadata) in model.metadata().into_iter().flatten().enumerate() {
        if metadata.name().is_none() || metadata.buffer() as usize >= buffers {
            return invalid(format!("metadata {number}: expected a name and a buffer below {buffers}"));
        }
    }
    for (number, signature) in model.signature_defs().into_iter().flatten().enumerate() {
        let subgraph = signature.subgraph_index() as usize;
        let Some(graph) = subgraphs.get(subgraph).filter(|_| number > 0 || subgraph == 0) else {
            return invalid(format!(
                "signature {number}: expected it to be of a subgraph, the first of the first, found {subgraph}"
            ));
        };
        for (what, maps, ends) in
            [("inputs", signature.inputs(), graph.inputs()), ("outputs", signature.outputs(), graph.outputs())]
        {
            let mut named: Vec<_> = maps.into_iter().flatten().map(|map| i64::from(map.tensor_index())).collect();
            let mut expected: Vec<_> = ends.into_iter().flatten().map(i64::from).collect();
            named.sort_unstable();
            expected.sort_unstable();
            let mut names: Vec<_> = maps.into_iter().flatten().filter_map(|map| map.name()).collect();
            names.sort_unstable();
            names.dedup();
            if signature.signature_key().is_none() || named != expected || names.len() != named.len() {
                return invalid(format!(
                    "signature {number}: expected names for the {what} {expected:?}, found some for {named:?}"
                ));
            }
        }
    }
    Ok(())
}

fn read_subgraph<'a>(
    subgraph: &tflite::SubGraph<'a>,
    codes: &[tflite::OperatorCode<'a>],
    buffers: &[Option<&'a [u8]>],
    budget: &mut usize,
) -> ModelResult<Graph<'a>> {
    let count = subgraph.tensors().map_or(0, |tensors| tensors.len());
    if count == 0 || count > MAX_TENSORS {
        return invalid(format!("expected 1 to {MAX_TENSORS} tensors, found {count}"));
    }
    let mut tensors = Vec::with_capacity(count);
    for (index, tensor) in subgraph.tensors().into_iter().flatten().enumerate() {
        tensors.push(read_tensor(index, &tensor, buffers, budget)?);
    }
    let count = subgraph.operators().map_or(0, |operators| operators.len());
    if count > MAX_OPERATORS {
        return invalid(format!("expected at most {MAX_OPERATORS} operators, found {count}"));
    }
    let indices = |what: &str, list: Option<flatbuffers::Vector<i32>>| -> ModelResult<Vec<Option<usize>>> {
        list.into_iter().flatten().map(|index| tensor_index(what, index, tensors.len())).collect()
    };
    let mut operators = Vec::with_capacity(count);
    for (number, operator) in subgraph.operators().into_iter().flatten().enumerate() {
        let Some(code) = codes.get(operator.opcode_index() as usize) else {
            return invalid(format!(
                "operator {number}: expected an operator code below {}, found {}",
                codes.len(),
                operator.opcode_index()
            ));
        };
        let table = operator._tab.vtable();
        if table.get(OPERATOR_LARGE_CUSTOM_OPTIONS_OFFSET) != 0 || table.get(OPERATOR_LARGE_CUSTOM_OPTIONS_SIZE) != 0 {
            return invalid(format!(
                "operator {number}: expected its options inside of the flatbuffer, found them outside"
            ));
        }
        let name = operator::name(code);
        let label = format!("operator {number} {name}");
        let inputs = indices(&label, operator.inputs())?;
        let outputs = present(&label, indices(&label, operator.outputs())?)?;
        indices(&label, operator.intermediates())?;
        let kind = operator::parse(&label, &operator, code)?;
        check_operands(&label, &kind, &inputs, &outputs)?;
        operators.push(Operator { number, name, kind, inputs, outputs });
    }
    let inputs = present("the model's inputs", indices("the model's inputs", subgraph.inputs())?)?;
    let outputs = present("the model's outputs", indices("the model's outputs", subgraph.outputs())?)?;
    let graph = Graph { tensors, operators, inputs, outputs };
    check_order(&graph)?;
    Ok(graph)
}

fn check_operands(label: &str, kind: &Kind, inputs: &[Option<usize>], outputs: &[usize]) -> ModelResult<()> {
    let Some((least, most, needed)) = kind.inputs() else { return Ok(()) };
    if inputs.len() < least || inputs.len() > most || outputs.len() != 1 {
        let found = format!("{} and {}", inputs.len(), outputs.len());
        return invalid(format!("{label}: expected at least {least} inputs and 1 output, found {found}"));
    }
    match inputs.iter().take(needed).position(Option::is_none) {
        Some(position) => invalid(format!("{label}: expected a tensor as input {position}, found -1")),
        None => Ok(()),
    }
}

/// Index -1 stands for an optional tensor that is left out.
fn tensor_index(what: &str, index: i32, count: usize) -> ModelResult<Option<usize>> {
    match usize::try_from(index) {
        Ok(index) if index < count => Ok(Some(index)),
        Err(_) if index == -1 => Ok(None),
        _ => invalid(format!("{what}: expected a tensor index below {count}, found {index}")),
    }
}

fn present(what: &str, list: Vec<Option<usize>>) -> ModelResult<Vec<usize>> {
    list.into_iter()
        .map(|index| index.ok_or_else(|| ModelError::Invalid(format!("{what}: expected a tensor index, found -1"))))
        .collect()
}

fn read_tensor<'a>(
    index: usize,
    tensor: &tflite::Tensor<'a>,
    buffers: &[Option<&'a [u8]>],
    budget: &mut usize,
) -> ModelResult<Tensor<'a>> {
    let stated: Vec<i32> = tensor.shape().into_iter().flatten().collect();
    let mut read = Tensor {
        index,
        name: tensor.name().unwrap_or_default(),
        kind: tensor.type_(),
        shape: Vec::with_capacity(stated.len().min(MAX_RANK)),
        free: Vec::new(),
        data: None,
        variable: tensor.is_variable(),
    };
    let label = read.label();
    if stated.len() > MAX_RANK {
        return invalid(format!("{label}: expected at most {MAX_RANK} dimensions, found {}", stated.len()));
    }
    let signature: Vec<i32> = tensor.shape_signature().into_iter().flatten().collect();
    if !signature.is_empty() && signature.len() != stated.len() {
        return invalid(format!("{label}: expected a signature like the shape {stated:?}, found {signature:?}"));
    }
    let free = |axis: usize| stated[axis] == -1 || signature.get(axis).is_some_and(|&dim| dim < 0);
    read.free = (0..stated.len()).map(free).collect();
    // No axes, or the shape of a scalar: the one list without elements that models have.
    if stated == [0] && matches!(read.kind, TensorType::INT32 | TensorType::INT64) {
        read.shape.push(0);
        read.data = Some(&[]);
        return Ok(read);
    }
    let mut elements = 1_usize;
    for (axis, &dim) in stated.iter().enumerate() {
        let dim = if axis == 0 && dim == -1 { 1 } else { dim };
        let Some(size) = usize::try_from(dim).ok().filter(|&size| size > 0) else {
            return invalid(format!("{label}: expected dimensions above 0, found {stated:?}"));
        };
        elements = elements.checked_mul(size).filter(|&elements| elements <= MAX_ELEMENTS).ok_or_else(|| {
            ModelError::Invalid(format!(
                "{label}: expected at most {MAX_ELEMENTS} elements, found the shape {stated:?}"
            ))
        })?;
        read.shape.push(size);
    }
    if tensor.sparsity().is_some() {
        return invalid(format!("{label}: expected dense values, found sparse ones"));
    }
    check_quantization(&read, tensor)?;
    let number = tensor.buffer() as usize;
    let Some(&data) = buffers.get(number) else {
        return invalid(format!("{label}: expected a buffer below {}, found {number}", buffers.len()));
    };
    let Some(bytes) = byte_length(read.kind, elements) else {
        return invalid(format!("{label}: expected numbers, found the type {}", read.type_name()));
    };
    match data {
        Some(data) if data.len() != bytes => {
            return invalid(format!(
                "{label}: expected {bytes} bytes for {} {:?}, found {}",
                read.type_name(),
                read.shape,
                data.len()
            ));
        }
        Some(data) => check_finite(&read, data)?,
        None => {
            *budget = budget.checked_sub(elements).ok_or_else(|| {
                ModelError::Invalid(format!(
                    "expected at most {MAX_ELEMENTS} elements in all activations together, found more"
                ))
            })?;
        }
    }
    read.data = data;
    Ok(read)
}

/// One scale for all, or one for each slice along an axis that there is; all of them finite, since LiteRT crashes on others.
fn check_quantization(read: &Tensor, tensor: &tflite::Tensor) -> ModelResult<()> {
    let Some(quantization) = tensor.quantization() else { return Ok(()) };
    if let Some(odd) = quantization.scale().iter().flatten().find(|scale| !(scale.is_finite() && *scale >= 0.0)) {
        return invalid(format!("{}: expected a finite scale of at least 0, found {odd}", read.label()));
    }
    let scales = quantization.scale().map_or(0, |scales| scales.len());
    let zeros = quantization.zero_point().map_or(0, |zeros| zeros.len());
    let axis = usize::try_from(quantization.quantized_dimension()).ok().and_then(|axis| read.shape.get(axis).copied());
    let fits = |count: usize| count <= 1 || Some(count) == axis;
    if fits(scales) && fits(zeros) && (zeros == scales || zeros <= 1) {
        return Ok(());
    }
    invalid(format!(
        "{}: expected one scale, or one for each slice of an axis, found {scales} and {zeros} zero points",
        read.label()
    ))
}

/// A NaN or infinity among the weights would surface as an embedding without meaning.
fn check_finite(tensor: &Tensor, data: &[u8]) -> ModelResult<()> {
    let odd = match tensor.kind {
        TensorType::FLOAT32 if largest_exponent(data) < EXPONENT => None,
        TensorType::FLOAT32 => {
            data.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).position(|value| !value.is_finite())
        }
        // All exponent bits set: infinity or NaN.
        TensorType::FLOAT16 => {
            data.as_chunks().0.iter().position(|chunk| u16::from_le_bytes(*chunk) & 0x7c00 == 0x7c00)
        }
        _ => None,
    };
    match odd {
        Some(at) => {
            invalid(format!("{}: expected finite values, found NaN or infinity at element {at}", tensor.label()))
        }
        None => Ok(()),
    }
}

/// The bits of an f32's exponent; all of them set: infinity or NaN.
const EXPONENT: u32 = 0x7f80_0000;

/// Of all values together, without a branch for each.
fn largest_exponent(data: &[u8]) -> u32 {
    data.as_chunks().0.iter().fold(0, |largest, chunk| largest.max(u32::from_le_bytes(*chunk) & EXPONENT))
}

/// Every tensor is written once, before it is read.
fn check_order(graph: &Graph) -> ModelResult<()> {
    let mut written: Vec<bool> = graph.tensors.iter().map(|tensor| tensor.data.is_some() || tensor.variable).collect();
    for &input in &graph.inputs {
        if std::mem::replace(&mut written[input], true) {
            return invalid(format!(
                "{}: expected an input, found a constant or one input twice",
                graph.tensors[input].label()
            ));
        }
    }
    for operator in &graph.operators {
        if let Some(&unread) = operator.inputs.iter().flatten().find(|&&input| !written[input]) {
            let tensor = graph.tensors[unread].label();
            return invalid(format!(
                "{}: expected inputs written before, found {tensor} not yet written",
                operator.label()
            ));
        }
        for &output in &operator.outputs {
            if std::mem::replace(&mut written[output], true) {
                let tensor = graph.tensors[output].label();
                return invalid(format!(
                    "{}: expected an output of its own, found {tensor} already written",
                    operator.label()
                ));
            }
        }
    }
    match graph.outputs.iter().find(|&&output| !written[output]) {
        Some(&output) => invalid(format!(
            "{}: expected an operator that writes this output, found none",
            graph.tensors[output].label()
        )),
        None => Ok(()),
    }
}

/// Bytes of `elements` values; `None` for types that are no plain numbers.
fn byte_length(kind: TensorType, elements: usize) -> Option<usize> {
    match kind {
        TensorType::BOOL | TensorType::INT8 | TensorType::UINT8 => Some(elements),
        TensorType::FLOAT16 | TensorType::INT16 | TensorType::UINT16 => Some(elements * 2),
        TensorType::FLOAT32 | TensorType::INT32 | TensorType::UINT32 => Some(elements * 4),
        TensorType::FLOAT64 | TensorType::INT64 | TensorType::UINT64 | TensorType::COMPLEX64 => Some(elements * 8),
        TensorType::COMPLEX128 => Some(elements * 16),
        TensorType::INT4 => Some(elements.div_ceil(2)),
        _ => None,
    }
}

pub(super) fn type_name(kind: TensorType) -> String {
    kind.variant_name().map_or_else(|| format!("number {}", kind.0), str::to_owned)
}

fn invalid<T>(message: String) -> ModelResult<T> {
    Err(ModelError::Invalid(message))
}
