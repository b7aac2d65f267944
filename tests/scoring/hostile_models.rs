//! Models that are broken or made to do harm: each is refused by all engines with one clear line, within a second and
//! 200 MB, and without a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auscult::encoder::{EncoderConfig, EncoderError, Engine, EngineChoice, load};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tract_tflite::tflite;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/ops/{name}.tflite"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn timed_load(model: &[u8], engine: EngineChoice) -> Result<Box<dyn Engine>, EncoderError> {
    let library = (engine == EngineChoice::Litert).then(crate::common::litert_library);
    let begun = Instant::now();
    let result = load(model.into(), &EncoderConfig { engine, library });
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(1), "{taken:?}, error {:?}", result.err());
    result
}

/// All engines refuse `model` as wrong, in one line with all of `words`.
fn refused(what: &str, model: &[u8], words: &[&str]) {
    for engine in [EngineChoice::Native, EngineChoice::Tract, EngineChoice::Litert] {
        match timed_load(model, engine).map(drop) {
            Err(EncoderError::Model(message)) => {
                assert!(words.iter().all(|word| message.contains(word)), "{what}, {engine:?}: {message}");
                assert!(!message.contains('\n') && message.len() < 500, "{what}, {engine:?}: {message}");
                assert!(!message.contains("panic"), "{what}, {engine:?}: {message}");
            }
            other => panic!("{what}, {engine:?}: expected a refusal, found {other:?}"),
        }
    }
}

/// Peak resident memory of this process, MB.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

// Where things lie in a model's bytes, to overwrite them in place.

fn root(model: &[u8]) -> tflite::Model<'_> {
    tflite::root_as_model(model).unwrap()
}

fn main_graph(model: &[u8]) -> tflite::SubGraph<'_> {
    root(model).subgraphs().unwrap().get(0)
}

fn offset_in(model: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - model.as_ptr() as usize
}

/// Position of a table's field in the bytes; `slot` counts the schema's fields from 0.
fn field(table: flatbuffers::Table, slot: u16) -> usize {
    let offset = table.vtable().get(4 + 2 * slot);
    assert_ne!(offset, 0, "the field has its default and no place in the bytes");
    table.loc() + usize::from(offset)
}

fn put(model: &mut [u8], at: usize, value: i32) {
    model[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Position of the first operator of that code, by number in the main graph.
fn operator(model: &[u8], code: tflite::BuiltinOperator) -> usize {
    let codes = root(model).operator_codes().unwrap();
    let number = |index: u32| {
        codes.get(index as usize).builtin_code().0.max(codes.get(index as usize).deprecated_builtin_code().into())
    };
    main_graph(model)
        .operators()
        .unwrap()
        .iter()
        .position(|operator| number(operator.opcode_index()) == code.0)
        .unwrap()
}

/// The model with one thing overwritten.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut model = fixture(name);
    change(&mut model);
    model
}

/// The model with one dimension of what `operator` reads (or writes) as its `position`th overwritten.
fn with_dimension(name: &str, tensor: impl Fn(&[u8]) -> usize, axis: usize, value: i32) -> Vec<u8> {
    changed(name, |model| {
        let shape = main_graph(model).tensors().unwrap().get(tensor(model)).shape().unwrap();
        let at = offset_in(model, shape.bytes()) + 4 * axis;
        put(model, at, value);
    })
}

fn input_of(code: tflite::BuiltinOperator, position: usize) -> impl Fn(&[u8]) -> usize {
    move |model| {
        let number = operator(model, code);
        main_graph(model).operators().unwrap().get(number).inputs().unwrap().get(position) as usize
    }
}

fn image(model: &[u8]) -> usize {
    let graph = main_graph(model);
    let tensors = graph.tensors().unwrap();
    graph
        .inputs()
        .unwrap()
        .iter()
        .map(|index| index as usize)
        .find(|&index| tensors.get(index).shape().unwrap().len() == 4)
        .unwrap()
}

/// The model with one tensor index of an operator overwritten.
fn with_operand(name: &str, number: usize, position: usize, index: i32) -> Vec<u8> {
    changed(name, |model| {
        let inputs = main_graph(model).operators().unwrap().get(number).inputs().unwrap();
        let at = offset_in(model, inputs.bytes()) + 4 * position;
        put(model, at, index);
    })
}

/// The model with the constant that an operator reads overwritten, from its first element on.
fn with_constant(name: &str, code: tflite::BuiltinOperator, position: usize, values: &[i32]) -> Vec<u8> {
    changed(name, |model| {
        let tensor = main_graph(model).tensors().unwrap().get(input_of(code, position)(model));
        let data = root(model).buffers().unwrap().get(tensor.buffer() as usize).data().unwrap();
        let at = offset_in(model, data.bytes());
        values.iter().enumerate().for_each(|(n, &value)| put(model, at + 4 * n, value));
    })
}

/// The model with a 32-bit attribute overwritten.
fn with_option(name: &str, code: tflite::BuiltinOperator, slot: u16, value: i32) -> Vec<u8> {
    changed(name, |model| {
        let number = operator(model, code);
        let at = field(main_graph(model).operators().unwrap().get(number).builtin_options().unwrap(), slot);
        put(model, at, value);
    })
}

use tflite::BuiltinOperator as Op;

#[test]
fn what_is_no_model_is_refused() {
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("one byte", b"T"),
        ("the identifier alone", b"\x1c\0\0\0TFL3"),
        ("text", b"this is not a model at all, it is a line of text\n"),
        ("zeros", &[0; 4096]),
        ("ones", &[0xff; 4096]),
    ] {
        refused(what, bytes, &["expected"]);
    }
    refused("another file", &changed("dense", |model| model[4] = b'X'), &["TFL3"]);
}

