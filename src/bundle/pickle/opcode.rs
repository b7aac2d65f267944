//! The opcodes of a pickle, of protocols 0 to 5, as far as a dict of names and numbers needs them: each with its argument,
//! in whichever of its encodings it is written.

use std::borrow::Cow;
use std::str::FromStr;

/// One step of the interpreter. `...OfMark` takes what lies above the last mark.
pub enum Opcode<'a> {
    /// The protocol's number, or the length of a frame: it adds nothing.
    Nothing,
    Stop,
    Mark,
    Pop,
    PopMark,
    Duplicate,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Tuple(usize),
    TupleOfMark,
    EmptyDict,
    DictOfMark,
    SetItem,
    SetItemsOfMark,
    /// Remembers the top of the stack under the next number.
    Memoize,
    Put(u32),
    Get(u32),
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// Module and name are on the stack.
    GlobalOfStack,
    Call,
    SetState,
}

impl<'a> Opcode<'a> {
    /// The next opcode of `input`.
    pub fn read(input: &mut Input<'a>) -> Result<Opcode<'a>, String> {
        Ok(match input.byte()? {
            0x80 => input.byte().map(|_| Opcode::Nothing)?,
            0x95 => input.array::<8>().map(|_| Opcode::Nothing)?,
            b'.' => Opcode::Stop,
            b'(' => Opcode::Mark,
            b'0' => Opcode::Pop,
            b'1' => Opcode::PopMark,
            b'2' => Opcode::Duplicate,

            b'N' => Opcode::None,
            0x88 => Opcode::Bool(true),
            0x89 => Opcode::Bool(false),
            b'K' => Opcode::Int(input.byte()?.into()),
            b'M' => Opcode::Int(u16::from_le_bytes(input.array()?).into()),
            b'J' => Opcode::Int(i32::from_le_bytes(input.array()?).into()),
            0x8a => Opcode::Int(long(input.counted::<1>()?)?),
            b'I' | b'L' => match input.word()? {
                "00" => Opcode::Bool(false),
                "01" => Opcode::Bool(true),
                word => Opcode::Int(parse(word.trim_end_matches('L'))?),
            },
            b'G' => Opcode::Float(f64::from_be_bytes(input.array()?)),
            b'F' => Opcode::Float(input.number()?),

            0x8c => Opcode::Text(utf8(input.counted::<1>()?)?),
            b'X' => Opcode::Text(utf8(input.counted::<4>()?)?),
            0x8d => Opcode::Text(utf8(input.counted::<8>()?)?),
            b'V' => Opcode::Text(unescape(input.line()?)?.into()),
            b'C' => Opcode::Bytes(input.counted::<1>()?),
            b'B' => Opcode::Bytes(input.counted::<4>()?),
            0x8e => Opcode::Bytes(input.counted::<8>()?),

            b')' => Opcode::Tuple(0),
            0x85 => Opcode::Tuple(1),
            0x86 => Opcode::Tuple(2),
            0x87 => Opcode::Tuple(3),
            b't' => Opcode::TupleOfMark,
            b'}' => Opcode::EmptyDict,
            b'd' => Opcode::DictOfMark,
            b's' => Opcode::SetItem,
            b'u' => Opcode::SetItemsOfMark,

            0x94 => Opcode::Memoize,
            b'q' => Opcode::Put(input.byte()?.into()),
            b'r' => Opcode::Put(u32::from_le_bytes(input.array()?)),
            b'p' => Opcode::Put(input.number()?),
            b'h' => Opcode::Get(input.byte()?.into()),
            b'j' => Opcode::Get(u32::from_le_bytes(input.array()?)),
            b'g' => Opcode::Get(input.number()?),

            b'c' => Opcode::Global { module: input.word()?, name: input.word()? },
            0x93 => Opcode::GlobalOfStack,
            b'R' => Opcode::Call,
            b'b' => Opcode::SetState,
            code => return Err(format!("expected what a dict of names and numbers needs, found opcode 0x{code:02x}")),
        })
    }
}

/// The bytes of a pickle, read from front to back.
#[derive(Default)]
pub struct Input<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
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

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| "expected UTF-8 text, found other bytes".into())
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
