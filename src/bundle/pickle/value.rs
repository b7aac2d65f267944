//! The values of a pickle: what it is made of while it is read, and what is left in the end.

use std::borrow::Cow;

/// Longest text that a dict may hold as key or value, bytes.
pub const TEXT_LIMIT: usize = 256;

/// A key or value of a dict.
#[derive(Debug, Clone, PartialEq)]
pub enum Atom {
    Text(String),
    Int(i64),
    Float(f64),
}

impl Atom {
    /// The number that it is, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Atom::Text(_) => None,
            Atom::Int(value) => Some(*value as f64),
            Atom::Float(value) => Some(*value),
        }
    }

    /// The whole number from 0 that it is, if it is one: 3 and 3.0 alike.
    pub fn index(&self) -> Option<u32> {
        match self {
            Atom::Text(_) => None,
            Atom::Int(value) => u32::try_from(*value).ok(),
            Atom::Float(value) => {
                let whole = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(value);
                whole.then_some(*value as u32)
            }
        }
    }
}

impl std::fmt::Display for Atom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Atom::Text(text) => write!(f, "{text:?}"),
            Atom::Int(value) => write!(f, "{value}"),
            Atom::Float(value) => write!(f, "{value:?}"),
        }
    }
}

/// Number of a [`Node`].
pub type Id = usize;

#[derive(Debug)]
pub enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Dtype(Dtype),
}

/// The only names that may be called; what they do is known here, nothing else is looked up.
#[derive(Debug, Clone, Copy)]
pub enum Global {
    NumpyScalar,
    NumpyDtype,
    /// Bytes in protocols 0 to 2: `_codecs.encode(text, "latin1")`.
    Encode,
}

/// The type of a numpy scalar.
#[derive(Debug, Clone, Copy)]
pub struct Dtype {
    /// `f`, `i`, `u` or `U`.
    pub kind: u8,
    /// Bytes; for `U`, characters of four bytes.
    pub size: usize,
    pub big_endian: bool,
}

impl Global {
    /// The one of this name.
    pub fn find(module: &str, name: &str) -> Result<Global, String> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Ok(Global::NumpyScalar),
            ("numpy", "dtype") => Ok(Global::NumpyDtype),
            ("_codecs", "encode") => Ok(Global::Encode),
            _ => {
                let shown: String = format!("{module}.{name}").chars().take(64).collect();
                Err(format!("expected numpy scalars and plain values, found the global {shown:?}"))
            }
        }
    }
}
