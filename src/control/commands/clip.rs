//! `evidence.get` of an alarm: its clip, told in the reply and given out in pieces.

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::control::context::CommandContext;
use crate::control::error::{Code, CommandError};
use crate::control::outcome::Outcome;
use crate::monitor::clips::{Clip, ClipError, ClipKey, ClipSummary, NORMAL, PICTURE, SOUND};
use crate::monitor::journal::JournalEntry;
use crate::sha256::sha256_hex;

/// Bytes of a file in one reply. A multiple of three, so that only the last one's Base64 is padded.
const PIECE: usize = 96 * 1024;
/// What may be asked for.
const FILES: [&str; 3] = [SOUND, PICTURE, NORMAL];
/// Why a person gets none.
pub const NO_SOUND: &str = "no sound leaves this agent: its configuration has no `privacy.allow_audio = true`";

/// Said of clips whose sound is not that of their time.
const FASTER: &str = "its source runs faster than real time, and a clip goes by the clock: the sound begins and ends elsewhere \
                      than the alarm";

/// What the clip of an alarm says, and which files of it may be asked for.
pub fn about(context: &CommandContext, alarm: i64) -> Result<Outcome, CommandError> {
    let entry = context.alarm(alarm)?;
    let (key, clips) = (key_of(&entry), &context.shared.clips);
    let clip = clips.clip(&key).map_err(unreadable)?.ok_or_else(|| none(alarm))?;
    let may_hear = context.shared.config.privacy.allow_audio;
    let mut files = Vec::new();
    let is_faster = {
        let state = context.shared.monitor.lock();
        let number = state.find(&entry.machine);
        number.is_some_and(|number| state.machines[number].config.source.is_faster_than_real_time())
    };
    let notes = [(!may_hear).then_some(NO_SOUND), is_faster.then_some(FASTER)];
    let mut notes: Vec<String> = notes.into_iter().flatten().map(str::to_owned).collect();
    for name in FILES.into_iter().filter(|name| may_hear || *name != SOUND) {
        match clips.read(&key, name) {
            Ok(Some(content)) => {
                files.push(json!({ "file": name, "bytes": content.len(), "sha256": sha256_hex(&content) }));
            }
            Ok(None) => {}
            // The others can be had all the same.
            Err(error) => notes.push(error.to_string()),
        }
    }
    let time = |time: DateTime<Utc>| Timestamp::from(time);
    let windows = clip.windows.iter().map(|window| {
        json!({
            "ts": time(window.at), "verdict": window.verdict, "distance": window.distance,
            "threshold": window.threshold, "score": window.score, "level_dbfs": window.level_dbfs,
        })
    });
    let windows: Vec<_> = windows.collect();
    let Clip { machine, kind, since, from, to, rate_hz, text, level_step_s, level_dbfs, normal, .. } = &clip;
    let normal: Vec<_> = normal.iter().map(|at| time(*at)).collect();
    Ok(Outcome::Answer(json!({
        "alarm": alarm, "machine": machine, "kind": kind, "since": time(*since), "from": time(*from), "to": time(*to),
        "seconds": clip.seconds(), "rate_hz": rate_hz, "text": text, "fault": clip.fault.as_ref().map(|fault| &fault.name),
        "level_step_s": level_step_s, "levels_dbfs": level_dbfs, "windows": windows, "normal": normal, "clip": files,
        "note": (!notes.is_empty()).then(|| notes.join("; ")),
    })))
}

/// A piece of a file of the clip of an alarm.
pub fn piece(context: &CommandContext, alarm: i64, file: &str, offset: u64) -> Result<Outcome, CommandError> {
    let name = FILES.into_iter().find(|name| *name == file);
    let name = name.ok_or_else(|| CommandError::argument("file", &format!("{SOUND}, {PICTURE} or {NORMAL}"), file))?;
    if name == SOUND && !context.shared.config.privacy.allow_audio {
        return Err(CommandError::new(Code::NotAllowed, NO_SOUND));
    }
    let entry = context.alarm(alarm)?;
    let content = context.shared.clips.read(&key_of(&entry), name).map_err(unreadable)?.ok_or_else(|| none(alarm))?;
    let begin = usize::try_from(offset).ok().filter(|begin| *begin <= content.len()).ok_or_else(|| {
        CommandError::argument("offset", &format!("at most the {} bytes of {name}", content.len()), offset)
    })?;
    let piece = &content[begin..content.len().min(begin.saturating_add(PIECE))];
    Ok(Outcome::Answer(json!({
        "alarm": alarm, "file": name, "offset": offset, "bytes": content.len(), "data": BASE64_STANDARD.encode(piece),
    })))
}

/// What the clip of an alarm is known by.
pub fn key_of(entry: &JournalEntry) -> ClipKey {
    ClipKey::new(&entry.machine, entry.record.kind, entry.record.since)
}

/// What the journal shows of the clip of an alarm.
pub fn shown(clip: &ClipSummary) -> Value {
    json!({
        "from": Timestamp::from(clip.from), "to": Timestamp::from(clip.to), "seconds": clip.seconds(),
        "rate_hz": clip.rate_hz, "bytes": clip.bytes,
    })
}

fn none(alarm: i64) -> CommandError {
    let message =
        format!("there is no clip of alarm {alarm}: it is made 20 s after the alarm, and the oldest go for room");
    CommandError::new(Code::Failed, message)
}

pub fn unreadable(error: ClipError) -> CommandError {
    CommandError::new(Code::Failed, format!("the clip cannot be read: {error}"))
}
