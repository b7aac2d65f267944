//! Sound files as arguments: what `score` and `spectrogram` have in common.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::{self, Progress};
use super::{EXIT_DATA, Failure};
use crate::audio::wav::files::{self, Windows};
use crate::causes::with_causes;
use crate::config::Channel;
use crate::features::FrontEnd;

/// How sound becomes an image.
#[derive(ClapArgs)]
pub(super) struct SoundArgs {
    /// Channel of the files, from 0, or "mix" for the mean of all
    #[arg(long, value_name = "N|mix", default_value = "mix")]
    pub channel: Channel,
    /// Lower edge of the lowest mel band, Hz [default: the bundle's, else 20]
    #[arg(long, value_name = "HZ", allow_negative_numbers = true)]
    fmin: Option<f64>,
    /// Upper edge of the highest mel band, Hz [default: the bundle's, else 8000]
    #[arg(long, value_name = "HZ", allow_negative_numbers = true)]
    fmax: Option<f64>,
}

impl SoundArgs {
    /// Lower and upper edge, where they were given.
    pub fn band_hz(&self) -> (Option<f64>, Option<f64>) {
        (self.fmin, self.fmax)
    }

    /// `front_end` with what the arguments change.
    ///
    /// # Errors
    /// Wrong usage, where the arguments ask for what cannot be computed.
    pub fn front_end(&self, front_end: &FrontEnd) -> Result<FrontEnd, Failure> {
        let mut front_end = front_end.clone();
        front_end.fmin_hz = self.fmin.unwrap_or(front_end.fmin_hz);
        front_end.fmax_hz = self.fmax.unwrap_or(front_end.fmax_hz);
        front_end.check().map_err(Failure::usage)?;
        Ok(front_end)
    }
}

/// Files still to be read, and what was wrong with those that were.
pub(super) struct FileQueue {
    files: std::vec::IntoIter<PathBuf>,
    total: u64,
    pub bar: ProgressBar,
    broken: bool,
    /// Rates that were reported to lack part of the band.
    reported_rates_hz: BTreeSet<u32>,
    /// Windows of the open file that came.
    came: u64,
    ended_well: bool,
    progress: Arc<Progress>,
}

impl FileQueue {
    /// Looks `paths` up; what is not there is named.
    pub fn new(paths: &[PathBuf]) -> Self {
        let mut all = Vec::new();
        let mut problems = Vec::new();
        for path in paths {
            match files::find(path) {
                Ok(found) => {
                    if found.files.is_empty() && found.unreadable.is_empty() {
                        problems.push(format!("{}: expected WAV, FLAC, Ogg or MP3 files, found none", path.display()));
                    }
                    all.extend(found.files);
                    problems.extend(found.unreadable);
                }
                Err(error) => problems.push(with_causes(&error)),
            }
        }
        let bar = if all.len() > 1 && io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} files {eta}").expect("a valid template");
            ProgressBar::new(all.len() as u64).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        let mut queue = FileQueue {
            total: all.len() as u64,
            files: all.into_iter(),
            bar,
            broken: false,
            reported_rates_hz: BTreeSet::new(),
            came: 0,
            ended_well: true,
            progress: Arc::default(),
        };
        for problem in problems {
            queue.pass_over(&problem);
        }
        queue
    }

    pub fn next(&mut self) -> Option<PathBuf> {
        self.bar.set_position(self.total - self.files.len() as u64);
        let next = self.files.next()?;
        self.progress.add_file();
        Some(next)
    }

    /// Lets Ctrl-C say how far the files were gone through, and what is left of the work.
    pub fn explain_interrupt(&self, left: impl Into<String>) {
        interrupt::explain(self.progress.clone(), self.total, left.into());
    }

    /// The windows of `file`; `None`, reported, where it cannot be read.
    pub fn open(&mut self, file: &Path, channel: Channel, front_end: &FrontEnd) -> Option<OpenFile> {
        match Windows::open(file, channel, front_end.rate_hz, front_end.window_samples()) {
            Ok(windows) => {
                let rate_hz = windows.format().rate_hz;
                if f64::from(rate_hz) / 2.0 < front_end.fmax_hz && self.reported_rates_hz.insert(rate_hz) {
                    let (half, fmax_hz) = (rate_hz / 2, front_end.fmax_hz);
                    let name = file.display();
                    self.report(&format!(
                        "note: {name}: {rate_hz} Hz carries nothing above {half} Hz, but the front-end looks up to \
                         {fmax_hz} Hz: not comparable with sound of a higher rate"
                    ));
                }
                (self.came, self.ended_well) = (0, true);
                let name = file.display().to_string();
                Some(OpenFile { windows, name, rate_hz: front_end.rate_hz, window_s: front_end.window_s })
            }
            Err(error) => {
                self.pass_over(&with_causes(&error));
                None
            }
        }
    }

    /// The next window of an open file; at its end, what was wrong with it is reported.
    pub fn next_window(&mut self, file: &mut OpenFile) -> Option<Vec<f32>> {
        match file.windows.next() {
            Some(Ok(window)) => {
                self.came += 1;
                self.progress.add_window();
                return Some(window);
            }
            Some(Err(error)) => {
                self.ended_well = false;
                self.pass_over(&with_causes(&error));
            }
            None if self.came == 0 && self.ended_well => {
                let seconds = file.windows.left_over() as f64 / f64::from(file.rate_hz);
                let (name, window_s) = (&file.name, file.window_s);
                self.report(&format!("note: {name}: {seconds:.3} s is less than a window of {window_s} s: no verdict"));
            }
            None => {}
        }
        None
    }

    /// Names what cannot be read.
    pub fn pass_over(&mut self, problem: &str) {
        self.broken = true;
        self.report(&format!("error: {problem}"));
    }

    pub fn report(&self, line: &str) {
        // Where stderr is closed nobody reads it.
        self.bar.suspend(|| writeln!(io::stderr(), "{line}").ok());
    }

    /// Longest name that will come, characters.
    pub fn longest_name(&self) -> usize {
        let names = self.files.as_slice().iter().map(|file| file.display().to_string().chars().count());
        names.max().unwrap_or(0)
    }

    /// # Errors
    /// Exit code 65, if anything could not be read.
    pub fn verdict(&self) -> Result<(), Failure> {
        if self.broken { Err(Failure::reported(EXIT_DATA)) } else { Ok(()) }
    }
}

impl OpenFile {
    /// Lets windows overlap: the next one begins `step_s` after the one before.
    pub fn step(&mut self, step_s: f64) {
        self.windows.step((step_s * f64::from(self.rate_hz)).round() as usize);
    }
}

/// One file of a [`FileQueue`].
pub(super) struct OpenFile {
    windows: Windows,
    name: String,
    rate_hz: u32,
    window_s: f64,
}
