//! The two pickles of a bundle: dicts from and to names and numbers. Nothing in a pickle is ever called.
//!
//! A reader of its own, because a general one (serde-pickle) drops what numpy's scalars need: it keeps either the kind
//! or the byte order of a dtype, never both. It also copies what the memo refers to, so that a few hundred bytes can
//! ask for gigabytes. Here values live in one list and refer to each other by number, as in Python: memory and time
//! are linear in the length of the file, and nothing recurses.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

mod numpy;
#[cfg(test)]
mod tests;

use numpy::{Dtype, dtype, scalar};

/// Bytes that may be copied out of values for each byte of the file. What numpy writes needs less than three: the bytes
/// decoded from a text, the scalar made of them, the key that it becomes.
const COPIES: usize = 8;
/// And for any file, bytes.
const SPARE: usize = 4 << 10;

/// Longest text that a dict may hold as key or value, bytes.
const TEXT_LIMIT: usize = 256;

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

/// Reads a pickled dict (protocols 0 to 5) of texts, plain numbers and numpy scalars, in the order of the file.
///
/// # Errors
/// One line: what was expected, what was found, at which byte.
pub fn read_dict(bytes: &[u8]) -> Result<Vec<(Atom, Atom)>, String> {
    let mut machine =
        Machine { input: Input { bytes, at: 0 }, left: COPIES * bytes.len() + SPARE, ..Machine::default() };
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

/// Number of a [`Node`].
type Id = usize;

#[derive(Debug)]
enum Node<'a> {
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
enum Global {
    NumpyScalar,
    NumpyDtype,
    /// Bytes in protocols 0 to 2: `_codecs.encode(text, "latin1")`.
    Encode,
}

#[derive(Default)]
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or_else(|| format!("expected {length} more bytes, found {}", rest.len()))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("take returns the length asked for"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    /// Bytes preceded by their length in `N` little-endian bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.array::<N>()?);
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    /// Up to the next line feed, which is taken too.
    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or("expected a line's end, found none")?;
        Ok(&self.take(length + 1)?[..length])
    }

    /// A line of ASCII digits and letters.
    fn word(&mut self) -> Result<&'a str, String> {
        str::from_utf8(self.line()?).map_err(|_| "expected ASCII text, found other bytes".into())
    }

    /// A line that is one number.
    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        parse(self.word()?)
    }
}

/// Python's pickle machine: a stack, marks on it, a memo.
#[derive(Default)]
struct Machine<'a> {
    input: Input<'a>,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes that may still be copied out of values, whatever becomes of the copies. Python copies each text and each
    /// scalar once or twice; a value in the memo could be copied thousands of times.
    left: usize,
}

