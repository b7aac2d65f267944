//! Python's pickle machine: a stack, marks on it, a memo. What it makes lies in one list.

use std::collections::HashMap;

use super::numpy::{dtype, scalar};
use super::opcode::{Input, Opcode};
use super::value::{Atom, Global, Id, Node, TEXT_LIMIT};

/// Bytes that may be copied out of values for each byte of the file. What numpy writes needs less than three: the bytes
/// decoded from a text, the scalar made of them, the key that it becomes.
const COPIES: usize = 8;
/// And for any file, bytes.
const SPARE: usize = 4 << 10;

/// What has been made so far, and the stack of it.
#[derive(Default)]
pub struct Interpreter<'a> {
    pub input: Input<'a>,
    pub nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes that may still be copied out of values, whatever becomes of the copies. Python copies each text and each
    /// scalar once or twice; a value in the memo could be copied thousands of times.
    pub left: usize,
}

impl<'a> Interpreter<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Interpreter { input: Input { bytes, at: 0 }, left: COPIES * bytes.len() + SPARE, ..Interpreter::default() }
    }

    /// Runs to the end; the answer is the top of the stack.
    pub fn run(&mut self) -> Result<Id, String> {
        loop {
            match Opcode::read(&mut self.input)? {
                Opcode::Nothing => {}
                Opcode::Stop => return self.pop(),
                Opcode::Mark => self.marks.push(self.stack.len()),
                Opcode::Pop => drop(self.pop()?),
                Opcode::PopMark => drop(self.pop_mark()?),
                Opcode::Duplicate => {
                    let top = self.top()?;
                    self.stack.push(top);
                }

                Opcode::None => self.push(Node::None),
                Opcode::Bool(value) => self.push(Node::Bool(value)),
                Opcode::Int(value) => self.push(Node::Int(value)),
                Opcode::Float(value) => self.push(Node::Float(value)),
                Opcode::Text(text) => self.push(Node::Text(text)),
                Opcode::Bytes(bytes) => self.push(Node::Bytes(bytes.into())),

                Opcode::Tuple(length) => {
                    let items = self.pop_many(length)?;
                    self.push(Node::Tuple(items));
                }
                Opcode::TupleOfMark => {
                    let items = self.pop_mark()?;
                    self.push(Node::Tuple(items));
                }
                Opcode::EmptyDict => self.push(Node::Dict(Vec::new())),
                Opcode::DictOfMark => {
                    let items = self.pop_mark()?;
                    self.push(Node::Dict(Vec::new()));
                    self.extend_dict(&items)?;
                }
                Opcode::SetItem => {
                    let items = self.pop_many(2)?;
                    self.extend_dict(&items)?;
                }
                Opcode::SetItemsOfMark => {
                    let items = self.pop_mark()?;
                    self.extend_dict(&items)?;
                }

                Opcode::Memoize => {
                    let number = u32::try_from(self.memo.len()).map_err(|_| "expected a shorter memo")?;
                    self.memoize(number)?;
                }
                Opcode::Put(number) => self.memoize(number)?,
                Opcode::Get(number) => self.recall(number)?,

                Opcode::Global { module, name } => self.push(Node::Global(Global::find(module, name)?)),
                Opcode::GlobalOfStack => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let found = match (&self.nodes[module], &self.nodes[name]) {
                        (Node::Text(module), Node::Text(name)) => Global::find(module, name)?,
                        _ => return Err(format!("expected a global's name, found {}", self.describe(name))),
                    };
                    self.push(Node::Global(found));
                }
                Opcode::Call => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let made = self.call(callee, arguments)?;
                    self.push(made);
                }
                Opcode::SetState => {
                    let (state, object) = (self.pop()?, self.top()?);
                    self.set_state(object, state)?;
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

    /// What the dict holds as a key or value.
    pub fn atom(&self, id: Id, left: &mut usize) -> Result<Atom, String> {
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

    pub fn describe(&self, id: Id) -> String {
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