#[test]
fn truncated_models_are_refused() {
    for name in ["dense", "keras_pooled"] {
        let model = fixture(name);
        for part in 0..40 {
            let end = model.len() * part / 40;
            refused(&format!("{name} cut at {end}"), &model[..end], &["expected"]);
        }
    }
    if let Some(shared) = crate::common::shared() {
        let model = fs::read(shared.join("escoita-bundle/encoder.tflite")).unwrap();
        for part in 0..16 {
            refused("the real model, cut", &model[..model.len() * part / 16], &["expected"]);
        }
    }
}

#[test]
fn broken_tensor_indices_are_refused() {
    refused("an operand out of range", &with_operand("conv_same", 0, 0, 999), &["operator 0 CONV_2D", "999"]);
    refused("a negative operand", &with_operand("conv_same", 0, 1, -7), &["operator 0 CONV_2D", "-7"]);
    refused("the greatest operand", &with_operand("conv_same", 0, 1, i32::MAX), &["operator 0 CONV_2D"]);
    refused("a missing filter", &with_operand("conv_same", 0, 1, -1), &["operator 0 CONV_2D", "input 1", "-1"]);
    let own_output = |name: &str, number: usize| {
        let model = fixture(name);
        main_graph(&model).operators().unwrap().get(number).outputs().unwrap().get(0)
    };
    let cyclic = with_operand("conv_same", 0, 0, own_output("conv_same", 0));
    refused("an operator that reads itself", &cyclic, &["operator 0 CONV_2D", "not yet written"]);
    let ahead = with_operand("conv_same", 0, 0, own_output("conv_same", 2));
    refused("an operator that reads ahead", &ahead, &["operator 0 CONV_2D", "not yet written"]);
    let twice = changed("conv_same", |model| {
        let outputs = main_graph(model).operators().unwrap().get(1).outputs().unwrap();
        let at = offset_in(model, outputs.bytes());
        put(model, at, own_output("conv_same", 0));
    });
    refused("a tensor written twice", &twice, &["operator 1", "already written"]);
    let inputs = |position: usize, value: i32| {
        changed("conv_same", |model| {
            let at = offset_in(model, main_graph(model).inputs().unwrap().bytes()) + 4 * position;
            put(model, at, value);
        })
    };
    refused("an input out of range", &inputs(0, 1000), &["inputs", "1000"]);
    refused("an absent input", &inputs(1, -1), &["inputs", "-1"]);
    let first = main_graph(&fixture("conv_same")).inputs().unwrap().get(0);
    refused("one input twice", &inputs(1, first), &["twice"]);
    let output = changed("conv_same", |model| {
        let at = offset_in(model, main_graph(model).outputs().unwrap().bytes());
        put(model, at, 4711);
    });
    refused("an output out of range", &output, &["outputs", "4711"]);
    let code = changed("conv_channels", |model| {
        let at = field(main_graph(model).operators().unwrap().get(1)._tab, 0);
        put(model, at, 77);
    });
    refused("an operator code out of range", &code, &["operator 1", "77"]);
    let buffer = changed("conv_same", |model| {
        let tensor = main_graph(model).tensors().unwrap().get(input_of(Op::CONV_2D, 1)(model));
        let at = field(tensor._tab, 2);
        put(model, at, 12_345);
    });
    refused("a buffer out of range", &buffer, &["buffer", "12345"]);
}

