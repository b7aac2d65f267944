//! numpy's scalars: a dtype and the bytes of one value.

use super::value::{Dtype, Node, TEXT_LIMIT};

/// `f8`, `<i4`, `U5` ...; a state that follows may still set the byte order.
pub fn dtype(code: &str) -> Result<Dtype, String> {
    let bare = code.trim_start_matches(['<', '>', '|', '=']);
    let mut chars = bare.chars();
    let kind = chars.next().and_then(|kind| u8::try_from(kind).ok()).unwrap_or(b'?');
    let size = chars.as_str().parse().unwrap_or(0);
    let known = match kind {
        b'f' => matches!(size, 2 | 4 | 8),
        b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
        b'U' => (1..=TEXT_LIMIT).contains(&size),
        _ => false,
    };
    if !known {
        let shown: String = code.chars().take(32).collect();
        return Err(format!("expected a dtype of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 U, found {shown:?}"));
    }
    Ok(Dtype { kind, size, big_endian: code.starts_with('>') })
}

/// The value of a scalar's bytes.
pub fn scalar<'a>(dtype: Dtype, bytes: &[u8]) -> Result<Node<'a>, String> {
    let Dtype { kind, size, big_endian } = dtype;
    let length = if kind == b'U' { 4 * size } else { size };
    if bytes.len() != length {
        return Err(format!(
            "expected {length} bytes for a scalar of {}{size}, found {}",
            char::from(kind),
            bytes.len()
        ));
    }
    // Little-endian and 64 bits wide from here on.
    let bits = |bytes: &[u8]| {
        let shift = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
        if big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    };
    Ok(match (kind, size) {
        (b'U', _) => {
            let chars = bytes.chunks_exact(4).map(|code| u32::try_from(bits(code)).ok().and_then(char::from_u32));
            let text: Option<String> = chars.collect();
            let text = text.ok_or("expected a text scalar of valid characters, found others")?;
            Node::Text(text.trim_end_matches('\0').to_owned().into())
        }
        (b'f', 2) => Node::Float(half(bits(bytes))),
        (b'f', 4) => Node::Float(f32::from_bits(bits(bytes) as u32).into()),
        (b'f', _) => Node::Float(f64::from_bits(bits(bytes))),
        (b'i', _) => {
            let unused = 64 - 8 * size as u32;
            Node::Int((bits(bytes) << unused) as i64 >> unused)
        }
        _ => Node::Int(i64::try_from(bits(bytes)).map_err(|_| "expected a number below 2^63, found a larger one")?),
    })
}

/// IEEE 754 binary16.
fn half(bits: u64) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = ((bits >> 10 & 0x1f) as i32, (bits & 0x3ff) as f64);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}
