//! The operators that Keras encoders are made of, with their attributes read and checked.

use tract_tflite::tflite::{
    self, ActivationFunctionType, BuiltinOperator as Code, FullyConnectedOptionsWeightsFormat, Padding,
};

use super::engine::{ModelError, ModelResult};
use super::slice::Masks;

/// Slot of `StridedSliceOptions.offset`, newer than the schema at hand.
const STRIDED_SLICE_OFFSET: u16 = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    None,
    Relu,
    Relu6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

/// How a kernel walks over rows and columns, in that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// SAME: as many outputs as inputs divided by the stride, the rest padded; else VALID.
    pub same: bool,
}

/// One axis of a walk: how many outputs, and how much padding at both ends.
#[derive(Debug, PartialEq)]
pub(super) struct Axis {
    pub outputs: usize,
    pub before: usize,
    pub after: usize,
}

/// Along one axis, by the rule of TensorFlow's padding schemes; with SAME the odd one goes to the end.
pub(super) fn walk_axis(input: usize, kernel: usize, stride: usize, dilation: usize, same: bool) -> Option<Axis> {
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    if same {
        let outputs = input.div_ceil(stride);
        let padding = (outputs - 1).checked_mul(stride)?.checked_add(reach)?.saturating_sub(input);
        return Some(Axis { outputs, before: padding / 2, after: padding - padding / 2 });
    }
    Some(Axis { outputs: input.checked_sub(reach)? / stride + 1, before: 0, after: 0 })
}

/// What an operator does. Axes and shapes that are tensors of their own are among its inputs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Conv2d {
        walk: Walk,
        activation: Activation,
    },
    DepthwiseConv2d {
        walk: Walk,
        multiplier: usize,
        activation: Activation,
    },
    Pool2d {
        max: bool,
        kernel: [usize; 2],
        walk: Walk,
        activation: Activation,
    },
    FullyConnected {
        keep_dims: bool,
        activation: Activation,
    },
    Arithmetic {
        op: Arithmetic,
        activation: Activation,
    },
    Reduce {
        mean: bool,
        keep_dims: bool,
    },
    Reshape {
        shape: Option<Vec<i32>>,
    },
    Squeeze {
        axes: Vec<i32>,
    },
    ExpandDims,
    Concatenation {
        axis: i32,
        activation: Activation,
    },
    Pad,
    LeakyRelu {
        alpha: f32,
    },
    Relu,
    Relu6,
    Logistic,
    Tanh,
    Softmax {
        beta: f32,
    },
    Gather {
        axis: i32,
    },
    Cast,
    Less,
    /// With broadcasting (SELECT_V2), or of one shape (SELECT).
    Select {
        broadcast: bool,
    },
    Shape,
    Pack {
        axis: i32,
    },
    StridedSlice {
        masks: Masks,
    },
    Dequantize,
    /// Rows of a table by index, as `Gather`; only LiteRT runs it.
    EmbeddingLookup,
    /// Not ours to run: what it is, for the message.
    Other(String),
}

impl Kind {
    /// The least and greatest number of inputs, and how many of the first ones must not be left out; for [`Kind::Other`]
    /// that is not known.
    pub fn inputs(&self) -> Option<(usize, usize, usize)> {
        let exactly = |count| Some((count, count, count));
        match self {
            Kind::Conv2d { .. } | Kind::DepthwiseConv2d { .. } | Kind::FullyConnected { .. } => Some((2, 3, 2)),
            Kind::Reshape { .. } => Some((1, 2, 2)),
            Kind::Concatenation { .. } | Kind::Pack { .. } => Some((1, usize::MAX, usize::MAX)),
            Kind::StridedSlice { .. } => exactly(4),
            Kind::Select { .. } => exactly(3),
            Kind::Arithmetic { .. }
            | Kind::Reduce { .. }
            | Kind::ExpandDims
            | Kind::Pad
            | Kind::Gather { .. }
            | Kind::Less
            | Kind::EmbeddingLookup => exactly(2),
            Kind::Pool2d { .. }
            | Kind::Squeeze { .. }
            | Kind::LeakyRelu { .. }
            | Kind::Relu
            | Kind::Relu6
            | Kind::Logistic
            | Kind::Tanh
            | Kind::Softmax { .. }
            | Kind::Cast
            | Kind::Shape
            | Kind::Dequantize => exactly(1),
            Kind::Other(_) => None,
        }
    }
}

