//! The native engine: our own kernels, for the convolutional networks that encoders are.
//!
//! The planner turns the model's graph into fused steps; the kernels are written once, for a vector type that each
//! instruction set fills in its way. A model with anything that it lacks goes to another engine whole.

mod depthwise;
mod direct;
mod finish;
mod isa;
mod layout;
mod plan;
mod planner;
mod pool;
mod small;
mod strided;
#[cfg(test)]
mod tests;
mod vector;
mod winograd;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::engine::{EncoderError, EncoderShape, Engine, ModelError};
use super::graph;
use super::interface::Interface;
use isa::Isa;
use plan::{Memory, Plan};
use small::OutOfTable;

pub(super) struct NativeEngine {
    interface: Interface,
    plan: Arc<Plan>,
    memory: Memory,
}

/// Why a model is not run by this engine.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No engine can run it.
    Broken(EncoderError),
    /// It may be sound; what this engine lacks.
    Lacking(String),
}

impl From<EncoderError> for Refusal {
    fn from(error: EncoderError) -> Self {
        Refusal::Broken(error)
    }
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Unsupported(what) => Refusal::Lacking(what),
            invalid @ ModelError::Invalid(_) => Refusal::Broken(invalid.into()),
        }
    }
}

/// Names of the instruction sets that this processor has, the best one last.
pub(super) fn instruction_sets() -> Vec<&'static str> {
    Isa::available().into_iter().map(Isa::name).collect()
}

impl NativeEngine {
    /// # Errors
    /// Where another engine must be asked, or none can help.
    pub fn load(model: &[u8]) -> Result<NativeEngine, Refusal> {
        // The planner checks what it hands to the kernels. Should one still panic on an odd model, another engine gets it.
        catch_unwind(AssertUnwindSafe(|| NativeEngine::with(model, Isa::best())))
            .unwrap_or_else(|_| Err(Refusal::Lacking("a model that defeats the planner".into())))
    }

    /// For measuring and testing: with other instructions than the best ones.
    pub fn load_for(model: &[u8], instructions: &str) -> Result<NativeEngine, Refusal> {
        let isa = Isa::named(instructions);
        let isa =
            isa.ok_or_else(|| Refusal::Lacking(format!("{instructions}, which this processor does not have,")))?;
        NativeEngine::with(model, isa)
    }

    fn with(model: &[u8], isa: Isa) -> Result<NativeEngine, Refusal> {
        let graph = graph::read(model)?;
        let interface = Interface::of(&graph)?;
        let plan = planner::plan(&graph, &interface, isa)?;
        let mut engine = NativeEngine { interface, memory: plan.memory(), plan: Arc::new(plan) };
        // As with the other engines an index that no table has is found out now.
        let trial = engine
            .plan
            .look_up(&mut engine.memory, 0.0)
            .map_err(|OutOfTable { index, size }| EncoderError::beyond_table(0, size, index));
        trial.map_err(|error| EncoderError::Model(format!("trial run: {error}")))?;
        tracing::debug!(instructions = isa.name(), steps = engine.plan.steps.len(), "the model is planned");
        Ok(engine)
    }
}

impl Engine for NativeEngine {
    fn name(&self) -> &'static str {
        "native"
    }

    fn shape(&self) -> EncoderShape {
        self.interface.shape
    }

    fn embed(&mut self, image: &[f32], machine_index: u32) -> Result<Vec<f32>, EncoderError> {
        self.interface.check(image, machine_index)?;
        let embedding = self.plan.run(&mut self.memory, image, machine_index as f32);
        embedding.map_err(|OutOfTable { index, size }| EncoderError::beyond_table(machine_index, size, index))
    }

    fn share(&self) -> Result<Box<dyn Engine>, EncoderError> {
        let plan = self.plan.clone();
        Ok(Box::new(NativeEngine { interface: self.interface.clone(), memory: plan.memory(), plan }))
    }
}