impl<'a> Machine<'a> {
    /// Runs to STOP; the answer is the top of the stack.
    fn run(&mut self) -> Result<Id, String> {
        loop {
            match self.input.byte()? {
                0x80 => drop(self.input.byte()?),       // PROTO
                0x95 => drop(self.input.array::<8>()?), // FRAME: its length adds nothing
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }

                b'N' => self.push(Node::None),
                0x88 => self.push(Node::Bool(true)),
                0x89 => self.push(Node::Bool(false)),
                b'K' => {
                    let value = self.input.byte()?;
                    self.push(Node::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.input.array()?);
                    self.push(Node::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.input.array()?);
                    self.push(Node::Int(value.into()));
                }
                0x8a => {
                    let bytes = self.input.counted::<1>()?;
                    self.push(Node::Int(long(bytes)?));
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.input.array()?);
                    self.push(Node::Float(value));
                }
                b'I' | b'L' => {
                    let word = self.input.word()?;
                    self.push(match word {
                        "00" => Node::Bool(false),
                        "01" => Node::Bool(true),
                        _ => Node::Int(parse(word.trim_end_matches('L'))?),
                    });
                }
                b'F' => {
                    let value = self.input.number()?;
                    self.push(Node::Float(value));
                }

                0x8c => self.text::<1>()?,
                b'X' => self.text::<4>()?,
                0x8d => self.text::<8>()?,
                b'V' => {
                    let text = unescape(self.input.line()?)?;
                    self.push(Node::Text(text.into()));
                }
                b'C' => self.bytes::<1>()?,
                b'B' => self.bytes::<4>()?,
                0x8e => self.bytes::<8>()?,

                b')' => self.push(Node::Tuple(Vec::new())),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Node::Tuple(items));
                }
                b'}' => self.push(Node::Dict(Vec::new())),
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Node::Dict(Vec::new()));
                    self.extend_dict(&items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.extend_dict(&items)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.extend_dict(&items)?;
                }

                0x94 => {
                    let number = u32::try_from(self.memo.len()).map_err(|_| "expected a shorter memo")?;
                    self.memoize(number)?;
                }
                b'q' => {
                    let number = self.input.byte()?.into();
                    self.memoize(number)?;
                }
                b'r' => {
                    let number = u32::from_le_bytes(self.input.array()?);
                    self.memoize(number)?;
                }
                b'p' => {
                    let number = self.input.number()?;
                    self.memoize(number)?;
                }
                b'h' => {
                    let number = self.input.byte()?.into();
                    self.recall(number)?;
                }
                b'j' => {
                    let number = u32::from_le_bytes(self.input.array()?);
                    self.recall(number)?;
                }
                b'g' => {
                    let number = self.input.number()?;
                    self.recall(number)?;
                }

                b'c' => {
                    let (module, name) = (self.input.word()?, self.input.word()?);
                    self.push(Node::Global(global(module, name)?));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let found = match (&self.nodes[module], &self.nodes[name]) {
                        (Node::Text(module), Node::Text(name)) => global(module, name)?,
                        _ => return Err(format!("expected a global's name, found {}", self.describe(name))),
                    };
                    self.push(Node::Global(found));
                }
                b'R' => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let made = self.call(callee, arguments)?;
                    self.push(made);
                }
                b'b' => {
                    let (state, object) = (self.pop()?, self.top()?);
                    self.set_state(object, state)?;
                }
                code => {
                    return Err(format!("expected what a dict of names and numbers needs, found opcode 0x{code:02x}"));
                }
            }
        }
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    /// What lies below the last mark cannot be popped.
    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > floor => Ok(top),
            _ => Err("expected a value on the stack, found none".into()),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => Err(format!("expected {count} values on the stack, found {}", self.stack.len() - floor)),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let start = self.marks.pop().ok_or("expected a mark on the stack, found none")?;
        Ok(self.stack.split_off(start))
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let items = self.pop_many(length)?;
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.input.counted::<N>()?;
        let text = str::from_utf8(bytes).map_err(|_| "expected UTF-8 text, found other bytes")?;
        self.push(Node::Text(text.into()));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.input.counted::<N>()?;
        self.push(Node::Bytes(bytes.into()));
        Ok(())
    }

    fn memoize(&mut self, number: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), String> {
        let id = self.memo.get(&number).ok_or_else(|| format!("expected value {number} in the memo, found none"))?;
        self.stack.push(*id);
        Ok(())
    }

    /// Adds key, value, key, value ... to the dict on top of the stack.
    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err(format!("expected keys and values in pairs, found {} of them", items.len()));
        }
        if let Node::Dict(entries) = &mut self.nodes[top] {
            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            return Ok(());
        }
        Err(format!("expected a dict, found {}", self.describe(top)))
    }

    /// Takes `bytes` from what may be copied.
    fn spend(left: &mut usize, bytes: usize) -> Result<(), String> {
        *left = left.checked_sub(bytes).ok_or("expected each value to be copied once or twice, found more copies")?;
        Ok(())
    }

    fn call(&mut self, callee: Id, arguments: Id) -> Result<Node<'a>, String> {
        let (Node::Global(global), Node::Tuple(arguments)) = (&self.nodes[callee], &self.nodes[arguments]) else {
            return Err(format!("expected a numpy scalar, found a call of {}", self.describe(callee)));
        };
        let argument = |number: usize| arguments.get(number).map(|id| &self.nodes[*id]);
        match (global, argument(0), argument(1)) {
            (Global::NumpyDtype, Some(Node::Text(code)), _) => {
                Self::spend(&mut self.left, code.len())?;
                Ok(Node::Dtype(dtype(code)?))
            }
            (Global::NumpyScalar, Some(Node::Dtype(dtype)), Some(Node::Bytes(bytes))) => {
                Self::spend(&mut self.left, bytes.len())?;
                scalar(*dtype, bytes)
            }
            (Global::Encode, Some(Node::Text(text)), Some(Node::Text(_))) => {
                Self::spend(&mut self.left, text.len())?;
                let bytes = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<u8>, _>>();
                bytes
                    .map(|bytes| Node::Bytes(bytes.into()))
                    .map_err(|_| "expected latin1 text, found other text".into())
            }
            _ => Err(format!("expected the arguments of a numpy scalar, found others for {global:?}")),
        }
    }

    /// A dtype's state is `(version, byte order, ...)`; nothing else has one.
    fn set_state(&mut self, object: Id, state: Id) -> Result<(), String> {
        let order = match &self.nodes[state] {
            Node::Tuple(fields) => fields.get(1).map(|id| &self.nodes[*id]),
            _ => None,
        };
        let big_endian = match order {
            Some(Node::Text(order)) if matches!(order.as_ref(), "<" | "|" | "=") => false,
            Some(Node::Text(order)) if order == ">" => true,
            _ => return Err("expected a dtype's byte order, found none".into()),
        };
        let found = self.describe(object);
        let Node::Dtype(dtype) = &mut self.nodes[object] else {
            return Err(format!("expected a dtype to give a state to, found {found}"));
        };
        dtype.big_endian = big_endian;
        Ok(())
    }

    fn atom(&self, id: Id, left: &mut usize) -> Result<Atom, String> {
        match &self.nodes[id] {
            Node::Int(value) => Ok(Atom::Int(*value)),
            Node::Float(value) => Ok(Atom::Float(*value)),
            Node::Text(text) if text.len() <= TEXT_LIMIT => {
                Self::spend(left, text.len())?;
                Ok(Atom::Text(text.to_string()))
            }
            _ => Err(format!("expected names and numbers in the dict, found {}", self.describe(id))),
        }
    }

    fn describe(&self, id: Id) -> String {
        match self.nodes.get(id) {
            None | Some(Node::None) => "None".into(),
            Some(Node::Bool(value)) => format!("the truth value {value}"),
            Some(Node::Int(value)) => format!("the number {value}"),
            Some(Node::Float(value)) => format!("the number {value:?}"),
            Some(Node::Text(text)) if text.len() > 32 => format!("a text of {} bytes", text.len()),
            Some(Node::Text(text)) => format!("the text {text:?}"),
            Some(Node::Bytes(bytes)) => format!("{} bytes", bytes.len()),
            Some(Node::Tuple(items)) => format!("a tuple of {}", items.len()),
            Some(Node::Dict(entries)) => format!("a dict of {}", entries.len()),
            Some(Node::Global(global)) => format!("the global {global:?}"),
            Some(Node::Dtype(_)) => "a dtype".into(),
        }
    }
}

