//! Encoders made for a test, as their author could: any graph of a few operators, of any size.

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use tract_tflite::tflite;
use tract_tflite::tflite::{BuiltinOperator as Op, TensorType};

/// A graph under construction. Tensor 0 is the image `[1, 128, 128, 1]`, tensor 1 the machine's index `[1, 1]`.
pub struct Model {
    tensors: Vec<(Vec<i32>, TensorType, Option<Vec<u8>>)>,
    operators: Vec<(Op, Vec<i32>, i32)>,
}

impl Model {
    pub fn new() -> Model {
        let image = (vec![1, 128, 128, 1], TensorType::FLOAT32, None);
        Model { tensors: vec![image, (vec![1, 1], TensorType::FLOAT32, None)], operators: Vec::new() }
    }

    fn tensor(&mut self, shape: &[i32], kind: TensorType, data: Option<Vec<u8>>) -> i32 {
        self.tensors.push((shape.to_vec(), kind, data));
        i32::try_from(self.tensors.len()).expect("few tensors") - 1
    }

    /// Weights of this shape, small and not all the same.
    pub fn weights(&mut self, shape: &[i32]) -> i32 {
        let count = shape.iter().map(|dim| usize::try_from(*dim).expect("a size")).product::<usize>();
        let data = (0..count).flat_map(|number| ((number % 251) as f32 / 1e5 - 0.001).to_le_bytes()).collect();
        self.tensor(shape, TensorType::FLOAT32, Some(data))
    }

    /// The same in half precision; 0x1000 is 2^-11.
    pub fn half_weights(&mut self, shape: &[i32]) -> i32 {
        let count = shape.iter().map(|dim| usize::try_from(*dim).expect("a size")).product::<usize>();
        let data = (0..count).flat_map(|number| (0x1000 + (number % 251) as u16).to_le_bytes()).collect();
        self.tensor(shape, TensorType::FLOAT16, Some(data))
    }

    /// Adds an operator; the tensor that it writes.
    pub fn add(&mut self, op: Op, inputs: &[i32], shape: &[i32]) -> i32 {
        let kind = if op == Op::CAST { TensorType::INT32 } else { TensorType::FLOAT32 };
        let output = self.tensor(shape, kind, None);
        self.operators.push((op, inputs.to_vec(), output));
        output
    }

    pub fn reshape(&mut self, input: i32, shape: &[i32]) -> i32 {
        let length = i32::try_from(shape.len()).expect("few dimensions");
        let data = shape.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let wanted = self.tensor(&[length], TensorType::INT32, Some(data));
        self.add(Op::RESHAPE, &[input, wanted], shape)
    }

    pub fn dense(&mut self, input: i32, length: i32, outputs: i32) -> i32 {
        let weights = self.weights(&[outputs, length]);
        self.add(Op::FULLY_CONNECTED, &[input, weights, -1], &[1, outputs])
    }

    /// A convolution of stride 1 and SAME padding over an image of `[rows, columns, channels]`.
    pub fn conv(&mut self, input: i32, [rows, columns, channels]: [i32; 3], kernel: i32, outputs: i32) -> i32 {
        let filter = self.weights(&[outputs, kernel, kernel, channels]);
        let bias = self.weights(&[outputs]);
        self.add(Op::CONV_2D, &[input, filter, bias], &[1, rows, columns, outputs])
    }

    /// The bytes of the model whose embedding is the tensor `output`.
    pub fn finish(self, output: i32) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let builder = &mut builder;
        let mut codes: Vec<Op> = self.operators.iter().map(|(op, ..)| *op).collect();
        codes.sort();
        codes.dedup();
        let mut buffers = vec![tflite::Buffer::create(builder, &tflite::BufferArgs::default())];
        let mut tensors = Vec::new();
        for (number, (shape, kind, data)) in self.tensors.iter().enumerate() {
            let mut buffer = 0;
            if let Some(data) = data {
                let data = builder.create_vector(data);
                buffer = u32::try_from(buffers.len()).expect("few buffers");
                let args = tflite::BufferArgs { data: Some(data) };
                buffers.push(tflite::Buffer::create(builder, &args));
            }
            let (shape, name) = (builder.create_vector(shape), builder.create_string(&format!("t{number}")));
            let args = tflite::TensorArgs {
                shape: Some(shape),
                type_: *kind,
                buffer,
                name: Some(name),
                ..tflite::TensorArgs::default()
            };
            tensors.push(tflite::Tensor::create(builder, &args));
        }
        let mut operators = Vec::new();
        for (op, inputs, output) in &self.operators {
            let (kind, options) = options(builder, *op);
            let (inputs, outputs) = (builder.create_vector(inputs), builder.create_vector(&[*output]));
            let code = codes.iter().position(|code| code == op).expect("it is among them");
            let args = tflite::OperatorArgs {
                opcode_index: u32::try_from(code).expect("few codes"),
                inputs: Some(inputs),
                outputs: Some(outputs),
                builtin_options_type: kind,
                builtin_options: options,
                ..tflite::OperatorArgs::default()
            };
            operators.push(tflite::Operator::create(builder, &args));
        }
        let codes: Vec<_> = codes
            .into_iter()
            .map(|code| {
                let deprecated_builtin_code = i8::try_from(code.0).expect("an old operator");
                let args =
                    tflite::OperatorCodeArgs { builtin_code: code, deprecated_builtin_code, ..Default::default() };
                tflite::OperatorCode::create(builder, &args)
            })
            .collect();
        let (tensors, operators) = (builder.create_vector(&tensors), builder.create_vector(&operators));
        let (inputs, outputs) = (builder.create_vector(&[0, 1]), builder.create_vector(&[output]));
        let graph = tflite::SubGraph::create(
            builder,
            &tflite::SubGraphArgs {
                tensors: Some(tensors),
                inputs: Some(inputs),
                outputs: Some(outputs),
                operators: Some(operators),
                ..tflite::SubGraphArgs::default()
            },
        );
        let (graphs, codes, buffers) =
            (builder.create_vector(&[graph]), builder.create_vector(&codes), builder.create_vector(&buffers));
        let model = tflite::Model::create(
            builder,
            &tflite::ModelArgs {
                version: 3,
                operator_codes: Some(codes),
                subgraphs: Some(graphs),
                buffers: Some(buffers),
                ..tflite::ModelArgs::default()
            },
        );
        builder.finish(model, Some("TFL3"));
        builder.finished_data().to_vec()
    }
}

fn options(
    builder: &mut FlatBufferBuilder<'static>,
    op: Op,
) -> (tflite::BuiltinOptions, Option<WIPOffset<UnionWIPOffset>>) {
    match op {
        Op::CONV_2D => {
            let args = tflite::Conv2DOptionsArgs { stride_w: 1, stride_h: 1, ..Default::default() };
            let options = tflite::Conv2DOptions::create(builder, &args).as_union_value();
            (tflite::BuiltinOptions::Conv2DOptions, Some(options))
        }
        Op::FULLY_CONNECTED => {
            let args = tflite::FullyConnectedOptionsArgs::default();
            let options = tflite::FullyConnectedOptions::create(builder, &args).as_union_value();
            (tflite::BuiltinOptions::FullyConnectedOptions, Some(options))
        }
        Op::GATHER => {
            let options = tflite::GatherOptions::create(builder, &tflite::GatherOptionsArgs::default());
            (tflite::BuiltinOptions::GatherOptions, Some(options.as_union_value()))
        }
        _ => (tflite::BuiltinOptions::NONE, None),
    }
}
