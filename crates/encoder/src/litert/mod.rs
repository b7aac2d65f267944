//! The LiteRT engine: the C API of `libLiteRt.so`, opened at run time where it is installed.
//!
//! LiteRT is C++ and trusts what a model file states, so it is given only bytes that passed our own checks: those of
//! the flatbuffer's structure and, for the operators that we know, of their attributes and shapes.
#![allow(unsafe_code, reason = "a C library is called; each block says why it is sound")]

mod ffi;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::{EncoderError, EncoderShape, Engine};
use super::interface::{IndexType, Interface};
use super::{graph, tract};
use ffi::{
    ANY_INT, AnyInt, Api, CPU, EnvironmentOption, FLOAT32, HOST_MEMORY, Handle, INT32, INT64, LOCK_READ, LOCK_WRITE,
    Layout, Locked, MIN_LOGGER_SEVERITY, Raw, SEVERITY_ERROR, Status, TensorType, done,
};

/// One loaded model. The fields are destroyed in the order in which they stand: each is used by those above it.
struct Session {
    image: Handle,
    machine: Handle,
    /// In the order of the model's signature: whether the image comes first.
    image_first: bool,
    output: Handle,
    compiled: Handle,
    _model: Handle,
    _environment: Handle,
    /// LiteRT reads the weights from here for as long as the model lives.
    bytes: Arc<[u8]>,
}

pub(super) struct LitertEngine {
    api: Api,
    interface: Interface,
    /// `None` only while it is dropped.
    session: Option<Session>,
}

// SAFETY: nothing in LiteRT's objects is bound to the thread that made them. Running takes `&mut self`, so there is never
// more than one thread in one session; sessions share no object, and are made and destroyed one at a time (`MAKING`).
unsafe impl Send for LitertEngine {}

/// LiteRT does not promise that environments may be made and destroyed by several threads at once.
static MAKING: Mutex<()> = Mutex::new(());

impl LitertEngine {
    /// # Errors
    /// `Engine` where the library cannot be had, `Model` for anything wrong with the bytes.
    pub fn load(model: Arc<[u8]>, library: Option<&Path>) -> Result<LitertEngine, EncoderError> {
        let api = Api::open(library)?;
        let interface = check(&model)?;
        let made = {
            let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            api.session(model, &interface)?
        };
        let mut engine = LitertEngine { api, interface, session: Some(made) };
        let EncoderShape { bands, frames, .. } = engine.interface.shape;
        engine
            .embed(&vec![0.0; bands * frames], 0)
            .map_err(|error| EncoderError::Model(format!("trial run: {error}")))?;
        Ok(engine)
    }
}

/// Whether LiteRT may be given these bytes: our own structural checks, and those of our translation.
fn check(model: &[u8]) -> Result<Interface, EncoderError> {
    // As in the tract engine: its code must not bring the agent down.
    catch_unwind(AssertUnwindSafe(|| {
        let graph = graph::read(model)?;
        let interface = Interface::of(&graph)?;
        tract::check(&graph, &interface)?;
        Ok(interface)
    }))
    .unwrap_or_else(|_| {
        Err(EncoderError::Model("expected a model that can be checked, found one that defeats it".into()))
    })
}