/// The operator's name in the schema; a custom operator's own name.
pub(super) fn name(code: &tflite::OperatorCode) -> String {
    let builtin = builtin(code);
    match builtin.variant_name() {
        Some("CUSTOM") => {
            let name: String = code.custom_code().unwrap_or_default().chars().take(60).collect();
            format!("custom {name:?}")
        }
        Some(name) => name.to_owned(),
        None => format!("number {}", builtin.0),
    }
}

/// Old files have the code in a byte, new ones in a word: the greater is it.
fn builtin(code: &tflite::OperatorCode) -> Code {
    Code(code.builtin_code().0.max(i32::from(code.deprecated_builtin_code())))
}

/// # Errors
/// `Invalid` for attributes with which no engine can compute. Attributes that only we lack make it [`Kind::Other`].
pub(super) fn parse(label: &str, operator: &tflite::Operator, code: &tflite::OperatorCode) -> ModelResult<Kind> {
    match parse_supported(label, operator, builtin(code)) {
        Err(ModelError::Unsupported(what)) => Ok(Kind::Other(what)),
        parsed => parsed,
    }
}

/// Reads one operator's options.
type Parser = fn(&str, &tflite::Operator) -> ModelResult<Kind>;

/// The operators that are ours to run.
const PARSERS: &[(Code, Parser)] = &[
    (Code::CONV_2D, conv_2d),
    (Code::DEPTHWISE_CONV_2D, depthwise_conv_2d),
    (Code::MAX_POOL_2D, |label, operator| pool_2d(label, operator, true)),
    (Code::AVERAGE_POOL_2D, |label, operator| pool_2d(label, operator, false)),
    (Code::FULLY_CONNECTED, fully_connected),
    (Code::ADD, |label, operator| {
        let fused = operator.builtin_options_as_add_options().map(|options| options.fused_activation_function());
        arithmetic(label, Arithmetic::Add, fused)
    }),
    (Code::SUB, |label, operator| {
        let fused = operator.builtin_options_as_sub_options().map(|options| options.fused_activation_function());
        arithmetic(label, Arithmetic::Sub, fused)
    }),
    (Code::MUL, |label, operator| {
        let fused = operator.builtin_options_as_mul_options().map(|options| options.fused_activation_function());
        arithmetic(label, Arithmetic::Mul, fused)
    }),
    (Code::DIV, |label, operator| {
        let fused = operator.builtin_options_as_div_options().map(|options| options.fused_activation_function());
        arithmetic(label, Arithmetic::Div, fused)
    }),
    (Code::MEAN, |_, operator| Ok(reduce(operator, true))),
    (Code::SUM, |_, operator| Ok(reduce(operator, false))),
    (Code::RESHAPE, |_, operator| {
        let options = operator.builtin_options_as_reshape_options();
        let shape = options.and_then(|options| options.new_shape()).map(|shape| shape.iter().collect());
        Ok(Kind::Reshape { shape })
    }),
    (Code::SQUEEZE, |_, operator| {
        let options = operator.builtin_options_as_squeeze_options();
        Ok(Kind::Squeeze { axes: options.and_then(|options| options.squeeze_dims()).into_iter().flatten().collect() })
    }),
    (Code::EXPAND_DIMS, |_, _| Ok(Kind::ExpandDims)),
    (Code::CONCATENATION, concatenation),
    (Code::PAD, |_, _| Ok(Kind::Pad)),
    (Code::LEAKY_RELU, |label, operator| {
        let options = operator.builtin_options_as_leaky_relu_options().ok_or_else(|| missing(label))?;
        Ok(Kind::LeakyRelu { alpha: finite(label, "alpha", options.alpha())? })
    }),
    (Code::RELU, |_, _| Ok(Kind::Relu)),
    (Code::RELU6, |_, _| Ok(Kind::Relu6)),
    (Code::LOGISTIC, |_, _| Ok(Kind::Logistic)),
    (Code::TANH, |_, _| Ok(Kind::Tanh)),
    (Code::SOFTMAX, |label, operator| {
        let options = operator.builtin_options_as_softmax_options().ok_or_else(|| missing(label))?;
        Ok(Kind::Softmax { beta: finite(label, "beta", options.beta())? })
    }),
    (Code::GATHER, gather),
    (Code::CAST, |_, _| Ok(Kind::Cast)),
    (Code::LESS, |_, _| Ok(Kind::Less)),
    (Code::SELECT_V2, |_, _| Ok(Kind::Select { broadcast: true })),
    (Code::SELECT, |_, _| Ok(Kind::Select { broadcast: false })),
    (Code::SHAPE, |_, _| Ok(Kind::Shape)),
    (Code::PACK, |label, operator| {
        let options = operator.builtin_options_as_pack_options().ok_or_else(|| missing(label))?;
        Ok(Kind::Pack { axis: options.axis() })
    }),
    (Code::STRIDED_SLICE, strided_slice),
    (Code::DEQUANTIZE, |_, _| Ok(Kind::Dequantize)),
    (Code::EMBEDDING_LOOKUP, |_, _| Ok(Kind::EmbeddingLookup)),
];