fn parse<T: FromStr>(word: &str) -> Result<T, String> {
    let shown: String = word.chars().take(32).collect();
    word.trim().parse().map_err(|_| format!("expected a number, found {shown:?}"))
}

/// Little-endian two's complement of any length up to eight bytes.
fn long(bytes: &[u8]) -> Result<i64, String> {
    if bytes.len() > 8 {
        return Err(format!("expected a number of at most 8 bytes, found {}", bytes.len()));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut extended = [if negative { 0xff } else { 0 }; 8];
    extended[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(extended))
}

/// Texts of protocol 0: latin1, with `\uXXXX` and `\UXXXXXXXX` for the rest.
fn unescape(line: &[u8]) -> Result<String, String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        (text, rest) = match (*first, tail.first()) {
            (b'\\', Some(b'u')) => (escaped(text, tail, 4)?, &tail[5..]),
            (b'\\', Some(b'U')) => (escaped(text, tail, 8)?, &tail[9..]),
            _ => {
                text.push(char::from(*first));
                (text, tail)
            }
        };
    }
    Ok(text)
}

/// Adds the character that the `digits` hex digits after the first byte of `tail` stand for.
fn escaped(mut text: String, tail: &[u8], digits: usize) -> Result<String, String> {
    let code = tail.get(1..1 + digits).and_then(|code| str::from_utf8(code).ok());
    let code = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
    text.push(code.ok_or("expected \\u escapes in a text, found others")?);
    Ok(text)
}

fn global(module: &str, name: &str) -> Result<Global, String> {
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