impl Api {
    fn session(&self, bytes: Arc<[u8]>, interface: &Interface) -> Result<Session, EncoderError> {
        let option =
            EnvironmentOption { tag: MIN_LOGGER_SEVERITY, value: AnyInt { kind: ANY_INT, value: SEVERITY_ERROR } };
        let mut raw: Raw = ptr::null_mut();
        // SAFETY (all calls here): the arguments are as the header declares them; handles passed are alive, and `raw`
        // is a place for one pointer, which is read only after the call.
        let status = unsafe { (self.create_environment)(1, &option, &mut raw) };
        let environment = Handle::of("an environment", status, raw, self.destroy_environment)?;

        raw = ptr::null_mut();
        // SAFETY: as above; the bytes are kept in the session, which drops them after the model.
        let status = unsafe { (self.create_model)(environment.raw(), bytes.as_ptr().cast(), bytes.len(), &mut raw) };
        let model = Handle::of("the model", status, raw, self.destroy_model)?;

        let (inputs, output) = self.signature(&model)?;
        let image_first = match inputs.map(|input| describes(&input, FLOAT32, &interface.image.1)) {
            [true, false] => true,
            [false, true] => false,
            _ => return Err(unlike("inputs")),
        };
        let (image_type, machine_type) = if image_first { (inputs[0], inputs[1]) } else { (inputs[1], inputs[0]) };
        let index_type = match interface.machine_type {
            IndexType::F32 => FLOAT32,
            IndexType::I32 => INT32,
            IndexType::I64 => INT64,
        };
        if !describes(&machine_type, index_type, &interface.machine.1) {
            return Err(unlike("inputs"));
        }
        if !describes(&output, FLOAT32, &[1, interface.shape.embedding]) {
            return Err(unlike("output"));
        }

        raw = ptr::null_mut();
        // SAFETY: as above.
        let status = unsafe { (self.create_options)(&mut raw) };
        let options = Handle::of("options", status, raw, self.destroy_options)?;
        // SAFETY: as above. One thread is LiteRT's default.
        done("set the accelerator", unsafe { (self.set_accelerators)(options.raw(), CPU) })?;
        raw = ptr::null_mut();
        // SAFETY: as above; the options are only read during the call.
        let status = unsafe { (self.create_compiled_model)(environment.raw(), model.raw(), options.raw(), &mut raw) };
        let compiled = Handle::of("the compiled model", status, raw, self.destroy_compiled_model)?;

        // LiteRT computes its own shapes, and writes as much as they say into a buffer that has what the file says.
        let mut computed = TensorType { element: FLOAT32, layout: Layout::default() };
        // SAFETY: as above; there is one output, and one layout to write to.
        let status = unsafe { (self.output_layouts)(compiled.raw(), 0, 1, &mut computed.layout, true) };
        done("compute the output's shape", status)?;
        let stated = [1, interface.shape.embedding];
        if !describes(&computed, FLOAT32, &stated) {
            let rank = (computed.layout.flags & 0x7f).min(8) as usize;
            let found = &computed.layout.dimensions[..rank];
            return Err(EncoderError::Model(format!("expected an output of {stated:?}, LiteRT computes {found:?}")));
        }

        let size = interface.shape.bands * interface.shape.frames * size_of::<f32>();
        let image = self.buffer(&environment, image_type, size)?;
        let size = if index_type == INT64 { size_of::<i64>() } else { size_of::<f32>() };
        let machine = self.buffer(&environment, machine_type, size)?;
        let output = self.buffer(&environment, output, interface.shape.embedding * size_of::<f32>())?;
        Ok(Session { image, machine, image_first, output, compiled, _model: model, _environment: environment, bytes })
    }

    /// Types of the two inputs and the output, as the model's first signature orders them.
    fn signature(&self, model: &Handle) -> Result<([TensorType; 2], TensorType), EncoderError> {
        let (mut signature, mut inputs, mut outputs) = (ptr::null_mut(), 0, 0);
        // SAFETY: the model is alive, and owns the signature; the places written to are of the declared types.
        unsafe {
            done("find the signature", (self.model_signature)(model.raw(), 0, &mut signature))?;
            done("count the inputs", (self.signature_input_count)(signature, &mut inputs))?;
            done("count the outputs", (self.signature_output_count)(signature, &mut outputs))?;
        }
        if (inputs, outputs) != (2, 1) {
            return Err(EncoderError::Model(format!(
                "expected a signature of 2 inputs and 1 output, found {inputs} and {outputs}"
            )));
        }
        let tensor_type = |find: unsafe extern "C" fn(Raw, usize, *mut Raw) -> Status, number| {
            let (mut tensor, mut found) = (ptr::null_mut(), TensorType::default());
            // SAFETY: as above; the model owns the tensor.
            unsafe {
                done("find a tensor", find(signature, number, &mut tensor))?;
                done("read a tensor's type", (self.ranked_type)(tensor, &mut found))?;
            }
            Ok::<_, EncoderError>(found)
        };
        Ok((
            [tensor_type(self.signature_input, 0)?, tensor_type(self.signature_input, 1)?],
            tensor_type(self.signature_output, 0)?,
        ))
    }