#[test]
fn broken_shapes_are_refused() {
    for (value, words) in
        [(0, &["above 0"][..]), (-3, &["above 0"]), (i32::MAX, &["elements"]), (1 << 20, &["at most"])]
    {
        refused("the image", &with_dimension("conv_same", image, 1, value), words);
    }
    let filter = input_of(Op::CONV_2D, 1);
    refused("a longer filter", &with_dimension("conv_same", &filter, 0, 9), &["bytes", "tensor"]);
    refused("a gigantic filter", &with_dimension("conv_same", &filter, 0, i32::MAX), &["elements"]);
    refused("a shorter filter", &with_dimension("conv_same", &filter, 0, 1), &["bytes", "tensor"]);
    refused("an empty filter", &with_dimension("conv_same", &filter, 3, 0), &["above 0"]);
    refused("a longer bias", &with_dimension("dense", input_of(Op::FULLY_CONNECTED, 2), 0, 10), &["bytes"]);
    refused("a larger table", &with_dimension("gather", input_of(Op::GATHER, 0), 0, 8), &["bytes"]);
    // Each of these has as many elements as before, and no longer fits its neighbours.
    let transposed = changed("dense", |model| {
        let shape = main_graph(model).tensors().unwrap().get(input_of(Op::FULLY_CONNECTED, 1)(model)).shape().unwrap();
        let (at, out, length) = (offset_in(model, shape.bytes()), shape.get(0), shape.get(1));
        put(model, at, length);
        put(model, at + 4, out);
    });
    refused("transposed weights", &transposed, &["FULLY_CONNECTED"]);
    refused("another image", &with_dimension("dense", image, 1, 13), &["RESHAPE", "130 elements"]);
    refused("a large image", &with_dimension("conv_same", image, 1, 1000), &["CONV_2D", "states"]);
    // LiteRT's delegate computes with what is stated, beyond the end of what is there.
    let unpacked = |model: &[u8]| {
        let number = operator(model, Op::DEQUANTIZE);
        main_graph(model).operators().unwrap().get(number).outputs().unwrap().get(0) as usize
    };
    refused("a longer copy of a weight", &with_dimension("keras_float16", unpacked, 0, 40), &["DEQUANTIZE", "states"]);
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for bits in [0x7fc0_0000, 0x7f80_0000, 0xff80_0000_u32 as i32] {
        refused("a filter", &with_constant("conv_same", Op::CONV_2D, 1, &[0, bits]), &["finite", "element 1"]);
    }
    let float16 = changed("keras_float16", |model| {
        let tensor = main_graph(model).tensors().unwrap().get(input_of(Op::DEQUANTIZE, 0)(model));
        let data = root(model).buffers().unwrap().get(tensor.buffer() as usize).data().unwrap();
        let at = offset_in(model, data.bytes());
        model[at..at + 2].copy_from_slice(&0x7e00_u16.to_le_bytes());
    });
    refused("a float16 weight", &float16, &["finite", "element 0"]);
    for bits in [-1, 0x7fc0_0000, 0x7f80_0000, (-1.0_f32).to_bits() as i32] {
        let scale = changed("refused_int8", |model| {
            let tensors = main_graph(model).tensors().unwrap();
            let scales = tensors.iter().find_map(|tensor| tensor.quantization()?.scale()).unwrap();
            let at = offset_in(model, scales.bytes());
            put(model, at, bits);
        });
        refused("a scale", &scale, &["scale"]);
    }
    refused("a slope", &with_option("leaky_relu", Op::LEAKY_RELU, 0, 0x7fc0_0000), &["LEAKY_RELU", "finite"]);
    refused("a beta", &with_option("softmax_beta", Op::SOFTMAX, 0, 0x7f80_0000), &["SOFTMAX", "finite"]);
}

