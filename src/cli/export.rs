//! `auscult export`: the clips of alarms that somebody has answered, as the folders that training and `enroll` read.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args as ClapArgs;

use super::{Failure, stored};
use crate::audio::{flac, wav};
use crate::config::Config;
use crate::fs::write_output;
use crate::monitor::answers::{AlarmAnswer, AlarmOutcome};
use crate::monitor::clips::{ClipKey, Clips, FaultExample, SOUND};
use crate::monitor::journal::{self, Journal};
use crate::numbers::counted;

/// What an export has written, in its folder.
const LIST: &str = ".auscult-export";

/// Write the sound of alarms as WAV files, sorted by their answers.
///
/// OUT/MACHINE/normal/ and OUT/MACHINE/abnormal/NAME/ are laid out as models/train and `auscult enroll` read them; what was a
/// disturbance goes to OUT/MACHINE/disturbance/. It reads the state directory, also while the agent runs. OUT is a new
/// folder, an empty one, or that of an earlier export: where a clip has another answer now, it moves to its other folder.
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
    let mut earlier = Earlier::find(&args.out)?;
    let (clips, lost) = Clips::read_only(state_dir);
    let answers = Answers::open(state_dir)?;
    let (mut written, mut left_out, mut unreadable) = (0u64, 0u64, 0u64);
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
        let since = DateTime::from_timestamp_millis(key.since_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
        let name = format!("{}-{}-{since}.wav", key.machine, key.kind.word());
        // By the name of its directory, which is one: what the clip itself says may lead anywhere.
        let file = earlier.write(&Path::new(&key.machine).join(folder).join(name), &bytes)?;
        writeln!(std::io::stdout().lock(), "{}", file.display())?;
        written += 1;
    }
    let moved = earlier.finish()?;
    let mut parts = vec![counted(written, "clip")];
    parts.extend((moved > 0).then(|| format!("{moved} moved to the folder of another answer")));
    parts.extend((left_out > 0).then(|| format!("{left_out} that nobody has answered left out (--all)")));
    eprintln!("from {}: {}", state_dir.display(), parts.join("; "));
    match unreadable {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{} could not be read", counted(unreadable, "clip")).into()),
    }
}

/// The folder that is written to, with what an earlier export wrote there: it says so in [`LIST`], a path a line.
struct Earlier {
    out: PathBuf,
    before: BTreeSet<PathBuf>,
    now: BTreeSet<PathBuf>,
}

impl Earlier {
    /// # Errors
    /// A folder that holds something else.
    fn find(out: &Path) -> anyhow::Result<Earlier> {
        let named = || out.display().to_string();
        let list = match std::fs::read_to_string(out.join(LIST)) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let is_used = out.exists() && std::fs::read_dir(out).with_context(named)?.next().is_some();
                anyhow::ensure!(
                    !is_used,
                    "{}: expected a new folder, an empty one or that of an earlier export, found files of something else",
                    named()
                );
                String::new()
            }
            Err(error) => return Err(error).with_context(named),
        };
        // Somebody may have changed the list: nothing outside the folder is touched.
        let is_below = |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_)));
        let before = list.lines().map(PathBuf::from).filter(is_below).collect();
        Ok(Earlier { out: out.to_owned(), before, now: BTreeSet::new() })
    }

    /// Writes a file and notes it before: an export that is cut off knows what it wrote.
    fn write(&mut self, name: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.out.join(name);
        let named = || path.display().to_string();
        std::fs::create_dir_all(path.parent().unwrap_or(&self.out)).with_context(named)?;
        self.now.insert(name.to_owned());
        if !self.before.contains(name) {
            self.note(self.before.union(&self.now))?;
        }
        write_output(&path, bytes).with_context(named)?;
        Ok(path)
    }

    /// Removes the clips that an earlier export wrote to another folder; how many that were. Those that the agent no longer
    /// has stay.
    fn finish(self) -> anyhow::Result<u64> {
        let mut moved = 0;
        let clips: BTreeSet<_> = self.now.iter().filter_map(|name| name.file_name()).collect();
        for name in self.before.difference(&self.now) {
            if !name.file_name().is_some_and(|clip| clips.contains(clip)) {
                continue;
            }
            let path = self.out.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => moved += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
            // The folder of a name that was taken back; one that holds something else stays.
            let _ = path.parent().map(std::fs::remove_dir);
        }
        let known = self.before.union(&self.now).filter(|name| self.out.join(name).exists());
        let known: BTreeSet<PathBuf> = known.cloned().collect();
        if !known.is_empty() {
            self.note(known.iter())?;
        }
        Ok(moved)
    }

    fn note<'a>(&self, names: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
        let list: String = names.map(|name| format!("{}\n", name.display())).collect();
        let path = self.out.join(LIST);
        write_output(&path, list.as_bytes()).with_context(|| path.display().to_string())
    }
}

