//! `evidence.get --alarm`: sound and picture of an alarm, fetched in pieces and written as the ending of the file says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::fleet::FleetClient;
use super::pieces::{self, Wanted};
use super::{journal, table};
use crate::audio::flac;
use crate::cli::{Failure, terminal};
use crate::control::commands::{Command, EvidenceGet};
use crate::control::envelope::Envelope;
use crate::control::values::Bytes;
use crate::fs::write_output;
use crate::mqtt::payload::Reply;
use crate::mqtt::simple_client::SimpleClient;
use crate::numbers::counted;

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
            None => {
                // With whose it is, so that the clips of a fleet lie side by side.
                let name = format!("{}-{machine}-{}-{file}", reply.agent, asked.alarm.unwrap_or_default());
                (place(asked.out.as_deref().unwrap_or(Path::new(".")), &name)?, content)
            }
        };
        write_output(&path, &content).with_context(|| path.display().to_string())?;
        lines.push(format!("{} ({} bytes)", path.display(), content.len()));
    }
    if lines.is_empty() {
        let why = note.unwrap_or_else(|| "the clip has no such file".to_owned());
        return Err(anyhow::anyhow!("{}: {why}", reply.agent).into());
    }
    Ok(lines)
}

/// Where a file lies in the directory `out`, which is made if need be. A name that comes from outside is nothing but a name.
///
/// # Errors
/// The directory cannot be made.
pub fn place(out: &Path, name: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let plain: String = name.chars().filter(|c| !matches!(c, '/' | '\\' | '\0')).collect();
    Ok(out.join(plain))
}

/// The clips for a person, where all replies tell of one.
pub fn of(replies: &[Reply], width: usize) -> Option<String> {
    Some(table::of_all(replies, |reply| describe(reply, width))?.concat())
}

fn describe(reply: &Reply, width: usize) -> Option<String> {
    let data = reply.data.as_ref()?;
    data.get("clip")?.as_array()?;
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    let time = |name: &str| text(name).parse().map(journal::moment).unwrap_or_default();
    let windows = counted(data["windows"].as_array().map_or(0, Vec::len), "window");
    let seconds = data["seconds"].as_f64().unwrap_or_default();
    let machine = format!("{}/{}: ", reply.agent, text("machine"));
    let lines = [
        Some((machine, format!("{} since {}, {}", text("kind"), time("since"), text("text")))),
        Some(("  ".into(), format!("{seconds:.0} s of sound from {} on, {windows}", time("from")))),
        data["fault"].as_str().map(|fault| ("  ".into(), format!("a fault: {fault}"))),
        data["note"].as_str().map(|note| ("  ".into(), note.to_owned())),
    ];
    Some(lines.into_iter().flatten().map(|(head, text)| terminal::hang(&head, &text, Some(width))).collect())
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