fn parse_supported(label: &str, operator: &tflite::Operator, code: Code) -> ModelResult<Kind> {
    match PARSERS.iter().find(|(known, _)| *known == code) {
        Some((_, parser)) => parser(label, operator),
        None => Ok(Kind::Other(label.to_owned())),
    }
}

fn missing(label: &str) -> ModelError {
    ModelError::Invalid(format!("{label}: expected its options, found none"))
}

fn conv_2d(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_conv_2_doptions().ok_or_else(|| missing(label))?;
    let dilation = [options.dilation_h_factor(), options.dilation_w_factor()];
    Ok(Kind::Conv2d {
        walk: walk(label, [options.stride_h(), options.stride_w()], dilation, options.padding())?,
        activation: activation(label, options.fused_activation_function())?,
    })
}

fn depthwise_conv_2d(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_depthwise_conv_2_doptions().ok_or_else(|| missing(label))?;
    let dilation = [options.dilation_h_factor(), options.dilation_w_factor()];
    Ok(Kind::DepthwiseConv2d {
        walk: walk(label, [options.stride_h(), options.stride_w()], dilation, options.padding())?,
        multiplier: options.depth_multiplier().try_into().unwrap_or(0),
        activation: activation(label, options.fused_activation_function())?,
    })
}

fn pool_2d(label: &str, operator: &tflite::Operator, max: bool) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_pool_2_doptions().ok_or_else(|| missing(label))?;
    Ok(Kind::Pool2d {
        max,
        kernel: positive(label, "filter", [options.filter_height(), options.filter_width()])?,
        walk: walk(label, [options.stride_h(), options.stride_w()], [1, 1], options.padding())?,
        activation: activation(label, options.fused_activation_function())?,
    })
}

fn fully_connected(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_fully_connected_options().ok_or_else(|| missing(label))?;
    if options.weights_format() != FullyConnectedOptionsWeightsFormat::DEFAULT {
        return Err(ModelError::Unsupported(format!("{label} with shuffled weights")));
    }
    Ok(Kind::FullyConnected {
        keep_dims: options.keep_num_dims(),
        activation: activation(label, options.fused_activation_function())?,
    })
}

fn reduce(operator: &tflite::Operator, mean: bool) -> Kind {
    let options = operator.builtin_options_as_reducer_options();
    Kind::Reduce { mean, keep_dims: options.is_some_and(|options| options.keep_dims()) }
}

fn concatenation(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_concatenation_options().ok_or_else(|| missing(label))?;
    let activation = activation(label, options.fused_activation_function())?;
    Ok(Kind::Concatenation { axis: options.axis(), activation })
}

fn gather(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_gather_options();
    match options.map_or(0, |options| options.batch_dims()) {
        0 => Ok(Kind::Gather { axis: options.map_or(0, |options| options.axis()) }),
        batch => Err(ModelError::Unsupported(format!("{label} with batch_dims {batch}"))),
    }
}

fn strided_slice(label: &str, operator: &tflite::Operator) -> ModelResult<Kind> {
    let options = operator.builtin_options_as_strided_slice_options().ok_or_else(|| missing(label))?;
    if options._tab.vtable().get(STRIDED_SLICE_OFFSET) != 0 {
        return Err(ModelError::Unsupported(format!("{label} with ends relative to their begins")));
    }
    let masks = Masks {
        begin: options.begin_mask(),
        end: options.end_mask(),
        ellipsis: options.ellipsis_mask(),
        new_axis: options.new_axis_mask(),
        shrink: options.shrink_axis_mask(),
    };
    Ok(Kind::StridedSlice { masks })
}

fn arithmetic(label: &str, op: Arithmetic, fused: Option<ActivationFunctionType>) -> ModelResult<Kind> {
    let fused = fused.unwrap_or(ActivationFunctionType::NONE);
    Ok(Kind::Arithmetic { op, activation: activation(label, fused)? })
}

