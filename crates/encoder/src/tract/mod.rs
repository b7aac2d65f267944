//! The tract engine: our own translation of the flatbuffer into a tract model. Pure Rust, always there.

mod arithmetic;
mod layout;
mod translate;
mod windowed;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_core::prelude::*;

use super::engine::{EncoderError, EncoderShape, Engine, ModelError, one_line};
use super::graph;
use super::interface::{IndexType, Interface};

pub(super) use translate::check;
use translate::{Translation, translate};

pub(super) struct TractEngine {
    interface: Interface,
    state: TypedSimpleState,
    /// For each looked-up table: what its index must stay below. The indices are outputs after the embedding.
    tables: Vec<usize>,
}

impl TractEngine {
    /// # Errors
    /// `Model` for anything wrong with the bytes, or an operator that is not translated.
    pub fn load(model: &[u8]) -> Result<TractEngine, EncoderError> {
        // The translation checks what it hands to tract. Should tract still panic on an odd model, that is an error
        // of the model and not the end of the agent. The trial run is inside for the same reason.
        catch_unwind(AssertUnwindSafe(|| TractEngine::build(model))).unwrap_or_else(|_| {
            Err(EncoderError::Model(
                "expected a model that tract can optimise and run, found one on which it panics".into(),
            ))
        })
    }

    /// Whether the model is sound, as far as its shapes can be followed.
    ///
    /// # Errors
    /// `Model` for anything wrong with the bytes.
    pub fn check(model: &[u8]) -> Result<(), EncoderError> {
        let graph = graph::read(model)?;
        check(&graph, &Interface::of(&graph)?)
    }

    fn build(model: &[u8]) -> Result<TractEngine, EncoderError> {
        let graph = graph::read(model)?;
        let interface = Interface::of(&graph)?;
        let Translation { model, tables } = translate(&graph, &interface)?;
        let state =
            model.into_optimized().and_then(|model| model.into_runnable()).and_then(|plan| plan.spawn()).map_err(
                |error| {
                    ModelError::Invalid(format!("tract cannot prepare the model: {}", one_line(&format!("{error:#}"))))
                },
            )?;
        let mut engine = TractEngine { interface, state, tables };
        let EncoderShape { bands, frames, .. } = engine.interface.shape;
        engine
            .embed(&vec![0.0; bands * frames], 0)
            .map_err(|error| EncoderError::Model(format!("trial run: {error}")))?;
        Ok(engine)
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn shape(&self) -> EncoderShape {
        self.interface.shape
    }

    fn embed(&mut self, image: &[f32], machine_index: u32) -> Result<Vec<f32>, EncoderError> {
        self.interface.check(image, machine_index)?;
        let failed = |error: TractError| EncoderError::Run(format!("tract: {}", one_line(&format!("{error:#}"))));
        let image = Tensor::from_shape(&self.interface.image.1, image).map_err(failed)?;
        let dims = &self.interface.machine.1;
        let machine = match self.interface.machine_type {
            IndexType::F32 => Tensor::from_shape(dims, &[machine_index as f32]),
            IndexType::I32 => Tensor::from_shape(dims, &[machine_index as i32]),
            IndexType::I64 => Tensor::from_shape(dims, &[i64::from(machine_index)]),
        }
        .map_err(failed)?;
        let outputs = self.state.run(tvec!(image.into_tvalue(), machine.into_tvalue())).map_err(failed)?;
        let (embedding, indices) = outputs.split_first().expect("the embedding is an output");
        for (indices, &size) in indices.iter().zip(&self.tables) {
            let indices = indices.to_plain_array_view::<i64>().map_err(failed)?;
            if let Some(index) = indices.iter().find(|&&index| index < 0 || index as u64 >= size as u64) {
                return Err(EncoderError::beyond_table(machine_index, size, index));
            }
        }
        let embedding = embedding.to_plain_array_view::<f32>().map_err(failed)?;
        Ok(embedding.iter().copied().collect())
    }

    fn share(&self) -> Result<Box<dyn Engine>, EncoderError> {
        let state = self.state.plan().spawn().map_err(|error| {
            EncoderError::Engine(format!("tract cannot share its plan: {}", one_line(&format!("{error:#}"))))
        })?;
        Ok(Box::new(TractEngine { interface: self.interface.clone(), state, tables: self.tables.clone() }))
    }
}
