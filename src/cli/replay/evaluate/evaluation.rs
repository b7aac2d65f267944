//! What was judged of one machine, and by what.

use std::path::PathBuf;
use std::sync::Arc;

use super::manifest::NORMAL;
use crate::scoring::{Baseline, Lane, Reason, Verdict};

/// One window that was judged.
pub struct Judged {
    pub label: String,
    pub block: String,
    pub file: PathBuf,
    /// When it ended, seconds from its recording's start.
    pub end_s: f64,
    pub distance: f64,
    pub verdict: Verdict,
    /// `-log10` of the probability over all lanes.
    pub score: Option<f64>,
    pub lanes: Vec<(Lane, f64)>,
}

/// One window that could not be assessed.
pub struct Unknown {
    pub label: String,
    pub file: PathBuf,
    pub reason: Reason,
}

/// Everything that was judged of one machine, and by what.
pub struct Evaluation {
    pub machine: String,
    pub baseline: Arc<Baseline>,
    pub recordings: u32,
    pub judged: Vec<Judged>,
    pub unknown: Vec<Unknown>,
    /// Below this probability a window is anomalous, or above this distance, where one is given.
    pub limit: f64,
    pub threshold: Option<f64>,
}

impl Evaluation {
    pub fn is_normal(judged: &&Judged) -> bool {
        judged.label == NORMAL
    }
}
