//! One window through the whole of scoring: gate, spectrogram, embedding, distance, lanes, verdict.

use std::sync::Arc;

use super::bank::Bank;
use super::baseline::{Baseline, Judged, LaneScore};
use super::gate::{self, Gate, SignalHealth};
use super::lanes::{FeatureExtractor, Features};
use super::recent::Recent;
use super::verdict::{Adapted, Assessment, Judge, Scored, Verdict, judge};
use super::why::{self, Why};
use crate::encoder::{EncoderError, Engine};
use crate::features::{FeatureError, FrontEnd, MelExtractor};
use crate::window::Reason;

/// A level that no microphone in a room has, dB of full scale: below the noise of 16 bits.
const DIGITAL_SILENCE_DBFS: f64 = -100.0;

/// Below this probability it is worked out in what a window differs: `wear` is made of such.
const WORTH_TELLING: f64 = 0.2;

/// What one machine is scored with.
#[derive(Debug, Clone)]
pub struct MachineModel {
    /// Index that the encoder is conditioned on.
    pub index: u32,
    pub bank: Bank,
    pub threshold: f64,
    pub front_end: FrontEnd,
    pub gate: Gate,
    /// What was learned on site, where something was.
    pub baseline: Option<Arc<Baseline>>,
    /// What decides; counts only with a baseline that has lanes.
    pub judge: Judge,
    /// Below this share of normal windows all lanes together call one anomalous; `None`: the baseline's own.
    pub false_alarm_rate: Option<f64>,
    /// `baseline` is what has been learned until now, while learning goes on.
    pub provisional: bool,
    /// So many times as wide the tail of all lanes together is in this hour of the day; `None` where no hour's ever is.
    pub widening: Option<f64>,
    /// What the cheap lanes see is worked out too: a baseline judges by it, and is learned from it.
    pub lanes: bool,
}

impl MachineModel {
    /// A machine that is judged by its distance alone.
    pub fn new(index: u32, bank: Bank, threshold: f64, front_end: FrontEnd, gate: Gate) -> Self {
        let (baseline, judge, false_alarm_rate, provisional, widening) = (None, Judge::Distance, None, false, None);
        MachineModel {
            index,
            bank,
            threshold,
            front_end,
            gate,
            baseline,
            judge,
            false_alarm_rate,
            provisional,
            widening,
            lanes: true,
        }
    }

    /// The same machine with a learned baseline: its bank and threshold in place of the bundle's. Whoever wants another
    /// threshold sets it afterwards.
    #[must_use]
    pub fn with_baseline(self, baseline: Arc<Baseline>, judge: Judge) -> Self {
        let (bank, threshold) = (baseline.bank(), baseline.threshold);
        MachineModel { bank, threshold, judge, baseline: Some(baseline), ..self }
    }

    /// The baseline knows the running machine's level, and this is far below it. Digital silence is a dead microphone,
    /// and so is whatever else is wrong with the signal.
    fn stands_still(&self, signal: &SignalHealth) -> bool {
        let Some(baseline) = &self.baseline else { return false };
        let quiet = signal.level_dbfs < baseline.off_below_dbfs && signal.level_dbfs > DIGITAL_SILENCE_DBFS;
        quiet && matches!(signal.fault, None | Some(Reason::Silent))
    }

    /// As [`MachineModel::judge_next`], of a window without any before it.
    pub fn judge(&self, heard: Heard) -> Scored {
        self.judge_next(heard, &mut Recent::default(), 0.0)
    }