fn walk(label: &str, stride: [i32; 2], dilation: [i32; 2], padding: Padding) -> ModelResult<Walk> {
    let same = match padding {
        Padding::SAME => true,
        Padding::VALID => false,
        other => {
            return Err(ModelError::Invalid(format!(
                "{label}: expected SAME or VALID padding, found number {}",
                other.0
            )));
        }
    };
    Ok(Walk { stride: positive(label, "stride", stride)?, dilation: positive(label, "dilation", dilation)?, same })
}

fn positive(label: &str, what: &str, [rows, columns]: [i32; 2]) -> Result<[usize; 2], ModelError> {
    match (usize::try_from(rows), usize::try_from(columns)) {
        (Ok(rows @ 1..), Ok(columns @ 1..)) => Ok([rows, columns]),
        _ => Err(ModelError::Invalid(format!("{label}: expected a {what} above 0, found {rows} x {columns}"))),
    }
}

fn finite(label: &str, what: &str, value: f32) -> ModelResult<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(ModelError::Invalid(format!("{label}: expected a finite {what}, found {value}")))
    }
}

fn activation(label: &str, fused: ActivationFunctionType) -> ModelResult<Activation> {
    match fused {
        ActivationFunctionType::NONE => Ok(Activation::None),
        ActivationFunctionType::RELU => Ok(Activation::Relu),
        ActivationFunctionType::RELU6 => Ok(Activation::Relu6),
        other => match other.variant_name() {
            Some(name) => Err(ModelError::Unsupported(format!("{label} with the fused activation {name}"))),
            None => Err(ModelError::Invalid(format!("{label}: expected a fused activation, found number {}", other.0))),
        },
    }
}

/// Calls the method of `$self` that stands for the kind of operator `$op`: every engine that translates has one for each.
macro_rules! translate {
    ($self:ident, $op:ident) => {
        match &$op.kind {
            Kind::Conv2d { walk, activation } => $self.conv2d($op, walk, *activation),
            Kind::DepthwiseConv2d { walk, multiplier, activation } => {
                $self.depthwise_conv2d($op, walk, *multiplier, *activation)
            }
            Kind::Pool2d { max, kernel, walk, activation } => $self.pool2d($op, *max, *kernel, walk, *activation),
            Kind::FullyConnected { keep_dims, activation } => $self.fully_connected($op, *keep_dims, *activation),
            Kind::Arithmetic { op: which, activation } => $self.arithmetic($op, *which, *activation),
            Kind::Reduce { mean, keep_dims } => $self.reduce($op, *mean, *keep_dims),
            Kind::Reshape { shape } => $self.reshape($op, shape.as_deref()),
            Kind::Squeeze { axes } => $self.squeeze($op, axes),
            Kind::ExpandDims => $self.expand_dims($op),
            Kind::Concatenation { axis, activation } => $self.concatenation($op, *axis, *activation),
            Kind::Pad => $self.pad($op),
            Kind::LeakyRelu { .. } | Kind::Relu | Kind::Relu6 | Kind::Logistic | Kind::Tanh => $self.element_wise($op),
            Kind::Softmax { beta } => $self.softmax($op, *beta),
            Kind::Gather { axis } => $self.gather($op, *axis),
            Kind::Cast => $self.cast($op),
            Kind::Less => $self.less($op),
            Kind::Select { broadcast } => $self.select($op, *broadcast),
            Kind::Shape => $self.shape($op),
            Kind::Pack { axis } => $self.pack($op, *axis),
            Kind::StridedSlice { .. } => $self.strided_slice($op),
            Kind::Dequantize => $self.dequantize($op),
            Kind::EmbeddingLookup | Kind::Other(_) => Err(ModelError::Unsupported($op.label())),
        }
    };
}
pub(super) use translate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_follows_tensorflow() {
        let found = |outputs, before, after| Some(Axis { outputs, before, after });
        assert_eq!(walk_axis(10, 3, 1, 1, true), found(10, 1, 1));
        assert_eq!(walk_axis(10, 3, 2, 1, true), found(5, 0, 1), "the odd one goes to the end");
        assert_eq!(walk_axis(11, 2, 3, 1, true), found(4, 0, 0));
        assert_eq!(walk_axis(10, 3, 1, 4, true), found(10, 4, 4));
        assert_eq!(walk_axis(10, 3, 2, 1, false), found(4, 0, 0));
        assert_eq!(walk_axis(10, 3, 1, 4, false), found(2, 0, 0));
        assert_eq!(walk_axis(8, 3, 1, 4, false), None, "the kernel reaches over 9");
        assert_eq!(walk_axis(8, usize::MAX, 2, 2, true), None, "overflow is no panic");
    }
}
