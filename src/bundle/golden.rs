//! Golden cases: windows that the bundle carries together with what they must come to, run on the very device.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use serde::Serialize;

use super::Bundle;
use crate::encoder::Engine;
use crate::features::MelExtractor;

/// One window and what it must come to.
#[derive(Debug, Clone)]
pub struct GoldenCase {
    pub name: String,
    /// Whose front-end, index and bank.
    pub machine: String,
    /// Mono samples at the front-end's rate.
    pub window: Arc<[f32]>,
    /// `[embedding]`, expected.
    pub embedding: Arc<[f32]>,
    /// Expected distance to the nearest row of the machine's bank.
    pub distance: f64,
    /// Largest difference of any element of the embedding.
    pub embedding_tolerance: f64,
    /// Largest difference of the distance.
    pub distance_tolerance: f64,
}

/// What came of one golden case on this device.
#[derive(Debug, Clone, Serialize)]
pub struct GoldenOutcome {
    pub name: String,
    pub machine: String,
    /// Largest difference of any element of the embedding, where it was computed.
    pub embedding_difference: Option<f64>,
    /// Difference of the distance, where it was computed.
    pub distance_difference: Option<f64>,
    /// What is wrong; `None` where the case passed.
    pub fault: Option<String>,
}

impl GoldenOutcome {
    fn of(case: &GoldenCase) -> Self {
        GoldenOutcome {
            name: case.name.clone(),
            machine: case.machine.clone(),
            embedding_difference: None,
            distance_difference: None,
            fault: None,
        }
    }

    /// In words: how far off it was, or what is wrong.
    ///
    /// # Errors
    /// The case did not pass.
    pub fn in_words(&self) -> Result<String, String> {
        let name = self.name.escape_debug();
        match (&self.fault, self.embedding_difference, self.distance_difference) {
            (Some(fault), ..) => Err(format!("{name}: {fault}")),
            (None, Some(embedding), Some(distance)) => {
                Ok(format!("{name}: embedding {embedding:.6} off, distance {distance:.6} off"))
            }
            _ => Err(format!("{name}: not run")),
        }
    }

    fn abandoned(case: &GoldenCase) -> Self {
        let fault = Some("expected an embedding, found that its thread ended".into());
        GoldenOutcome { fault, ..GoldenOutcome::of(case) }
    }
}

impl Bundle {
    /// Runs the golden cases with this engine, in their order; none fails the others.
    pub fn run_golden(&self, engine: &mut dyn Engine) -> Vec<GoldenOutcome> {
        self.golden.iter().map(|case| self.run_case(case, engine)).collect()
    }

    /// The same on all cores, each with an engine that shares the weights.
    pub fn run_golden_on_all_cores(&self, engine: &mut dyn Engine) -> Vec<GoldenOutcome> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(self.golden.len());
        let mut engines: Vec<_> = (1..threads).map_while(|_| engine.share().ok()).collect();
        let share = self.golden.len().div_ceil(engines.len() + 1).max(1);
        let mut shares = self.golden.chunks(share);
        let own = shares.next().unwrap_or_default();
        let run = |cases: &[GoldenCase], engine: &mut dyn Engine| -> Vec<GoldenOutcome> {
            cases.iter().map(|case| self.run_case(case, engine)).collect()
        };
        thread::scope(|scope| {
            let others: Vec<_> = shares
                .zip(&mut engines)
                .map(|(cases, engine)| (cases, scope.spawn(|| run(cases, engine.as_mut()))))
                .collect();
            let mut outcomes = run(own, engine);
            for (cases, other) in others {
                match other.join() {
                    Ok(done) => outcomes.extend(done),
                    Err(_) => outcomes.extend(cases.iter().map(GoldenOutcome::abandoned)),
                }
            }
            outcomes
        })
    }

    fn run_case(&self, case: &GoldenCase, engine: &mut dyn Engine) -> GoldenOutcome {
        let mut outcome = GoldenOutcome::of(case);
        match self.differences(case, engine) {
            Err(problem) => outcome.fault = Some(problem),
            Ok((embedding, distance)) => {
                outcome.embedding_difference = Some(embedding);
                outcome.distance_difference = Some(distance);
                if embedding > case.embedding_tolerance {
                    let expected = case.embedding_tolerance;
                    outcome.fault = Some(format!("expected an embedding within {expected}, found {embedding:.6} off"));
                } else if distance > case.distance_tolerance {
                    let expected = case.distance_tolerance;
                    outcome.fault = Some(format!("expected a distance within {expected}, found {distance:.6} off"));
                }
            }
        }
        outcome
    }

    fn differences(&self, case: &GoldenCase, engine: &mut dyn Engine) -> Result<(f64, f64), String> {
        let machine = self.machine(&case.machine).map_err(|error| error.problem)?;
        let mut extractor = MelExtractor::new(&machine.front_end).map_err(|error| error.to_string())?;
        let image = extractor.compute(&case.window).map_err(|error| error.to_string())?;
        let embedding = engine.embed(image, machine.index).map_err(|error| error.to_string())?;
        if embedding.len() != case.embedding.len() {
            return Err(format!("expected an embedding of {}, found {}", case.embedding.len(), embedding.len()));
        }
        let (_, distance) = machine.bank.nearest(&embedding).ok_or("expected a finite embedding, found another")?;
        let largest =
            embedding.iter().zip(case.embedding.iter()).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        Ok((largest, (distance - case.distance).abs()))
    }
}