    /// What comes of a window that was heard with this model, or with one that differs in what windows are compared with alone:
    /// bank, threshold, baseline. It ended at `end_s`; `recent` has those before it, and takes it in.
    pub fn judge_next(&self, heard: Heard, recent: &mut Recent, end_s: f64) -> Scored {
        let Heard { signal, sound } = heard;
        let level_dbfs = signal.level_dbfs;
        let unknown = |reason| Assessment::unknown(reason, Some(self.threshold), level_dbfs);
        let still = self.stands_still(&signal);
        let (assessment, sound) = match sound {
            Err(_) if still && signal.fault.is_some() => (unknown(Reason::MachineOff), None),
            Err(reason) => (unknown(reason), None),
            Ok(sound) if still => (unknown(Reason::MachineOff), Some(sound)),
            Ok(sound) if self.bank.is_empty() => (unknown(Reason::Learning), Some(sound)),
            Ok((embedding, features)) => {
                let distance = self.bank.nearest(&embedding).map_or(f64::NAN, |(_, distance)| distance);
                let before = (recent, end_s);
                (self.judge_sound(distance, features.as_ref(), level_dbfs, before), Some((embedding, features)))
            }
        };
        let (embedding, features) = sound.unzip();
        Scored { assessment, embedding, features: features.flatten(), signal: Some(signal) }
    }

    /// The verdict: by the distance, or by all lanes together.
    fn judge_sound(
        &self,
        distance: f64,
        features: Option<&Features>,
        level_dbfs: f64,
        before: (&mut Recent, f64),
    ) -> Assessment {
        let mut assessment = judge(distance, self.threshold, level_dbfs);
        if assessment.verdict == Verdict::Unknown {
            return assessment;
        }
        assessment.provisional = self.provisional;
        if let Some(features) = features {
            self.judge_by_lanes(&mut assessment, distance, features, before);
        }
        if assessment.verdict == Verdict::Anomalous || assessment.p_value.is_some_and(|p| p < WORTH_TELLING) {
            assessment.why = Some(self.why(&assessment, distance, features));
        }
        assessment
    }

    fn why(&self, assessment: &Assessment, distance: f64, features: Option<&Features>) -> Why {
        let baseline = self.baseline.as_ref();
        let compared = baseline.zip(features);
        let difference = compared.and_then(|(baseline, features)| baseline.spectrum_difference_db(features));
        let is_anomalous = assessment.verdict == Verdict::Anomalous;
        let told = compared.filter(|_| is_anomalous);
        Why {
            ratio: assessment.ratio().filter(|ratio| ratio.is_finite()),
            percentile: baseline.and_then(|baseline| baseline.distance_percentile(distance)),
            p_value: assessment.p_value,
            lane: assessment.lane,
            bands: difference.map_or_else(Vec::new, |difference| why::bands(&difference, &self.front_end)),
            unlike_modes: told.and_then(|(baseline, features)| baseline.unlike_modes(features)),
            level_in_mode: told
                .and_then(|(baseline, features)| baseline.unusual_level(features, assessment.level_dbfs)),
            provisional: self.provisional,
        }
    }

    fn judge_by_lanes(
        &self,
        assessment: &mut Assessment,
        distance: f64,
        features: &Features,
        (recent, end_s): (&mut Recent, f64),
    ) {
        let Some(baseline) = &self.baseline else { return };
        let rate = self.false_alarm_rate.unwrap_or(baseline.false_alarm_rate);
        let Some(alone) = baseline.judged(distance, features) else { return };
        let Some(mut found) = self.by_lanes(&alone, rate) else { return };
        let mut lingering = false;
        // What stands out by itself says enough, and must not make those after it stand out.
        if found.0.p_value >= rate {
            recent.note_in(baseline.mode_of(features), end_s, self.front_end.window_s, &features.spectrum);
            if let Some(together) = alone.with_those_before(recent).and_then(|judged| self.by_lanes(&judged, rate)) {
                (found, lingering) = (together, together.0.p_value < rate);
            }
        }
        let (lanes, adapted) = found;
        assessment.adapted = adapted;
        if !lanes.p_value.is_finite() {
            *assessment = Assessment::unknown(Reason::NotFinite, assessment.threshold, assessment.level_dbfs);
            return;
        }
        assessment.score = Some(lanes.score);
        assessment.p_value = Some(lanes.p_value);
        assessment.lane = Some(lanes.lane);
        if self.judge == Judge::Combined {
            assessment.verdict = if lanes.p_value < rate { Verdict::Anomalous } else { Verdict::Normal };
            assessment.lingering = lingering;
            assessment.unsteady = assessment.is_anomalous_by_itself() && lanes.lane.is_unsteady();
        }
    }

