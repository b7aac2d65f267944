//! The LiteRT engine: the C API of `libLiteRt.so`, opened at run time where it is installed.
//!
//! LiteRT is C++ and trusts what a model file states, so it is given only bytes that passed our own checks: those of
//! the flatbuffer's structure and, for the operators that we know, of their attributes and shapes.
#![allow(unsafe_code, reason = "a C library is called; each block says why it is sound")]

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use super::interface::{IndexType, Interface};
use super::{EncoderError, EncoderShape, Engine, graph, one_line, tract};

/// What the dynamic loader is asked for where no path is configured.
const LIBRARY: &str = "libLiteRt.so";
/// In 2.1.6 the calls took their present form; this symbol came with it.
const SINCE_2_1_6: &[u8] = b"LiteRtCreateModelFromFd\0";

const CPU: c_int = 1;
const HOST_MEMORY: c_int = 1;
const LOCK_READ: c_int = 0;
const LOCK_WRITE: c_int = 1;
const FLOAT32: c_int = 1;
const INT32: c_int = 2;
const INT64: c_int = 4;
const MIN_LOGGER_SEVERITY: c_int = 25;
const ANY_INT: c_int = 2;
const SEVERITY_ERROR: i64 = 3;

type Raw = *mut c_void;
type Status = c_int;

/// `LiteRtLayout`: rank in the lowest seven bits of `flags`, then dimensions (below 0: free) and strides.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Layout {
    flags: u32,
    dimensions: [i32; 8],
    strides: [u32; 8],
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TensorType {
    element: c_int,
    layout: Layout,
}

/// `LiteRtEnvOption` with the integer of `LiteRtAny`.
#[repr(C)]
struct EnvironmentOption {
    tag: c_int,
    value: AnyInt,
}

#[repr(C)]
struct AnyInt {
    kind: c_int,
    value: i64,
}

const _: () =
    assert!(size_of::<Layout>() == 68 && size_of::<TensorType>() == 72 && size_of::<EnvironmentOption>() == 24);