#[test]
fn broken_attributes_are_refused() {
    for value in [0, -1, i32::MIN] {
        refused("a stride", &with_option("conv_same", Op::CONV_2D, 1, value), &["CONV_2D", "stride"]);
        refused("a dilation", &with_option("conv_same_dilated", Op::CONV_2D, 4, value), &["CONV_2D", "dilation"]);
        refused("a stride", &with_option("depthwise_stride2", Op::DEPTHWISE_CONV_2D, 1, value), &["stride"]);
        refused("a filter", &with_option("max_pool_same", Op::MAX_POOL_2D, 3, value), &["filter"]);
        refused("a stride", &with_option("average_pool_valid", Op::AVERAGE_POOL_2D, 2, value), &["stride"]);
    }
    refused(
        "a gigantic dilation",
        &with_option("conv_valid_dilated", Op::CONV_2D, 4, i32::MAX),
        &["CONV_2D", "kernel"],
    );
    refused("a gigantic dilation", &with_option("conv_same_dilated", Op::CONV_2D, 4, i32::MAX), &["CONV_2D", "kernel"]);
    refused(
        "a gigantic filter",
        &with_option("max_pool_same", Op::MAX_POOL_2D, 3, i32::MAX),
        &["MAX_POOL_2D", "kernel"],
    );
    refused(
        "a filter beyond the image",
        &with_option("max_pool_valid", Op::MAX_POOL_2D, 3, 5000),
        &["MAX_POOL_2D", "kernel"],
    );
    refused("a multiplier", &with_option("depthwise_multiplier3", Op::DEPTHWISE_CONV_2D, 3, 2), &["DEPTHWISE_CONV_2D"]);
    refused("an axis", &with_option("concatenation", Op::CONCATENATION, 0, 4), &["CONCATENATION", "axis"]);
    refused(
        "an axis",
        &with_option("concatenation_of_bands", Op::CONCATENATION, 0, i32::MIN),
        &["CONCATENATION", "axis"],
    );
    refused("an axis", &with_option("pack", Op::PACK, 1, 9), &["PACK", "axis"]);
    refused("an axis", &with_option("gather_of_constants", Op::GATHER, 0, -5), &["GATHER", "axis"]);
    refused("axes", &with_constant("mean", Op::MEAN, 1, &[1, 4]), &["MEAN", "axis"]);
    refused("an axis", &with_constant("expand_dims", Op::EXPAND_DIMS, 1, &[-9]), &["EXPAND_DIMS", "axis"]);
    for shape in
        [[7, -1, 5, 4].as_slice(), &[1, -1, -1, 4], &[1, 0, -1, 4], &[-2, 6, 5, 4], &[i32::MAX, i32::MAX, i32::MAX, 4]]
    {
        refused("a shape", &with_constant("reshape", Op::RESHAPE, 1, shape), &["RESHAPE", "expected a shape"]);
    }
    refused("a negative padding", &with_constant("pad", Op::PAD, 1, &[0, 0, -1]), &["PAD"]);
    refused("a gigantic padding", &with_constant("pad", Op::PAD, 1, &[0, 0, i32::MAX, i32::MAX]), &["PAD", "elements"]);
    refused("an index", &with_constant("gather_of_constants", Op::GATHER, 1, &[10]), &["GATHER", "0 to 9", "10"]);
    refused("an index", &with_constant("gather_of_constants", Op::GATHER, 1, &[-1]), &["GATHER", "-1"]);
    refused("a stride of 0", &with_constant("slice_strides", Op::STRIDED_SLICE, 3, &[1, 0]), &["STRIDED_SLICE"]);
    refused("an empty slice", &with_constant("slice_begin_end", Op::STRIDED_SLICE, 1, &[0, 9]), &["STRIDED_SLICE"]);
    refused("an index of a slice", &with_constant("slice_shrink", Op::STRIDED_SLICE, 1, &[0, 12]), &["STRIDED_SLICE"]);
}

#[test]
fn broken_names_are_refused() {
    // LiteRT finds inputs by the names that a signature gives them.
    let image_of_signature = |value: i32| {
        changed("keras_pooled", |model| {
            let signature = root(model).signature_defs().unwrap().get(0);
            let map = signature.inputs().unwrap().iter().find(|map| map.tensor_index() != 0).unwrap();
            let at = field(map._tab, 1);
            put(model, at, value);
        })
    };
    refused("a signature of no input", &image_of_signature(0), &["signature 0", "inputs"]);
    refused("a signature out of range", &image_of_signature(-1), &["signature 0", "inputs"]);
    let metadata = changed("keras_pooled", |model| {
        let at = field(root(model).metadata().unwrap().get(0)._tab, 1);
        put(model, at, 9999);
    });
    refused("metadata out of range", &metadata, &["metadata 0"]);
}