    /// The score, under a tail that is wider at this hour where it is.
    fn by_lanes(&self, judged: &Judged<'_>, rate: f64) -> Option<(LaneScore, Option<Adapted>)> {
        let Some(widening) = self.widening.filter(|_| self.judge == Judge::Combined) else {
            return Some((judged.score()?, None));
        };
        let found = judged.widened(widening, rate)?;
        let adapted = Adapted { widening, learned_p_value: found.learned.p_value, needed: found.needed };
        Some((found.widened, Some(adapted)))
    }
}

/// What one window sounds like, whatever it is compared with: nearly all of the time goes into it.
pub struct Heard {
    pub signal: SignalHealth,
    /// Why there is none, else: what the signal lacks, or what could not be computed.
    sound: Result<Sound, Reason>,
}

/// The embedding, and what the cheap lanes see, where it is wanted.
type Sound = (Vec<f32>, Option<Features>);

/// Scores windows of any machine of one bundle: holds the engine and one front-end for each set of parameters.
pub struct Scorer {
    engine: Box<dyn Engine>,
    /// What extracts the lanes' features is made once somebody wants them.
    front_ends: Vec<(MelExtractor, Option<FeatureExtractor>)>,
}

impl Scorer {
    pub fn new(engine: Box<dyn Engine>) -> Self {
        Scorer { engine, front_ends: Vec::new() }
    }

    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// Another engine with the same weights, for another thread.
    ///
    /// # Errors
    /// Where the engine cannot be shared.
    pub fn share_engine(&self) -> Result<Box<dyn Engine>, EncoderError> {
        self.engine.share()
    }

    /// Scores one window of exactly `model.front_end.window_samples()` samples.
    ///
    /// # Errors
    /// As [`Scorer::hear`].
    pub fn score(&mut self, model: &MachineModel, window: &[f32]) -> Result<Scored, FeatureError> {
        Ok(model.judge(self.hear(model, window)?))
    }

    /// What is computed of one window before it is compared with anything: of `model` only gate, front-end and index count.
    ///
    /// # Errors
    /// Front-end parameters or a window length that cannot be computed with. Whatever is wrong with the *signal* is no
    /// error but an `unknown` verdict with its reason.
    pub fn hear(&mut self, model: &MachineModel, window: &[f32]) -> Result<Heard, FeatureError> {
        let signal = gate::inspect(window, &model.gate);
        let sound = match signal.fault {
            Some(reason) => Err(reason),
            None => self.embed(model, window)?,
        };
        Ok(Heard { signal, sound })
    }

    fn embed(&mut self, model: &MachineModel, window: &[f32]) -> Result<Result<Sound, Reason>, FeatureError> {
        let number = self.front_end(&model.front_end)?;
        let (mel, lanes) = &mut self.front_ends[number];
        let image = match mel.compute(window) {
            // Samples so large that their power is not finite.
            Err(FeatureError::NotFinite) => return Ok(Err(Reason::NotFinite)),
            image => image?,
        };
        let embedding = match self.engine.embed(image, model.index) {
            Ok(embedding) => embedding,
            Err(error) => {
                tracing::error!(%error, "the encoder failed on a window");
                return Ok(Err(Reason::NotFinite));
            }
        };
        let features = model.lanes.then(|| {
            let lanes = lanes.get_or_insert_with(|| FeatureExtractor::new(&model.front_end));
            lanes.extract(window, mel.mel_db(), model.front_end.n_mels)
        });
        Ok(Ok((embedding, features)))
    }

    /// Makes the front-end of `model` ready, so that parameters that cannot be computed with are known at once.
    ///
    /// # Errors
    /// As [`MelExtractor::new`].
    pub fn prepare(&mut self, model: &MachineModel) -> Result<(), FeatureError> {
        self.front_end(&model.front_end).map(|_| ())
    }

    fn front_end(&mut self, front_end: &FrontEnd) -> Result<usize, FeatureError> {
        if let Some(found) = self.front_ends.iter().position(|(known, _)| known.front_end() == front_end) {
            return Ok(found);
        }
        self.front_ends.push((MelExtractor::new(front_end)?, None));
        Ok(self.front_ends.len() - 1)
    }
}
