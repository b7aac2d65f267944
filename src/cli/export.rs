//! `auscult export`: the clips of alarms that somebody has answered, as the folders that training and `enroll` read.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args as ClapArgs;

use super::Failure;
use crate::audio::{flac, wav};
use crate::config::Config;
use crate::fs::write_output;
use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::clips::{ClipKey, Clips, FaultExample, SOUND};
use crate::monitor::journal::{self, Journal};

/// Write the sound of alarms as WAV files, sorted by their answers.
///
/// OUT/MACHINE/normal/ and OUT/MACHINE/abnormal/NAME/ are laid out as models/train and `auscult enroll` read them; what was a
/// disturbance goes to OUT/MACHINE/disturbance/. It reads the state directory, also while the agent runs.
#[derive(ClapArgs)]
#[command(after_help = "Example:
  auscult export --config agent.toml ./clips
  auscult enroll --bundle ./site-fans --machine blower-7 --out ./site-fans-2 clips/blower-7/normal/")]
pub struct Args {
    /// The agent's configuration; only its state directory counts [default: /etc/auscult/agent.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Alarms too that nobody has answered, in OUT/MACHINE/unanswered/
    #[arg(long)]
    all: bool,
    /// The folder to write to
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = Config::load_any(args.config.as_deref()).map_err(Failure::config)?;
    let state_dir = &config.agent.state_dir;
    if !state_dir.is_dir() {
        return Err(anyhow::anyhow!("{}: expected the agent's state directory, found none", state_dir.display()).into());
    }
    let (clips, lost) = Clips::read_only(state_dir);
    let answers = Answers::open(state_dir)?;
    let (mut written, mut left_out, mut unreadable) = (0, 0, 0);
    if let Some(lost) = lost {
        eprintln!("{lost}");
        unreadable += 1;
    }
    for (key, summary) in clips.all() {
        let Some(folder) = folder(summary.fault.as_ref(), answers.of(&key).as_ref(), args.all) else {
            left_out += 1;
            continue;
        };
        let bytes = match sound(&clips, &key) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{}: left out: {error:#}", key.dir().display());
                unreadable += 1;
                continue;
            }
        };
        // By the name of its directory, which is one: what the clip itself says may lead anywhere.
        let folder = args.out.join(&key.machine).join(folder);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let since = DateTime::from_timestamp_millis(key.since_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
        let path = folder.join(format!("{}-{}-{since}.wav", key.machine, key.kind.word()));
        write_output(&path, &bytes).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
        written += 1;
    }
    let rest = if left_out > 0 {
        format!("; {left_out} that nobody has answered are left out (--all)")
    } else {
        String::new()
    };
    eprintln!("{written} clips{rest}");
    match unreadable {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{unreadable} clips could not be read").into()),
    }
}

/// A clip's sound as a WAV file.
fn sound(clips: &Clips, key: &ClipKey) -> anyhow::Result<Vec<u8>> {
    let sound = clips.read(key, SOUND)?.context("it has no sound")?;
    let (samples, rate_hz) = flac::decode(&sound)?;
    Ok(wav::to_bytes(&samples, rate_hz)?)
}

/// Where a clip belongs; `None` where nobody has said and only answers are wanted.
fn folder(fault: Option<&FaultExample>, answer: Option<&AlarmAnswer>, all: bool) -> Option<PathBuf> {
    let of_fault = |name: &str| {
        // A name is any text: one folder of it.
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | ' ') { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        let name = if name.trim().is_empty() { "fault" } else { name.trim() };
        Some(Path::new("abnormal").join(name))
    };
    match (fault, answer) {
        (Some(fault), _) => of_fault(&fault.name),
        (None, None) => all.then(|| "unanswered".into()),
        (None, Some(answer)) => match answer.outcome {
            AlarmOutcome::Normal => Some("normal".into()),
            AlarmOutcome::Disturbance => Some("disturbance".into()),
            AlarmOutcome::Fault => of_fault(answer.name.as_deref().unwrap_or_default()),
        },
    }
}

/// The journal, of a copy: opening SQLite's file writes beside it, and an agent may be at it.
struct Answers {
    journal: Journal,
    /// Removed with it.
    _dir: tempfile::TempDir,
}

impl Answers {
    fn open(state_dir: &Path) -> Result<Answers, Failure> {
        let dir = tempfile::tempdir()?;
        for name in [journal::FILE.to_owned(), format!("{}-wal", journal::FILE)] {
            let from = state_dir.join(&name);
            if from.is_file() {
                std::fs::copy(&from, dir.path().join(&name)).with_context(|| from.display().to_string())?;
            }
        }
        let (journal, _) = Journal::open(dir.path(), Utc::now());
        Ok(Answers { journal, _dir: dir })
    }

    fn of(&self, key: &ClipKey) -> Option<AlarmAnswer> {
        let number = self.journal.number(key)?;
        self.journal.get(number).ok()??.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_go_where_training_reads_them() {
        let answer =
            |outcome| AlarmAnswer { outcome, name: Some("bearing".into()), by: None, comment: None, at: Utc::now() };
        let place = |outcome: Option<AlarmOutcome>, all| folder(None, outcome.map(answer).as_ref(), all);
        assert_eq!(place(Some(AlarmOutcome::Normal), false), Some("normal".into()));
        assert_eq!(place(Some(AlarmOutcome::Disturbance), false), Some("disturbance".into()));
        assert_eq!(place(Some(AlarmOutcome::Fault), false), Some("abnormal/bearing".into()));
        assert_eq!((place(None, false), place(None, true)), (None, Some("unanswered".into())));
        let fault = |name: &str| folder(Some(&FaultExample { name: name.into() }), None, false);
        assert_eq!(fault("bearing"), Some("abnormal/bearing".into()));
        assert_eq!(fault("../x/y"), Some("abnormal/___x_y".into()));
    }
}
