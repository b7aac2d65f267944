//! `evidence.get`: what a machine sounded like a moment ago, as a WAV file and a picture, in parts; or at an alarm.

use std::path::PathBuf;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Execute, clip};
use crate::audio::wav;
use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::control::values::{Bytes, Target};
use crate::features::picture::Picture;
use crate::features::{FrontEnd, MelExtractor};
use crate::monitor::model::ActiveBundle;
use crate::mqtt::payload::{EvidenceMsg, SchemaVersion};
use crate::sha256::sha256_hex;
use crate::window::Window;
use crate::window::level_dbfs;

/// Bytes of a file in one message. A multiple of three, so that only the last part's Base64 is padded.
const PART: usize = 24 * 1024;

/// Sound and spectrogram of a machine's last window, or of an alarm. What an alarm sounded like is given out in pieces:
/// without `file` the reply says which files there are.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceGet {
    /// The machine whose last window is wanted; one machine at a time.
    #[arg(long, required_unless_present = "alarm")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Target>,
    /// The number of an alarm in the journal: the sound around the moment at which it was raised.
    #[arg(long, conflicts_with = "machine", value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<i64>,
    /// Of an alarm: the file that a piece is wanted of, `sound.flac`, `spectrogram.png` or `normal.png`.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// And where in it the piece begins.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Bytes>,
    /// Directory to write the files to; their names begin with the agent's and the machine's id [default: this one].
    #[arg(long)]
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Write this file alone: sound as .wav or .flac, the picture as .png.
    #[arg(long, short, value_name = "FILE", conflicts_with = "out")]
    #[serde(skip)]
    pub output: Option<PathBuf>,
}

impl Execute for EvidenceGet {
    fn run(self, context: &mut CommandContext) -> Result<Outcome, CommandError> {
        match (self.machine, self.alarm, self.file, self.offset) {
            (Some(machine), None, None, None) => last_window(&machine, context),
            (None, Some(alarm), None, None) => clip::about(context, alarm),
            (None, Some(alarm), Some(file), offset) => {
                clip::piece(context, alarm, &file, offset.map_or(0, |Bytes(offset)| offset))
            }
            (machine, alarm, ..) => {
                let message = match (machine, alarm) {
                    (Some(_), Some(_)) => {
                        "machine and alarm exclude each other: machine asks for its last window, alarm for a clip"
                    }
                    (Some(_), None) => "file and offset belong to alarm: the last window of a machine comes whole",
                    (None, Some(_)) => "offset belongs to file: name the file that the piece is wanted of",
                    (None, None) => "machine or alarm is missing: machine asks for its last window, alarm for a clip",
                };
                Err(CommandError::new(Code::BadArgument, message))
            }
        }
    }
}

/// What the machine has sounded like last.
fn last_window(wanted: &Target, context: &mut CommandContext) -> Result<Outcome, CommandError> {
    let machine = context.target(wanted)?;
    let evidence = &context.shared.evidence;
    if !evidence.is_allowed() {
        return Err(CommandError::new(Code::NotAllowed, clip::NO_SOUND));
    }
    let Some(window) = evidence.get(machine) else {
        let message = format!("nothing was heard of {:?} since the start", context.machine_id(machine));
        return Err(CommandError::new(Code::Failed, message));
    };
    evidence.take_turn(Instant::now()).map_err(|wait| {
        let message = format!("evidence was sent a moment ago; again in {:.0} s", wait.as_secs_f64().ceil());
        CommandError::new(Code::Busy, message)
    })?;
    let front_end = front_end(context, machine, &window);
    let mut files = vec![("audio.wav", wav(&window, front_end.rate_hz)?)];
    // A window that cannot be drawn, because its samples are not finite, can still be heard.
    files.extend(picture(&context.machine_id(machine), &window, &front_end).map(|png| ("spectrogram.png", png)));
    let described: Vec<_> = files.iter().map(|(name, bytes)| describe_file(name, bytes)).collect();
    let data = json!({
        "machine": &*context.machine_id(machine),
        "ts": Timestamp::from(DateTime::from(window.end)),
        "seconds": window.samples.len() as f64 / f64::from(front_end.rate_hz),
        "level_dbfs": level_dbfs(&window.samples),
        "files": described,
    });
    let messages = files.iter().flat_map(|(name, bytes)| parts(context, machine, &window, name, bytes)).collect();
    Ok(Outcome::Evidence(data, messages))
}

/// The front-end that the window was made for; without a bundle the standard one.
fn front_end(context: &CommandContext, machine: usize, window: &Window) -> FrontEnd {
    let state = context.shared.monitor.lock();
    let of_bundle = state.loaded.as_ref().map(|loaded: &ActiveBundle| loaded.front_end(machine).clone());
    of_bundle.filter(|front_end| front_end.window_samples() == window.samples.len()).unwrap_or_default()
}

/// Mono, 16 bits.
fn wav(window: &Window, rate_hz: u32) -> Result<Vec<u8>, CommandError> {
    let samples: Vec<i16> = window.samples.iter().map(|sample| wav::to_16_bits(*sample)).collect();
    let failed = |error| CommandError::new(Code::Failed, format!("no WAV file can be made: {error}"));
    wav::to_bytes(&samples, rate_hz).map_err(failed)
}

fn picture(machine: &str, window: &Window, front_end: &FrontEnd) -> Option<Vec<u8>> {
    let mut extractor = MelExtractor::new(front_end).ok()?;
    let image = extractor.compute(&window.samples).ok()?.to_vec();
    let (least_db, most_db) = extractor.range_db();
    let end = Timestamp::from(DateTime::from(window.end));
    let title = format!("{machine}   until {end}   {:.1} dBFS", level_dbfs(&window.samples));
    Picture { title: &title, front_end, image: &image, range_db: most_db - least_db }.to_png().ok()
}

fn describe_file(name: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "file": name, "bytes": bytes.len(), "sha256": sha256_hex(bytes), "parts": bytes.len().div_ceil(PART) })
}

fn parts(context: &CommandContext, machine: usize, window: &Window, name: &str, bytes: &[u8]) -> Vec<EvidenceMsg> {
    let count = u32::try_from(bytes.len().div_ceil(PART)).unwrap_or(u32::MAX);
    let hash = sha256_hex(bytes);
    let part = |(part, data): (u32, &[u8])| EvidenceMsg {
        schema: SchemaVersion,
        ts: Timestamp::from(DateTime::from(window.end)),
        agent: context.shared.config.agent.id.clone(),
        machine: context.machine_id(machine).to_string(),
        id: context.envelope.id.clone().map(String::from),
        file: name.to_owned(),
        part,
        parts: count,
        bytes: bytes.len() as u64,
        sha256: hash.clone(),
        data: STANDARD.encode(data),
        clock: context.shared.clock.mark(),
    };
    (0..).zip(bytes.chunks(PART)).map(part).collect()
}
