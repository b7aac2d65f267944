//! `baseline.learn`, `baseline.apply`, `baseline.discard`: a machine's normal, learned where it stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Execute;
use crate::agent::baselines::Shelf;
use crate::control::desk::{Act, Desk, Outcome};
use crate::control::fault::{Code, Fault};
use crate::control::learning;
use crate::control::values::{Minutes, Rate, Target};
use crate::mqtt::payload::EventKind;
use crate::scoring::baseline::Learner;

/// Learn a machine's normal while it runs; what it comes to is proposed in an event.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineLearn {
    /// The machine, or `*` for all of the agent's.
    #[arg(long)]
    pub machine: Target,
    /// How much normal running to hear; what cannot be assessed does not count. 100 windows at least are advised.
    #[arg(long)]
    pub minutes: Minutes,
    /// Wanted share of normal windows that are called anomalous; default: the configured one, 0.01.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_alarm_rate: Option<Rate>,
}

impl Execute for BaselineLearn {
    fn run(self, desk: &mut Desk) -> Result<Outcome, Fault> {
        let (shared, now) = (desk.shared.clone(), desk.now);
        let mut learners = Vec::new();
        for number in desk.targets(&self.machine)? {
            let inner = shared.station.lock();
            let config = &shared.config.machine[number];
            if let Some(learner) = &inner.machines[number].site.learner {
                let progress = learner.progress();
                let share = (100.0 * progress.heard_s / progress.wanted_s).min(100.0);
                let message = format!(
                    "{} is being learned, {share:.0} % of {} minutes; baseline.discard ends that",
                    config.id,
                    progress.wanted_s / 60.0
                );
                return Err(Fault::new(Code::Busy, message));
            }
            let rate = self.false_alarm_rate.map_or(config.false_alarm_rate, Rate::get);
            learners.push((number, learning::learner(&inner, number, self.minutes.get(), rate, now)?));
        }
        let told = learners.iter().map(|(number, learner): &(usize, Learner)| {
            let settings = learner.settings();
            json!({
                "machine": desk.machine_id(*number), "minutes": settings.wanted_s / 60.0,
                "false_alarm_rate": settings.false_alarm_rate, "threshold": settings.previous_threshold,
            })
        });
        let data = json!({ "machines": told.collect::<Vec<_>>() });
        let shelf = Shelf::new(&shared.config.agent.state_dir);
        let kept: Vec<_> =
            learners.iter().map(|(number, learner)| (desk.machine_id(*number).to_owned(), learner.clone())).collect();
        let keep = move || {
            kept.iter().try_for_each(|(id, learner)| shelf.keep_learner(id, learner))?;
            Ok(())
        };
        let apply = move |inner: &mut crate::agent::station::Inner| {
            let begun = learners.into_iter().map(|(number, learner)| {
                let progress = learner.progress();
                let site = &mut inner.machines[number].site;
                (site.learner, site.failed) = (Some(learner), None);
                learning::progress_event(&shared, number, &progress, now)
            });
            begun.collect()
        };
        Ok(Outcome::Act(Act { data, settings: Vec::new(), keep: Box::new(keep), apply: Box::new(apply) }))
    }
}

/// Take the learned baseline into use: its bank and threshold, and all lanes where it has them.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineApply {
    /// The machine, or `*` for all of the agent's that have a proposal.
    #[arg(long)]
    pub machine: Target,
}

impl Execute for BaselineApply {
    fn run(self, desk: &mut Desk) -> Result<Outcome, Fault> {
        let (shared, now) = (desk.shared.clone(), desk.now);
        let inner = shared.station.lock();
        let loaded = inner.loaded.as_ref().ok_or_else(learning::no_bundle)?;
        let (mut told, mut settings, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for number in desk.targets(&self.machine)? {
            let id = desk.machine_id(number);
            let in_use = loaded.baseline(number).filter(|(_, on_site)| *on_site);
            let baseline = match (&inner.machines[number].site.proposal, in_use, &self.machine) {
                (Some(proposal), ..) => proposal.clone(),
                // Asked again: it is in use already.
                (None, Some((baseline, _)), Target::One(_)) => baseline.clone(),
                (None, None, Target::One(_)) => {
                    let message = format!("machine: {id} has no proposal; baseline.learn makes one");
                    return Err(Fault::new(Code::BadArgument, message));
                }
                (None, _, Target::All) => continue,
            };
            let origin = loaded.origin(number);
            baseline.check_origin(origin).map_err(|error| Fault::new(Code::BadArgument, format!("{id}: {error}")))?;
            // A threshold set from afar was meant for another bank.
            let mut new = inner.machines[number].settings.clone();
            new.reset_threshold(desk.changed());
            settings.push((number, new));
            told.push(learning::facts(id, &baseline));
            taken.push((number, baseline));
        }
        drop(inner);
        let shelf = Shelf::new(&shared.config.agent.state_dir);
        let kept = taken.clone();
        let ids = shared.clone();
        let keep = move || {
            let keep = |(number, baseline): &(usize, std::sync::Arc<_>)| {
                shelf.keep_in_use(&ids.config.machine[*number].id, baseline)
            };
            kept.iter().try_for_each(keep)?;
            Ok(())
        };
        let why = desk.why();
        let apply = move |inner: &mut crate::agent::station::Inner| {
            let each = taken.into_iter().flat_map(|(number, baseline)| {
                learning::take_into_use(&shared, inner, number, Some(baseline), &why, now)
            });
            each.collect()
        };
        let data = json!({ "machines": told });
        Ok(Outcome::Act(Act { data, settings, keep: Box::new(keep), apply: Box::new(apply) }))
    }
}

/// Drop what is being learned or was proposed; where there is neither, the learned baseline that is in use.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineDiscard {
    /// The machine, or `*` for all of the agent's that have something to discard.
    #[arg(long)]
    pub machine: Target,
}

