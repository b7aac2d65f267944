//! The two pickles of a bundle: dicts from and to names and numbers. Nothing in a pickle is ever called.
//!
//! Our own reader, because a general one (serde-pickle) drops what numpy's scalars need: it keeps either the kind
//! or the byte order of a dtype, never both. It also copies what the memo refers to, so that a few hundred bytes can
//! ask for gigabytes. Here values live in one list and refer to each other by number, as in Python: memory and time
//! are linear in the length of the file, and nothing recurses.

mod machine;
mod numpy;
mod opcode;
#[cfg(test)]
mod tests;
mod value;

pub use self::value::Atom;

use self::machine::Interpreter;
use self::value::Node;

/// Reads a pickled dict (protocols 0 to 5) of texts, plain numbers and numpy scalars, in the order of the file.
///
/// # Errors
/// One line: what was expected, what was found, at which byte.
pub fn read_dict(bytes: &[u8]) -> Result<Vec<(Atom, Atom)>, String> {
    let mut machine = Interpreter::new(bytes);
    let top = machine.run().map_err(|problem| format!("{problem} (byte {})", machine.input.at))?;
    if machine.input.at != bytes.len() {
        return Err(format!(
            "expected the end at byte {}, found {} more",
            machine.input.at,
            bytes.len() - machine.input.at
        ));
    }
    let Some(Node::Dict(entries)) = machine.nodes.get(top) else {
        return Err(format!("expected a dict, found {}", machine.describe(top)));
    };
    let (mut dict, mut left) = (Vec::with_capacity(entries.len()), machine.left);
    for &(key, value) in entries {
        dict.push((machine.atom(key, &mut left)?, machine.atom(value, &mut left)?));
    }
    Ok(dict)
}
