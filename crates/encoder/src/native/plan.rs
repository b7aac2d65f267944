//! A model as a list of steps over buffers, and what one thread needs to run it.

use std::sync::Arc;

use super::depthwise::Depthwise;
use super::direct::Direct;
use super::isa::Isa;
use super::pool::Pool;
use super::small::{OutOfTable, Small};
use super::winograd::Winograd;

/// What a model was made into: read by all threads that run it.
#[derive(Debug)]
pub(super) struct Plan {
    pub isa: Isa,
    pub steps: Vec<Planned>,
    pub buffers: Vec<Place>,
    /// Values that each slot has room for.
    pub slots: Vec<usize>,
    /// Values that the largest step needs to work in.
    pub scratch: usize,
    /// Buffers of the image, the machine's index and the embedding.
    pub image: usize,
    pub machine: usize,
    pub output: usize,
}

#[derive(Debug)]
pub(super) struct Planned {
    pub step: Step,
    pub inputs: Vec<usize>,
    pub output: usize,
}

#[derive(Debug)]
pub(super) enum Step {
    Winograd(Box<Winograd>),
    Direct(Box<Direct>),
    Depthwise(Box<Depthwise>),
    Pool(Box<Pool>),
    Small(Small),
}

/// Where a buffer's values are.
#[derive(Debug)]
pub(super) enum Place {
    Constant(Arc<[f32]>),
    /// The first `length` values of a slot, which buffers share that are not needed at the same time.
    Slot {
        slot: usize,
        length: usize,
    },
    /// No step reads it.
    Unused,
}

/// The memory of one thread.
#[derive(Debug)]
pub(super) struct Memory {
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl Plan {
    pub fn memory(&self) -> Memory {
        Memory { slots: self.slots.iter().map(|&length| vec![0.0; length]).collect(), scratch: vec![0.0; self.scratch] }
    }

    /// # Errors
    /// Where a lookup's index is beyond its table.
    pub fn run(&self, memory: &mut Memory, image: &[f32], machine: f32) -> Result<Vec<f32>, OutOfTable> {
        self.write(memory, self.image, image);
        self.write(memory, self.machine, &[machine]);
        self.steps.iter().try_for_each(|planned| self.run_step(memory, planned))?;
        Ok(self.read(self.output, &memory.slots).to_vec())
    }

    /// Only what is little work, lookups among it, on an image of zeros.
    ///
    /// # Errors
    /// Where a lookup's index is beyond its table.
    pub fn look_up(&self, memory: &mut Memory, machine: f32) -> Result<(), OutOfTable> {
        self.write(memory, self.machine, &[machine]);
        let mut small = self.steps.iter().filter(|planned| matches!(planned.step, Step::Small(_)));
        small.try_for_each(|planned| self.run_step(memory, planned))
    }

    fn write(&self, memory: &mut Memory, buffer: usize, values: &[f32]) {
        if let Place::Slot { slot, length } = self.buffers[buffer] {
            memory.slots[slot][..length].copy_from_slice(values);
        }
    }

    fn run_step(&self, memory: &mut Memory, Planned { step, inputs, output }: &Planned) -> Result<(), OutOfTable> {
        let Place::Slot { slot, length } = self.buffers[*output] else { return Ok(()) };
        // Taken out while it is written: no input of a step shares a slot with its output.
        let mut written = std::mem::take(&mut memory.slots[slot]);
        let result = self.step(step, inputs, &mut written[..length], &memory.slots, &mut memory.scratch);
        memory.slots[slot] = written;
        result
    }

    fn step(
        &self,
        step: &Step,
        inputs: &[usize],
        output: &mut [f32],
        slots: &[Vec<f32>],
        scratch: &mut [f32],
    ) -> Result<(), OutOfTable> {
        let input = |number: usize| self.read(inputs[number], slots);
        match step {
            Step::Winograd(conv) => conv.run(self.isa, input(0), output, scratch),
            Step::Direct(conv) => conv.run(self.isa, input(0), output),
            Step::Depthwise(conv) => conv.run(self.isa, input(0), output),
            Step::Pool(pool) => pool.run(self.isa, input(0), output),
            Step::Small(small) => {
                let inputs: Vec<&[f32]> = inputs.iter().map(|&buffer| self.read(buffer, slots)).collect();
                small.run(&inputs, output)?;
            }
        }
        Ok(())
    }

    fn read<'a>(&'a self, buffer: usize, slots: &'a [Vec<f32>]) -> &'a [f32] {
        match &self.buffers[buffer] {
            Place::Constant(values) => values,
            Place::Slot { slot, length } => &slots[*slot][..*length],
            Place::Unused => &[],
        }
    }
}