/// What is discarded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Learning,
    Proposal,
    Baseline,
}

impl Execute for BaselineDiscard {
    fn run(self, desk: &mut Desk) -> Result<Outcome, Fault> {
        let (shared, now) = (desk.shared.clone(), desk.now);
        let mut found = Vec::new();
        for number in desk.targets(&self.machine)? {
            let inner = shared.station.lock();
            let site = &inner.machines[number].site;
            let in_use = inner.loaded.as_ref().and_then(|loaded| loaded.baseline(number)).filter(|(_, site)| *site);
            let what = match (&site.learner, &site.proposal, in_use) {
                (Some(_), ..) => What::Learning,
                (None, Some(_), _) => What::Proposal,
                (None, None, Some(_)) => What::Baseline,
                (None, None, None) => continue,
            };
            found.push((number, what));
        }
        if let (Target::One(id), true) = (&self.machine, found.is_empty()) {
            let message = format!("machine: {id} is not being learned and has no baseline: nothing to discard");
            return Err(Fault::new(Code::BadArgument, message));
        }
        let told = found.iter().map(|(number, what)| json!({ "machine": desk.machine_id(*number), "discarded": what }));
        let data = json!({ "machines": told.collect::<Vec<_>>() });
        let encoder = shared.station.lock().loaded.as_ref().map(|loaded| loaded.bundle.encoder_sha256.clone());
        let drop_files = {
            let (shared, found) = (shared.clone(), found.clone());
            let shelf = Shelf::new(&shared.config.agent.state_dir);
            move || {
                found.iter().try_for_each(|(number, what)| {
                    let id = &shared.config.machine[*number].id;
                    match (what, &encoder) {
                        (What::Learning, _) => shelf.drop_learner(id),
                        (What::Proposal, _) => shelf.drop_proposal(id),
                        (What::Baseline, Some(encoder)) => shelf.drop_in_use(id, encoder),
                        (What::Baseline, None) => Ok(()),
                    }
                })
            }
        };
        let (first, again) = (drop_files.clone(), drop_files);
        let why = desk.why();
        let apply = move |inner: &mut crate::agent::station::Inner| {
            let mut out = Vec::new();
            for (number, what) in found {
                let site = &mut inner.machines[number].site;
                match what {
                    What::Learning => site.learner = None,
                    What::Proposal => site.proposal = None,
                    What::Baseline => {
                        out.extend(learning::take_into_use(&shared, inner, number, None, &why, now));
                        continue;
                    }
                }
                let detail = format!("{}{why}", json!(what).as_str().unwrap_or_default());
                out.push(learning::event(&shared, number, EventKind::BaselineDiscarded, detail, None, now));
            }
            // The judging thread may have written what it learns in between.
            if let Err(error) = again() {
                tracing::warn!(%error, "what was discarded may be there again after a restart");
            }
            out
        };
        let keep = move || Ok(first()?);
        Ok(Outcome::Act(Act { data, settings: Vec::new(), keep: Box::new(keep), apply: Box::new(apply) }))
    }
}

/// Takes a baseline out of use that was learned on site, where the bundle has a bank to go back to: it is a proposal
/// again. `None` where there is nothing to go back from or to.
pub(super) fn put_back(desk: &Desk, number: usize) -> Option<Outcome> {
    let (shared, now, why) = (desk.shared.clone(), desk.now, desk.why());
    let inner = shared.station.lock();
    let loaded = inner.loaded.as_ref().filter(|loaded| loaded.has_bank(number))?;
    let (baseline, _) = loaded.baseline(number).filter(|(_, on_site)| *on_site)?;
    let baseline = baseline.clone();
    let mut settings = inner.machines[number].settings.clone();
    settings.reset_threshold(desk.changed());
    drop(inner);
    let id = desk.machine_id(number).to_owned();
    let data = json!({ "machines": [{ "machine": id, "proposal": learning::facts(&id, &baseline) }] });
    let kept = baseline.clone();
    let shelf = Shelf::new(&shared.config.agent.state_dir);
    let keep = move || Ok(shelf.put_back(&id, &kept)?);
    let apply = move |inner: &mut crate::agent::station::Inner| {
        inner.machines[number].site.proposal = Some(baseline);
        learning::take_into_use(&shared, inner, number, None, &why, now)
    };
    Some(Outcome::Act(Act { data, settings: vec![(number, settings)], keep: Box::new(keep), apply: Box::new(apply) }))
}
