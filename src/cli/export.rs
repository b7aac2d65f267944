//! `auscult export`: the clips of alarms that somebody has answered, as the folders that training and `enroll` read.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::Utc;
use clap::Args as ClapArgs;

use super::Failure;
use crate::audio::{flac, wav};
use crate::config::Config;
use crate::fs::write_output;
use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::clips::{Clip, ClipKey, Clips, SOUND};
use crate::monitor::journal::{self, Journal};

/// Writes the sound of alarms as WAV files, by what somebody has said of them.
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
    let (clips, answers) = (Clips::read_only(state_dir), Answers::open(state_dir)?);
    let (mut written, mut left_out) = (0, 0);
    for (key, _) in clips.all() {
        let Some(clip) = clips.clip(&key).map_err(anyhow::Error::from)? else { continue };
        let Some(folder) = folder(&clip, answers.of(&key).as_ref(), args.all) else {
            left_out += 1;
            continue;
        };
        let Some(sound) = clips.read(&key, SOUND).map_err(anyhow::Error::from)? else { continue };
        let (samples, rate_hz) = flac::decode(&sound).map_err(anyhow::Error::from)?;
        let bytes = wav::to_bytes(&samples, rate_hz).map_err(anyhow::Error::from)?;
        let folder = args.out.join(&clip.machine).join(folder);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(format!("{}-{}.wav", clip.machine, clip.since.format("%Y%m%dT%H%M%SZ")));
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
    Ok(())
}

/// Where a clip belongs; `None` where nobody has said and only answers are wanted.
fn folder(clip: &Clip, answer: Option<&AlarmAnswer>, all: bool) -> Option<PathBuf> {
    if let Some(fault) = &clip.fault {
        // A name is any text: one folder of it.
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | ' ') { c } else { '_' };
        let name: String = fault.name.chars().map(plain).collect();
        let name = if name.trim().is_empty() { "fault" } else { name.trim() };
        return Some(Path::new("abnormal").join(name));
    }
    match answer.map(|answer| answer.outcome) {
        Some(AlarmOutcome::Normal) => Some("normal".into()),
        Some(AlarmOutcome::Disturbance) => Some("disturbance".into()),
        // Its clip would say so.
        Some(AlarmOutcome::Fault) | None => all.then(|| "unanswered".into()),
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
    use crate::audio::capture::RecentSound;
    use crate::monitor::clips::{FaultExample, Material, make};
    use crate::scoring::alarm::Kind;

    #[test]
    fn clips_go_where_training_reads_them() {
        let since = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        let sound = RecentSound { rate_hz: 8000, samples: vec![5; 800], end: since.into() };
        let (machine, kind, text, windows) = ("fan-1".to_owned(), Kind::Fault, String::new(), Vec::new());
        let material = Material { machine, kind, since, text, sound, windows, origin: None, like: None };
        let clip = make(material).expect("made").clip;
        let answer = |outcome| AlarmAnswer { outcome, name: None, by: None, comment: None, at: since };
        let place = |clip: &Clip, outcome: Option<AlarmOutcome>, all| folder(clip, outcome.map(answer).as_ref(), all);
        assert_eq!(place(&clip, Some(AlarmOutcome::Normal), false), Some("normal".into()));
        assert_eq!(place(&clip, Some(AlarmOutcome::Disturbance), false), Some("disturbance".into()));
        assert_eq!((place(&clip, None, false), place(&clip, None, true)), (None, Some("unanswered".into())));
        let fault = |name: &str| Clip { fault: Some(FaultExample { name: name.into() }), ..clip.clone() };
        assert_eq!(place(&fault("bearing"), None, false), Some("abnormal/bearing".into()));
        assert_eq!(place(&fault("../x/y"), None, false), Some("abnormal/___x_y".into()));
    }
}