/// A clip's sound as a WAV file.
fn sound(clips: &Clips, key: &ClipKey) -> anyhow::Result<Vec<u8>> {
    let sound = clips.read(key, SOUND)?.context("it has no sound")?;
    let (samples, rate_hz) = flac::decode(&sound)?;
    Ok(wav::to_bytes(&samples, rate_hz)?)
}

/// Bytes of a folder's name, at most.
const LONGEST_FOLDER: usize = 200;

/// Where a clip belongs; `None` where nobody has said and only answers are wanted.
fn folder(fault: Option<&FaultExample>, answer: Option<&AlarmAnswer>, all: bool) -> Option<PathBuf> {
    let of_fault = |name: &str| {
        // A name is any text: one folder of it.
        let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | ' ') { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        // No file system takes longer ones.
        let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
        let name = name[..ends.take_while(|end| *end <= LONGEST_FOLDER).last().unwrap_or(0)].trim();
        let name = if name.is_empty() { "fault" } else { name };
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

/// The journal, of a copy.
struct Answers {
    journal: Journal,
    /// Removed with it.
    _dir: tempfile::TempDir,
}

impl Answers {
    fn open(state_dir: &Path) -> Result<Answers, Failure> {
        let dir = stored::copy(state_dir, journal::FILE).map_err(anyhow::Error::msg)?;
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
        let long = fault(&"\u{20bb7}".repeat(64)).expect("a folder");
        assert_eq!(long, Path::new("abnormal").join("\u{20bb7}".repeat(50)), "as long as a file system takes");
    }

    #[test]
    fn an_earlier_export_is_brought_up_to_date_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("clips");
        let export = |files: &[&str]| {
            let mut earlier = Earlier::find(&out).expect("a folder for it");
            files.iter().for_each(|name| drop(earlier.write(Path::new(name), b"RIFF").expect("written")));
            earlier.finish().expect("finished")
        };
        assert_eq!(export(&["fan/abnormal/rub/a.wav", "fan/normal/b.wav"]), 0);
        std::fs::write(out.join("fan/normal/own.wav"), "of a person").expect("written");
        // The answer to `a` is another one by now, and the agent has made room of `b`.
        assert_eq!(export(&["fan/abnormal/bearing/a.wav"]), 1);
        assert!(!out.join("fan/abnormal/rub").exists() && out.join("fan/abnormal/bearing/a.wav").exists());
        assert!(out.join("fan/normal/b.wav").exists() && out.join("fan/normal/own.wav").exists());
        assert_eq!(export(&["fan/normal/a.wav", "fan/disturbance/b.wav"]), 2);
        assert!(!out.join("fan/normal/b.wav").exists() && out.join("fan/normal/own.wav").exists());
        // A list that was tampered with leads nowhere else.
        std::fs::write(dir.path().join("a.wav"), "kept").expect("written");
        std::fs::write(out.join(LIST), "../a.wav\n/etc/a.wav\nfan/normal/a.wav\n").expect("written");
        assert_eq!(export(&["fan/normal/a.wav"]), 0);
        assert!(dir.path().join("a.wav").exists());

        let used = dir.path().join("used");
        std::fs::create_dir(&used).expect("a directory");
        assert!(Earlier::find(&used).is_ok(), "an empty folder will do");
        std::fs::write(used.join("thesis.txt"), "").expect("written");
        let refused = Earlier::find(&used).err().expect("refused").to_string();
        assert!(
            refused.contains("used: expected a new folder, an empty one or that of an earlier export"),
            "{refused}"
        );
    }
}