/// A fixture with bytes overwritten at random.
fn mutated(models: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut model = models[random.random_range(0..models.len())].clone();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..model.len() / 4) * 4;
        match random.random_range(0..4) {
            0 => model[at + random.random_range(0..4)] = random.next_u32() as u8,
            1 => model[at] = model[at].wrapping_add(random.random_range(0..9)).wrapping_sub(4),
            2 => {
                let odd = [0, 1, -1, 2, 7, 255, 65_536, 1 << 24, i32::MAX, i32::MIN];
                put(&mut model, at, odd[random.random_range(0..odd.len())]);
            }
            _ => {
                let from = random.random_range(0..model.len() / 4) * 4;
                model.copy_within(from..from + 4, at);
            }
        }
    }
    model
}

/// Most mutated models are refused, some are odd but sound. None may panic or take long; with `compare`, those that both
/// engines take must give the same embedding. Answers how many tract took.
fn mutations(seed: u64, count: usize, compare: bool) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ops");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let models: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    // Kept for a look where LiteRT ends this process.
    let kept = tempfile::Builder::new().prefix("hostile").suffix(".tflite").tempfile().unwrap();
    let mut loaded = 0;
    for _ in 0..count {
        let model = mutated(&models, &mut random);
        let ours = timed_load(&model, EngineChoice::Tract);
        if let Err(error) = &ours {
            let message = error.to_string();
            let clear = !message.contains("panic") && !message.contains("defeats") && !message.contains('\n');
            assert!(clear, "{message} {}", {
                fs::write(kept.path(), &model).unwrap();
                keep(&kept)
            });
        }
        loaded += usize::from(ours.is_ok());
        let native = timed_load(&model, EngineChoice::Native);
        // What tract cannot prepare is its own limit, and no judgement of the model.
        let limit = |error: &EncoderError| error.to_string().contains("tract cannot prepare");
        let sound = ours.as_ref().map_or_else(limit, |_| true);
        assert!(native.is_err() || sound, "native takes what tract refuses: {:?} {}", ours.err(), {
            fs::write(kept.path(), &model).unwrap();
            keep(&kept)
        });
        if let (Ok(mut native), Ok(tract)) = (native, timed_load(&model, EngineChoice::Tract)) {
            fs::write(kept.path(), &model).unwrap();
            agree(native.as_mut(), tract, &mut random, &kept);
        }
        if !compare {
            continue;
        }
        fs::write(kept.path(), &model).unwrap();
        let theirs = timed_load(&model, EngineChoice::Litert);
        if let (Ok(mut ours), Ok(theirs)) = (ours, theirs) {
            agree(ours.as_mut(), theirs, &mut random, &kept);
        }
    }
    loaded
}

/// Two engines give one embedding.
fn agree(ours: &mut dyn Engine, mut theirs: Box<dyn Engine>, random: &mut ChaCha8Rng, kept: &tempfile::NamedTempFile) {
    let shape = ours.shape();
    assert_eq!(shape, theirs.shape());
    let image: Vec<f32> = (0..shape.bands * shape.frames).map(|_| random.random_range(0.0..1.0)).collect();
    let (Ok(found), Ok(expected)) = (ours.embed(&image, 1), theirs.embed(&image, 1)) else { return };
    let largest = expected.iter().map(|value| value.abs()).fold(1.0, f32::max);
    // With weights of 10^30 the order of additions decides whether they overflow: there is nothing to compare then.
    if found.iter().chain(&expected).any(|value| !value.is_finite()) {
        return;
    }
    let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-3 * largest;
    assert!(found.iter().zip(&expected).all(near), "{found:?} {expected:?} {}", keep(kept));
}

fn keep(kept: &tempfile::NamedTempFile) -> String {
    let file = kept.path().with_extension("kept.tflite");
    fs::copy(kept.path(), &file).unwrap();
    format!("the model is in {}", file.display())
}

/// Set for the process that has its memory to itself: the other tests of this program take some too.
const ALONE: &str = "AUSCULT_TEST_ALONE";

