//! Where a simulated fleet's verdicts come from: drawn as they were recorded, or from a model that scores simulated sound.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::audio::synth::{Kind, SynthMachine, seed_of};
use crate::bundle::{Bundle, Overrides};
use crate::cli::Failure;
use crate::encoder::EncoderConfig;
use crate::scoring::{Assessment, MachineModel, Scorer, judge};

/// Distances over their threshold of healthy machines, at shares of 0, 5, ... 100 % of the windows: the test recordings of
/// `models/demo`. `models/train/evaluate.py` prints such a line.
const RECORDED: [f64; 21] = [
    0.50, 0.60, 0.63, 0.65, 0.67, 0.68, 0.69, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.80, 0.82, 0.83, 0.86,
    0.91, 1.09,
];
const THRESHOLD: f64 = 0.7;

/// The source of all agents' verdicts.
pub enum Machines {
    Drawn,
    Scored { label: String, ask: mpsc::Sender<Question> },
}

/// The next window of one machine, please.
pub struct Question {
    agent: String,
    machine: u32,
    answer: oneshot::Sender<Assessment>,
}

impl Machines {
    pub fn drawn() -> Machines {
        Machines::Drawn
    }

    /// With the model of this bundle, in its own thread.
    ///
    /// # Errors
    /// What is wrong with the bundle.
    pub fn with_bundle(dir: &Path) -> Result<Machines, Failure> {
        let (bundle, engine) = Bundle::open(dir, &EncoderConfig::default()).map_err(Failure::data)?;
        let models = bundle.machines.iter().map(|known| {
            let kind = Kind::ALL.into_iter().find(|kind| known.name.starts_with(kind.name())).unwrap_or(Kind::Fan);
            let overrides = Overrides { threshold: known.threshold.or(Some(THRESHOLD)), ..Overrides::default() };
            let fitted = bundle.machine_model(&known.name, &overrides).map_err(Failure::data)?;
            Ok((kind, known.name.clone(), fitted.model))
        });
        let models = models.collect::<Result<Vec<_>, Failure>>()?;
        let label = format!("{}@{}", bundle.name, bundle.version);
        let (ask, questions) = mpsc::channel();
        std::thread::Builder::new()
            .name("score".into())
            .spawn(move || answer(&models, Scorer::new(engine), &questions))?;
        Ok(Machines::Scored { label, ask })
    }

    /// Name and version of what judges.
    pub fn bundle(&self) -> &str {
        match self {
            Machines::Drawn => "simulated@1",
            Machines::Scored { label, .. } => label,
        }
    }

    /// The next window of an agent's machine.
    ///
    /// # Errors
    /// The model cannot score.
    pub async fn assess(&self, agent: &str, machine: u32) -> Result<Assessment, String> {
        let Machines::Scored { ask, .. } = self else {
            let place = rand::random::<f64>() * (RECORDED.len() - 1) as f64;
            let (below, part) = (place as usize, place.fract());
            let ratio = RECORDED[below] + part * (RECORDED[(below + 1).min(RECORDED.len() - 1)] - RECORDED[below]);
            let level_dbfs = rand::random_range(-25.0..-21.0);
            return Ok(judge(THRESHOLD * ratio, THRESHOLD, level_dbfs));
        };
        let (answer, answered) = oneshot::channel();
        let question = Question { agent: agent.to_owned(), machine, answer };
        let gone = || "the model's thread has ended".to_owned();
        ask.send(question).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Scores until nobody asks any more. Each machine is one of the bundle's, at its own time.
fn answer(models: &[(Kind, String, MachineModel)], mut scorer: Scorer, questions: &mpsc::Receiver<Question>) {
    let mut machines: HashMap<(String, u32), SynthMachine> = HashMap::new();
    for question in questions {
        let (kind, name, model) = &models[question.machine as usize % models.len()];
        let take = seed_of(&question.agent);
        let machine = machines
            .entry((question.agent, question.machine))
            .or_insert_with(|| SynthMachine::new(*kind, seed_of(name), take));
        let mut window = vec![0.0; model.front_end.window_samples()];
        machine.fill(&mut window);
        match scorer.score(model, &window) {
            Ok(scored) => drop(question.answer.send(scored.assessment)),
            Err(error) => {
                tracing::error!(%error, "a window could not be scored");
                return;
            }
        }
    }
}
