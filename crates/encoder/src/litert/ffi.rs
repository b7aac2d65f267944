//! LiteRT's C API, as far as it is called: declarations, the library, and handles that are destroyed once.
#![allow(unsafe_code, reason = "a C library is called; each block says why it is sound")]

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};

use crate::engine::{EncoderError, one_line};

/// What the dynamic loader is asked for where no path is configured.
const LIBRARY: &str = "libLiteRt.so";
/// In 2.1.6 the calls took their present form; this symbol came with it.
const SINCE_2_1_6: &[u8] = b"LiteRtCreateModelFromFd\0";

pub(super) const CPU: c_int = 1;
pub(super) const HOST_MEMORY: c_int = 1;
pub(super) const LOCK_READ: c_int = 0;
pub(super) const LOCK_WRITE: c_int = 1;
pub(super) const FLOAT32: c_int = 1;
pub(super) const INT32: c_int = 2;
pub(super) const INT64: c_int = 4;
pub(super) const MIN_LOGGER_SEVERITY: c_int = 25;
pub(super) const ANY_INT: c_int = 2;
pub(super) const SEVERITY_ERROR: i64 = 3;

pub(super) type Raw = *mut c_void;
pub(super) type Status = c_int;

/// `LiteRtLayout`: rank in the lowest seven bits of `flags`, then dimensions (below 0: free) and strides.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Layout {
    pub flags: u32,
    pub dimensions: [i32; 8],
    strides: [u32; 8],
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct TensorType {
    pub element: c_int,
    pub layout: Layout,
}

/// `LiteRtEnvOption` with the integer of `LiteRtAny`.
#[repr(C)]
pub(super) struct EnvironmentOption {
    pub tag: c_int,
    pub value: AnyInt,
}

#[repr(C)]
pub(super) struct AnyInt {
    pub kind: c_int,
    pub value: i64,
}

const _: () =
    assert!(size_of::<Layout>() == 68 && size_of::<TensorType>() == 72 && size_of::<EnvironmentOption>() == 24);

/// The calls that are made, as declared in `litert/c/*.h` of 2.1.6 and later.
macro_rules! api {
    ($($field:ident = $symbol:ident($($argument:ty),*) $(-> $answer:ty)?;)*) => {
        #[derive(Clone, Copy)]
        pub(super) struct Api { $(pub $field: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)* }

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
    pub fn open(configured: Option<&Path>) -> Result<Api, EncoderError> {
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
pub(super) struct Handle {
    raw: NonNull<c_void>,
    destroy: unsafe extern "C" fn(Raw),
}

impl Handle {
    /// Takes what a create function has written to `raw`.
    pub fn of(
        what: &str,
        status: Status,
        raw: Raw,
        destroy: unsafe extern "C" fn(Raw),
    ) -> Result<Handle, EncoderError> {
        match NonNull::new(raw) {
            Some(raw) if status == 0 => Ok(Handle { raw, destroy }),
            _ => Err(EncoderError::Model(format!("LiteRT cannot create {what}: {}", status_name(status)))),
        }
    }

    pub fn raw(&self) -> Raw {
        self.raw.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the create function that goes with `destroy`, and is destroyed only here.
        unsafe { (self.destroy)(self.raw.as_ptr()) }
    }
}

/// A buffer's memory, unlocked when this is dropped.
pub(super) struct Locked<'a> {
    api: &'a Api,
    buffer: Raw,
    pub bytes: NonNull<u8>,
    _buffer: PhantomData<&'a mut Handle>,
}

impl<'a> Locked<'a> {
    pub fn of(api: &'a Api, buffer: &'a mut Handle, mode: c_int) -> Result<Self, EncoderError> {
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

pub(super) fn done(what: &str, status: Status) -> Result<(), EncoderError> {
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