    /// A buffer of at least `size` bytes for one tensor; free dimensions are 1.
    fn buffer(&self, environment: &Handle, mut tensor: TensorType, size: usize) -> Result<Handle, EncoderError> {
        tensor.layout.dimensions.iter_mut().for_each(|dim| *dim = (*dim).max(1));
        let mut raw: Raw = ptr::null_mut();
        // SAFETY: the environment is alive, and outlives the buffer in the session.
        let status = unsafe { (self.create_buffer)(environment.raw(), HOST_MEMORY, &tensor, size, &mut raw) };
        let buffer = Handle::of("a buffer", status, raw, self.destroy_buffer)?;
        let mut found = 0;
        // SAFETY: the buffer is alive.
        done("measure a buffer", unsafe { (self.buffer_size)(buffer.raw(), &mut found) })?;
        if found < size {
            return Err(EncoderError::Model(format!("expected a buffer of {size} bytes, found {found}")));
        }
        Ok(buffer)
    }

    fn write<T: Copy>(&self, buffer: &mut Handle, values: &[T]) -> Result<(), EncoderError> {
        let locked = Locked::of(self, buffer, LOCK_WRITE)?;
        // SAFETY: the buffer was made with room for these values, is locked for writing, and is not Rust's memory.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), locked.bytes.as_ptr(), size_of_val(values)) };
        Ok(())
    }

    fn read(&self, buffer: &mut Handle, length: usize) -> Result<Vec<f32>, EncoderError> {
        let locked = Locked::of(self, buffer, LOCK_READ)?;
        let mut values = vec![0.0_f32; length];
        // SAFETY: the buffer was made with room for `length` values, and is locked for reading.
        unsafe {
            ptr::copy_nonoverlapping(locked.bytes.as_ptr(), values.as_mut_ptr().cast::<u8>(), length * size_of::<f32>())
        };
        Ok(values)
    }
}

impl Engine for LitertEngine {
    fn name(&self) -> &'static str {
        "litert"
    }

    fn shape(&self) -> EncoderShape {
        self.interface.shape
    }

    fn embed(&mut self, image: &[f32], machine_index: u32) -> Result<Vec<f32>, EncoderError> {
        self.interface.check(image, machine_index)?;
        let session = self.session.as_mut().expect("there is a session until the engine is dropped");
        self.api.write(&mut session.image, image)?;
        match self.interface.machine_type {
            IndexType::F32 => self.api.write(&mut session.machine, &[machine_index as f32]),
            IndexType::I32 => self.api.write(&mut session.machine, &[machine_index as i32]),
            IndexType::I64 => self.api.write(&mut session.machine, &[i64::from(machine_index)]),
        }?;
        let (image, machine) = (session.image.raw(), session.machine.raw());
        let inputs = if session.image_first { [image, machine] } else { [machine, image] };
        let outputs = [session.output.raw()];
        // SAFETY: the compiled model and the buffers are alive and unlocked; there are as many as the signature has.
        let status = unsafe {
            (self.api.run)(session.compiled.raw(), 0, inputs.len(), inputs.as_ptr(), outputs.len(), outputs.as_ptr())
        };
        done("run the model", status)?;
        self.api.read(&mut session.output, self.interface.shape.embedding)
    }

    /// The file's bytes are shared; what LiteRT makes of them is made anew.
    fn share(&self) -> Result<Box<dyn Engine>, EncoderError> {
        let session = self.session.as_ref().expect("there is a session until the engine is dropped");
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let made = self.api.session(session.bytes.clone(), &self.interface)?;
        Ok(Box::new(LitertEngine { api: self.api, interface: self.interface.clone(), session: Some(made) }))
    }
}

impl Drop for LitertEngine {
    fn drop(&mut self) {
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        self.session = None;
    }
}

/// Whether LiteRT sees a tensor as we do; free dimensions stand for 1.
fn describes(tensor: &TensorType, element: c_int, dims: &[usize]) -> bool {
    let rank = (tensor.layout.flags & 0x7f) as usize;
    tensor.element == element
        && rank == dims.len()
        && tensor.layout.dimensions.iter().zip(dims).all(|(&found, &dim)| usize::try_from(found.max(1)) == Ok(dim))
}

fn unlike(what: &str) -> EncoderError {
    EncoderError::Engine(format!(
        "expected LiteRT to see the model's {what} as the file states them, found that it does not: an unknown version?"
    ))
}
