//! The arrays of a bundle. Type, shape and length are compared with the file before `ndarray-npy` allocates for them.

use ndarray::{Array, Dimension};
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ReadNpyExt, ReadableElement};

/// Longest header that is read, bytes; numpy writes 118 for a plain array.
const HEADER_LIMIT: usize = 1024;
/// Most brackets in a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 32), }` has two. The parser behind
/// `ndarray-npy` recurses into them.
const BRACKET_LIMIT: usize = 8;

/// What an array may hold.
pub trait Element: ReadableElement {
    /// numpy's name of the type.
    const NAME: &'static str;
    /// numpy's code of the type, without byte order.
    const CODE: &'static str;
    const BYTES: usize;
}

impl Element for f32 {
    const NAME: &'static str = "float32";
    const CODE: &'static str = "f4";
    const BYTES: usize = 4;
}

impl Element for i64 {
    const NAME: &'static str = "int64";
    const CODE: &'static str = "i8";
    const BYTES: usize = 8;
}

/// Reads an `.npy` file of exactly this type (either byte order, C or Fortran order) and number of dimensions.
///
/// # Errors
/// One line: what was expected, what was found.
pub fn read<A: Element, D: Dimension>(bytes: &[u8]) -> Result<Array<A, D>, String> {
    let header = header(bytes)?;
    let found = header.type_descriptor.to_string();
    let code = found.trim_matches('\'');
    if code.strip_prefix(['<', '>']) != Some(A::CODE) {
        return Err(format!("expected {} ('<{}'), found {}", A::NAME, A::CODE, shorten(&found)));
    }
    let shape = header.shape.as_slice();
    let dimensions = D::NDIM.expect("only arrays of fixed dimensions are read");
    if shape.len() != dimensions {
        return Err(format!("expected {dimensions} dimensions, found shape {}", shorten(&format!("{shape:?}"))));
    }
    if shape.contains(&0) {
        return Err(format!("expected an array that holds something, found shape {}", shorten(&format!("{shape:?}"))));
    }
    let expected = shape.iter().try_fold(A::BYTES, |bytes, length| bytes.checked_mul(*length));
    let data = bytes.len() - prefix(bytes)?.end;
    if expected != Some(data) {
        let expected = expected.map_or("more than there can be".into(), |bytes| bytes.to_string());
        return Err(format!("expected {expected} bytes of data for shape {shape:?}, found {data}"));
    }
    Array::read_npy(bytes).map_err(|error| format!("expected an array, found {}", shorten(&error.to_string())))
}

/// Where the header's text lies in the file.
fn prefix(bytes: &[u8]) -> Result<std::ops::Range<usize>, String> {
    let truncated = || format!("expected an npy header, found {} bytes", bytes.len());
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("expected an npy file (\\x93NUMPY), found other bytes".into());
    }
    let (start, length) = match *bytes.get(6..12).and_then(|head| head.first_chunk::<6>()).ok_or_else(truncated)? {
        [1, 0, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2 | 3, 0, a, b, c, d] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [major, minor, ..] => return Err(format!("expected npy version 1.0 to 3.0, found {major}.{minor}")),
    };
    if length > HEADER_LIMIT {
        return Err(format!("expected an npy header of at most {HEADER_LIMIT} bytes, found {length}"));
    }
    if start + length > bytes.len() {
        return Err(truncated());
    }
    Ok(start..start + length)
}

fn header(bytes: &[u8]) -> Result<Header, String> {
    let range = prefix(bytes)?;
    let text = &bytes[range.clone()];
    let brackets = text.iter().filter(|byte| matches!(byte, b'(' | b'[' | b'{')).count();
    if brackets > BRACKET_LIMIT {
        return Err(format!("expected the header of a plain array, found {brackets} brackets in it"));
    }
    let mut head = &bytes[..range.end];
    Header::from_reader(&mut head).map_err(|error| {
        let problem = error.to_string();
        format!("expected an npy header, found {}", shorten(problem.lines().next().unwrap_or_default()))
    })
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(80).chain("...".chars()).collect() }
}
