//! `evidence.get --alarm`: sound and picture of an alarm, fetched in pieces and written as the ending of the file says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::fleet::FleetClient;
use super::pieces::{self, Wanted};
use crate::audio::flac;
use crate::cli::Failure;
use crate::control::commands::{Command, EvidenceGet};
use crate::control::envelope::Envelope;
use crate::control::values::Bytes;
use crate::fs::write_output;
use crate::mqtt::payload::Reply;
use crate::mqtt::simple_client::SimpleClient;

/// A clip is no longer than this: a minute of sound at the highest rate.
const MOST_BYTES: u64 = 32 << 20;

/// What a file is to hold, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Wav,
    Flac,
    Png,
}

impl Content {
    /// # Errors
    /// Another ending.
    pub fn of(path: &Path) -> Result<Content, Failure> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("wav") => Ok(Content::Wav),
            Some("flac") => Ok(Content::Flac),
            Some("png") => Ok(Content::Png),
            _ => {
                let path = path.display();
                Err(Failure::usage(anyhow::anyhow!("--output: expected a name on .wav, .flac or .png, found {path}")))
            }
        }
    }

    /// The one file that is wanted, where one is, with what it is to hold.
    ///
    /// # Errors
    /// Another ending.
    pub fn wanted(output: Option<&Path>) -> Result<Option<(&Path, Content)>, Failure> {
        output.map(|path| Ok((path, Content::of(path)?))).transpose()
    }

    /// Whether a file of this name is, or becomes, what is wanted.
    pub fn comes_from(self, name: &str) -> bool {
        // The picture beside it comes with all files only.
        name != "normal.png" && name.ends_with(".png") == (self == Content::Png)
    }

    /// The file's content, from one that the agent has sent under a name.
    ///
    /// # Errors
    /// Sound that cannot be read.
    pub fn from(self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(match (self, name.rsplit('.').next()) {
            (Content::Wav, Some("flac")) => {
                let (samples, rate_hz) = flac::decode(&bytes).map_err(anyhow::Error::from)?;
                crate::audio::wav::to_bytes(&samples, rate_hz).map_err(anyhow::Error::from)?
            }
            (Content::Flac, Some("wav")) => {
                let (samples, rate_hz) = crate::audio::wav::from_bytes(&bytes).map_err(anyhow::Error::from)?;
                flac::encode(&samples, rate_hz).map_err(anyhow::Error::from)?
            }
            _ => bytes,
        })
    }
}

#[derive(Deserialize)]
struct About {
    machine: String,
    clip: Vec<Listed>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    file: String,
    bytes: u64,
    sha256: String,
}

/// Fetches what `reply` speaks of: the file that was asked for, or all; a line for each that was written.
///
/// # Errors
/// A broken connection, an agent that does not answer or does not give out sound, a file that cannot be written.
pub async fn fetch(
    client: &mut SimpleClient,
    fleet: &mut FleetClient,
    envelope: &Envelope,
    reply: &Reply,
    asked: &EvidenceGet,
    patience: Duration,
) -> Result<Vec<String>, Failure> {
    let data = reply.data.clone().unwrap_or_default();
    let About { machine, clip, note } = serde_json::from_value(data).map_err(anyhow::Error::from)?;
    let wanted = Content::wanted(asked.output.as_deref())?;
    let mut lines = Vec::new();
    for Listed { file, bytes, sha256 } in clip {
        if wanted.is_some_and(|(_, content)| !content.comes_from(&file)) {
            continue;
        }
        if bytes > MOST_BYTES {
            return Err(anyhow::anyhow!("{file}: expected at most {MOST_BYTES} bytes, found {bytes}").into());
        }
        let what = Wanted { agent: &reply.agent, what: "the clip", bytes, sha256: &sha256 };
        let command = |offset| {
            let (file, offset) = (Some(file.clone()), Some(Bytes(offset)));
            Command::EvidenceGet(EvidenceGet { alarm: asked.alarm, file, offset, ..EvidenceGet::default() })
        };
        let content = pieces::fetch(client, fleet, envelope, patience, &what, command).await?;
        let (path, content) = match wanted {
            Some((path, wanted)) => (path.to_owned(), wanted.from(&file, content)?),
            None => (path_of(asked, &machine, &file), content),
        };
        write_output(&path, &content).with_context(|| path.display().to_string())?;
        lines.push(format!("{} ({} bytes)", path.display(), content.len()));
    }
    match (lines.is_empty(), note) {
        (true, note) => {
            let why = note.unwrap_or_else(|| "the clip has no such file".to_owned());
            Err(anyhow::anyhow!("{}: {why}", reply.agent).into())
        }
        (false, Some(note)) if wanted.is_none() => {
            lines.push(format!("no sound: {note}"));
            Ok(lines)
        }
        _ => Ok(lines),
    }
}

fn path_of(asked: &EvidenceGet, machine: &str, file: &str) -> PathBuf {
    let name = plain_name(&format!("{machine}-{}-{file}", asked.alarm.unwrap_or_default()));
    asked.out.clone().unwrap_or_else(|| ".".into()).join(name)
}

/// A name that comes from outside: nothing but a name.
pub fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '/' | '\\' | '\0')).collect()
}

/// A clip for a person, where a reply tells of one.
pub fn describe(reply: &Reply) -> Option<String> {
    let data = reply.data.as_ref()?;
    data.get("clip")?.as_array()?;
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    let number = |name: &str| data[name].as_f64().unwrap_or_default();
    let windows = data["windows"].as_array().map_or(0, Vec::len);
    let mut lines = format!(
        "{}/{}: {} since {}, {}\n  {:.0} s of sound from {} on, {windows} windows\n",
        reply.agent,
        text("machine"),
        text("kind"),
        text("since"),
        text("text"),
        number("seconds"),
        text("from"),
    );
    if let Some(fault) = data["fault"].as_str() {
        lines.push_str(&format!("  a fault: {fault}\n"));
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_what_is_written() {
        let content = |path: &str| Content::of(Path::new(path)).ok();
        assert_eq!(content("a/b.wav"), Some(Content::Wav));
        assert_eq!(content("b.FLAC"), Some(Content::Flac));
        assert_eq!(content("b.png"), Some(Content::Png));
        assert_eq!((content("b.mp3"), content("wav")), (None, None));

        let samples: Vec<i16> = (0..5000).map(|n| (n * 31 % 977) as i16).collect();
        let flac = flac::encode(&samples, 16_000).expect("encoded");
        let wav = Content::Wav.from("sound.flac", flac.clone()).expect("a WAV file");
        assert!(wav.starts_with(b"RIFF"));
        assert_eq!(Content::Flac.from("audio.wav", wav).expect("FLAC again"), flac);
        assert_eq!(Content::Png.from("spectrogram.png", vec![1]).expect("as it is"), [1]);
        assert!(Content::Png.comes_from("spectrogram.png") && !Content::Wav.comes_from("spectrogram.png"));
        assert!(Content::Wav.comes_from("sound.flac") && !Content::Png.comes_from("sound.flac"));
    }
}