/// The calls that are made, as declared in `litert/c/*.h` of 2.1.6 and later.
macro_rules! api {
    ($($field:ident = $symbol:ident($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        #[derive(Clone, Copy)]
        struct Api { $($field: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)* }

        impl Api {
            fn of(library: &libloading::Library) -> Result<Api, &'static str> {
                Ok(Api { $($field: {
                    // SAFETY: the declaration is that of LiteRT's header for this name.
                    let symbol = unsafe { library.get(concat!(stringify!($symbol), "\0").as_bytes()) };
                    *symbol.map_err(|_| stringify!($symbol))?
                },)* })
            }
        }
    };
}

api! {
    create_environment = LiteRtCreateEnvironment(c_int, *const EnvironmentOption, *mut Raw) -> Status;
    destroy_environment = LiteRtDestroyEnvironment(Raw);
    create_model = LiteRtCreateModelFromBuffer(Raw, *const c_void, usize, *mut Raw) -> Status;
    destroy_model = LiteRtDestroyModel(Raw);
    model_signature = LiteRtGetModelSignature(Raw, usize, *mut Raw) -> Status;
    signature_input_count = LiteRtGetNumSignatureInputs(Raw, *mut usize) -> Status;
    signature_output_count = LiteRtGetNumSignatureOutputs(Raw, *mut usize) -> Status;
    signature_input = LiteRtGetSignatureInputTensorByIndex(Raw, usize, *mut Raw) -> Status;
    signature_output = LiteRtGetSignatureOutputTensorByIndex(Raw, usize, *mut Raw) -> Status;
    ranked_type = LiteRtGetRankedTensorType(Raw, *mut TensorType) -> Status;
    create_options = LiteRtCreateOptions(*mut Raw) -> Status;
    set_accelerators = LiteRtSetOptionsHardwareAccelerators(Raw, c_int) -> Status;
    destroy_options = LiteRtDestroyOptions(Raw);
    create_compiled_model = LiteRtCreateCompiledModel(Raw, Raw, Raw, *mut Raw) -> Status;
    destroy_compiled_model = LiteRtDestroyCompiledModel(Raw);
    output_layouts = LiteRtGetCompiledModelOutputTensorLayouts(Raw, usize, usize, *mut Layout, bool) -> Status;
    create_buffer = LiteRtCreateManagedTensorBuffer(Raw, c_int, *const TensorType, usize, *mut Raw) -> Status;
    buffer_size = LiteRtGetTensorBufferSize(Raw, *mut usize) -> Status;
    lock = LiteRtLockTensorBuffer(Raw, *mut Raw, c_int) -> Status;
    unlock = LiteRtUnlockTensorBuffer(Raw) -> Status;
    destroy_buffer = LiteRtDestroyTensorBuffer(Raw);
    run = LiteRtRunCompiledModel(Raw, usize, usize, *const Raw, usize, *const Raw) -> Status;
}

impl Api {
    fn open(configured: Option<&Path>) -> Result<Api, EncoderError> {
        let path = configured.map_or_else(|| PathBuf::from(LIBRARY), Path::to_owned);
        let engine = |problem: String| EncoderError::Engine(format!("{}: {problem}", path.display()));
        // SAFETY: opening runs the library's initialisers; the path is the operator's, or the system's own search path,
        // and as trusted as this program.
        let library = unsafe { libloading::Library::new(&path) }.map_err(|error| {
            engine(format!("expected LiteRT's library, cannot open it: {}", one_line(&error.to_string())))
        })?;
        // SAFETY: only whether the symbol is there is asked for; it is never called through this type.
        let recent = unsafe { library.get::<unsafe extern "C" fn()>(SINCE_2_1_6) }.is_ok();
        let api = Api::of(&library)
            .map_err(|missing| engine(format!("expected LiteRT's library, found none of its symbol {missing}")))?;
        if !recent {
            return Err(engine("expected LiteRT 2.1.6 or later, found an older one".into()));
        }
        // What a C++ library registers when it is opened is not made to be taken away again: it stays.
        std::mem::forget(library);
        Ok(api)
    }
}

/// An object of LiteRT's, destroyed with this handle.
struct Handle {
    raw: NonNull<c_void>,
    destroy: unsafe extern "C" fn(Raw),
}

impl Handle {
    /// Takes what a create function has written to `raw`.
    fn of(what: &str, status: Status, raw: Raw, destroy: unsafe extern "C" fn(Raw)) -> Result<Handle, EncoderError> {
        match NonNull::new(raw) {
            Some(raw) if status == 0 => Ok(Handle { raw, destroy }),
            _ => Err(EncoderError::Model(format!("LiteRT cannot create {what}: {}", status_name(status)))),
        }
    }

    fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the create function that goes with `destroy`, and is destroyed only here.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

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
    _bytes: Arc<[u8]>,
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
        Ok(Session {
            image,
            machine,
            image_first,
            output,
            compiled,
            _model: model,
            _environment: environment,
            _bytes: bytes,
        })
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

/// A buffer's memory, unlocked when this is dropped.
struct Locked<'a> {
    api: &'a Api,
    buffer: Raw,
    bytes: NonNull<u8>,
    _buffer: PhantomData<&'a mut Handle>,
}

impl<'a> Locked<'a> {
    fn of(api: &'a Api, buffer: &'a mut Handle, mode: c_int) -> Result<Self, EncoderError> {
        let mut memory: Raw = ptr::null_mut();
        // SAFETY: the buffer is alive and, borrowed mutably, not locked already.
        done("lock a buffer", unsafe { (api.lock)(buffer.raw(), &mut memory, mode) })?;
        match NonNull::new(memory.cast()) {
            Some(bytes) => Ok(Locked { api, buffer: buffer.raw(), bytes, _buffer: PhantomData }),
            None => {
                // SAFETY: it has just been locked.
                unsafe { (api.unlock)(buffer.raw()) };
                Err(EncoderError::Run("LiteRT locked a buffer without memory".into()))
            }
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: the buffer is borrowed and locked; an error here has no one to go to, and no memory depends on it.
        unsafe { (self.api.unlock)(self.buffer) };
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

fn done(what: &str, status: Status) -> Result<(), EncoderError> {
    match status {
        0 => Ok(()),
        _ => Err(EncoderError::Run(format!("LiteRT cannot {what}: {}", status_name(status)))),
    }
}

fn status_name(status: Status) -> String {
    let name = match status {
        1 => "invalid argument",
        2 => "out of memory",
        3 => "runtime failure",
        5 => "not supported",
        6 => "not found",
        8 => "wrong version",
        501 => "invalid flatbuffer",
        504 => "compilation failed",
        _ => return format!("status {status}"),
    };
    format!("{name} (status {status})")
}