/// Runs a test of this module again in a process of its own; false in that process.
fn runs_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let name = format!("hostile_models::{test}");
    let output = alone.args(["--exact", &name, "--include-ignored", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    true
}

#[test]
fn mutated_models_do_no_harm() {
    if runs_alone("mutated_models_do_no_harm") {
        return;
    }
    let loaded = mutations(1, 1500, false);
    assert!((100..1400).contains(&loaded), "{loaded} of 1500 loaded: the mutations do not test both sides");
    assert!(peak_mb() < 200, "{} MB", peak_mb());
}

/// A dilation of eight million rows made tract pad the image to a gigabyte.
#[test]
fn a_wide_dilation_takes_no_memory() {
    if runs_alone("a_wide_dilation_takes_no_memory") {
        return;
    }
    let mut model = fixture("conv_same_dilated");
    assert_eq!(model[886], 0);
    model[886] = 122;
    let error = timed_load(&model, EngineChoice::Tract).map(drop).unwrap_err().to_string();
    assert!(error.contains("padded to at most"), "{error}");
    assert!(peak_mb() < 200, "{} MB", peak_mb());
}

#[test]
#[ignore = "heavy: 100 000 mutated models, a minute"]
fn many_mutated_models_do_no_harm() {
    if runs_alone("many_mutated_models_do_no_harm") {
        return;
    }
    mutations(2, 100_000, false);
    assert!(peak_mb() < 200, "{} MB", peak_mb());
}

/// Winograd's way of convolving would spread the rounding of a huge weight over all that it is mixed with: weights of its
/// filter, and the pixels beside those that it makes huge in any later layer.
#[test]
fn one_huge_weight_spoils_nothing_else() {
    // Each makes some 10^20 of a weight: of the second convolution, and of a table far before it.
    for bytes in [&[(7139, 225)][..], &[(2796, 47), (2797, 97), (2798, 100), (2799, 100)]] {
        let mut model = fixture("keras_batch1_softmax");
        bytes.iter().for_each(|&(at, byte)| model[at] = byte);
        let kept = tempfile::Builder::new().prefix("hostile").suffix(".tflite").tempfile().unwrap();
        fs::write(kept.path(), &model).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(4);
        for _ in 0..8 {
            let mut native = timed_load(&model, EngineChoice::Native).unwrap();
            agree(native.as_mut(), timed_load(&model, EngineChoice::Tract).unwrap(), &mut random, &kept);
        }
    }
}

/// A dimension that the model leaves open must come out as the embedding's all the same.
#[test]
fn an_embedding_of_many_rows_is_refused_by_every_engine() {
    let mut model = fixture("expand_dims");
    for (at, byte) in [(404, 0), (1312, 66), (1708, 108)] {
        model[at] = byte;
    }
    for engine in [EngineChoice::Native, EngineChoice::Tract] {
        assert!(timed_load(&model, engine).is_err(), "{engine:?}");
    }
}

/// Of an operator that only LiteRT knows nobody else computes the shape: what it would write must have room.
#[test]
fn an_output_larger_than_stated_is_refused_before_litert_writes_it() {
    let model = with_dimension("refused_fused_relu_n1", image, 1, 1200);
    let Err(EncoderError::Model(message)) = timed_load(&model, EngineChoice::Litert).map(drop) else {
        panic!("expected a refusal")
    };
    assert!(message.contains("LiteRT computes [100, 240]"), "{message}");
}

/// Nothing that passes our checks may bring LiteRT down, which would end this process.
#[test]
#[ignore = "heavy: 20 000 mutated models on LiteRT, two minutes"]
fn mutated_models_run_alike_on_both_engines() {
    mutations(3, 20_000, true);
}

#[test]
fn a_library_that_is_not_litert_is_named() {
    let model: Arc<[u8]> = fixture("dense").into();
    let with = |engine, library: &Path| load(model.clone(), &EncoderConfig { engine, library: Some(library.into()) });
    let missing = Path::new("/nonexistent/libLiteRt.so");
    let Err(EncoderError::Engine(message)) = with(EngineChoice::Litert, missing) else { panic!("expected a refusal") };
    assert!(message.contains("/nonexistent/libLiteRt.so") && !message.contains('\n'), "{message}");
    let other = Path::new("libc.so.6");
    let Err(EncoderError::Engine(message)) = with(EngineChoice::Litert, other) else { panic!("expected a refusal") };
    assert!(message.contains("libc.so.6") && message.contains("LiteRtCreateEnvironment"), "{message}");
    // Where it may choose, the library is not asked for at all.
    assert_eq!(with(EngineChoice::Auto, missing).unwrap().name(), "native");
}
