//! Rows of numbers, all of one width.

use serde::{Deserialize, Serialize};

use super::base64_f32;

/// Rows of one width, `[n, width]`, row-major.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rows {
    width: usize,
    #[serde(with = "base64_f32")]
    values: Vec<f32>,
}

impl Rows {
    /// `None` where the rows are not all of one width above 0.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Option<Rows> {
        let (mut width, mut values) = (0, Vec::new());
        for row in rows {
            if row.is_empty() || (width != 0 && row.len() != width) {
                return None;
            }
            width = row.len();
            values.extend_from_slice(row);
        }
        (width > 0).then_some(Rows { width, values })
    }

    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Keeps only the rows whose number `keep` has; none of them would be no change.
    pub fn keep(&mut self, keep: &[usize]) {
        let rows: Vec<&[f32]> = self.iter().collect();
        if let Some(kept) = Rows::new(keep.iter().filter_map(|&number| rows.get(number).copied())) {
            *self = kept;
        }
    }

    /// Whether what was read makes sense: whole rows.
    pub fn is_valid(&self) -> bool {
        self.width > 0 && !self.values.is_empty() && self.values.len().is_multiple_of(self.width)
    }
}

/// Whether all of them are above 0 and finite.
pub fn are_positive(values: &[f32]) -> bool {
    values.iter().all(|value| *value > 0.0 && value.is_finite())
}
