//! What a model takes and gives: which input is the image, which the machine's index, and how long the embedding is.

use tract_tflite::tflite::TensorType;

use super::engine::{EncoderError, EncoderShape};
use super::graph::{Graph, Tensor};
use super::operator::Kind;

/// Values of the largest image that is taken: 64 times the usual 128 x 128. More would take more memory than a Pi has.
const MAX_IMAGE: usize = 1 << 20;

/// The type in which a model takes the machine's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IndexType {
    F32,
    I32,
    I64,
}

#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub shape: EncoderShape,
    /// Tensor index and dimensions of the image: `[1, bands, frames, 1]` or `[1, bands, frames]`.
    pub image: (usize, Vec<usize>),
    /// Tensor index and dimensions of the machine's index, all 1.
    pub machine: (usize, Vec<usize>),
    pub machine_type: IndexType,
    /// Tensor index of the embedding.
    pub output: usize,
}

impl Interface {
    /// # Errors
    /// `Model` where inputs and outputs are not an image, an index and one embedding.
    pub fn of(graph: &Graph) -> Result<Interface, EncoderError> {
        let found = |tensors: &[usize]| {
            let described = tensors.iter().map(|&index| describe(&graph.tensors[index])).collect::<Vec<_>>();
            described.join(" and ")
        };
        let expected_inputs = || {
            EncoderError::Model(format!(
                "expected two inputs, an image [1,bands,frames,1] FLOAT32 and a machine index [1,1], found {}",
                found(&graph.inputs)
            ))
        };
        let [first, second] = graph.inputs[..] else { return Err(expected_inputs()) };
        let (image, machine) = match (image_dims(&graph.tensors[first]), image_dims(&graph.tensors[second])) {
            (Some(dims), None) => ((first, dims), second),
            (None, Some(dims)) => ((second, dims), first),
            _ => return Err(expected_inputs()),
        };
        if graph.tensors[image.0].elements() > MAX_IMAGE {
            let found = describe(&graph.tensors[image.0]);
            return Err(EncoderError::Model(format!("expected an image of at most {MAX_IMAGE} values, found {found}")));
        }
        let tensor = &graph.tensors[machine];
        let machine_type = match tensor.kind {
            TensorType::FLOAT32 => IndexType::F32,
            TensorType::INT32 => IndexType::I32,
            TensorType::INT64 => IndexType::I64,
            _ => return Err(expected_inputs()),
        };
        if tensor.shape.len() > 2 || tensor.elements() != 1 {
            return Err(expected_inputs());
        }
        let [output] = graph.outputs[..] else { return Err(expected_output(&found(&graph.outputs))) };
        let tensor = &graph.tensors[output];
        let embedding = match tensor.shape[..] {
            [1, embedding] if tensor.kind == TensorType::FLOAT32 && batch_alone_is_free(tensor) => embedding,
            _ => return Err(expected_output(&describe(tensor))),
        };
        if !graph.operators.iter().any(|operator| operator.outputs.contains(&output)) {
            return Err(EncoderError::Model(format!(
                "expected an operator that computes {}, found none",
                tensor.label()
            )));
        }
        let shape =
            EncoderShape { bands: image.1[1], frames: image.1[2], embedding, machines: machines(graph, machine) };
        let machine = (machine, graph.tensors[machine].shape.clone());
        Ok(Interface { shape, image, machine, machine_type, output })
    }

    /// # Errors
    /// `Run` for an image or index that the model does not take.
    pub fn check(&self, image: &[f32], machine_index: u32) -> Result<(), EncoderError> {
        let EncoderShape { bands, frames, machines, .. } = self.shape;
        if image.len() != bands * frames {
            let found = image.len();
            return Err(EncoderError::Run(format!("image: expected {bands} x {frames} values, found {found} values")));
        }
        if let Some(at) = image.iter().position(|value| !value.is_finite()) {
            return Err(EncoderError::Run(format!("image: expected finite values, found {} at {at}", image[at])));
        }
        // Where the model does not state its table's size: whatever f32 holds exactly.
        let limit = machines.unwrap_or(1 << f32::MANTISSA_DIGITS);
        if machine_index as usize >= limit {
            return Err(EncoderError::Run(format!(
                "machine index: expected 0 to {}, found {machine_index}",
                limit - 1
            )));
        }
        Ok(())
    }
}

fn expected_output(found: &str) -> EncoderError {
    EncoderError::Model(format!(
        "expected one output, an embedding [1,n] FLOAT32, found {}",
        if found.is_empty() { "none" } else { found }
    ))
}

fn describe(tensor: &Tensor) -> String {
    format!("{} {} {:?}", tensor.label(), tensor.type_name(), tensor.shape)
}

fn image_dims(tensor: &Tensor) -> Option<Vec<usize>> {
    let fits = matches!(tensor.shape[..], [1, _, _] | [1, _, _, 1]);
    (fits && tensor.kind == TensorType::FLOAT32 && batch_alone_is_free(tensor)).then(|| tensor.shape.clone())
}

fn batch_alone_is_free(tensor: &Tensor) -> bool {
    tensor.free.iter().skip(1).all(|free| !free)
}

/// Size of the table that is looked up by the machine's index: of the first lookup whose index comes from that input
/// alone. `None` where there is no such lookup.
fn machines(graph: &Graph, machine: usize) -> Option<usize> {
    let constant = |index: usize| graph.tensors[index].data.is_some();
    let mut from_machine = vec![false; graph.tensors.len()];
    from_machine[machine] = true;
    for operator in &graph.operators {
        let inputs: Vec<usize> = operator.inputs.iter().flatten().copied().collect();
        match (&operator.kind, &inputs[..]) {
            (Kind::Gather { axis }, &[table, index]) if from_machine[index] => {
                let shape = table_shape(graph, table)?;
                let axis = if *axis < 0 { i64::from(*axis) + shape.len() as i64 } else { i64::from(*axis) };
                return shape.get(usize::try_from(axis).ok()?).copied();
            }
            (Kind::EmbeddingLookup, &[index, table]) if from_machine[index] => {
                return table_shape(graph, table)?.first().copied();
            }
            _ => {}
        }
        let derived = inputs.iter().any(|&input| from_machine[input])
            && inputs.iter().all(|&input| from_machine[input] || constant(input));
        if derived {
            operator.outputs.iter().for_each(|&output| from_machine[output] = true);
        }
    }
    None
}

/// The shape of a constant, also of one behind DEQUANTIZE.
fn table_shape<'g>(graph: &'g Graph, table: usize) -> Option<&'g [usize]> {
    if graph.tensors[table].data.is_some() {
        return Some(&graph.tensors[table].shape);
    }
    let source = graph.operators.iter().find(|operator| operator.outputs.contains(&table))?;
    match (&source.kind, &source.inputs[..]) {
        (Kind::Dequantize, &[Some(input)]) if graph.tensors[input].data.is_some() => Some(&graph.tensors[input].shape),
        _ => None,
    }
}
