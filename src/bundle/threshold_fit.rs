//! How a threshold sits in a bank: the share of the machine's own normal windows that it would call anomalous.

use super::BundleMachine;

/// Most rows of one bank that are looked at; of a larger one, this many evenly spread.
pub const SAMPLE_LIMIT: usize = 4096;

impl BundleMachine {
    /// How many rows [`BundleMachine::share_above`] looks at.
    pub fn sampled_rows(&self) -> usize {
        self.bank.len().min(SAMPLE_LIMIT)
    }

    /// Share, 0..1, of the bank's rows whose nearest other row is farther than the threshold (leave-one-out). `None`
    /// without a threshold or with a single row. `row_done` is called after each of the rows, for a progress bar.
    pub fn share_above(&self, mut row_done: impl FnMut()) -> Option<f64> {
        let threshold = self.threshold?;
        let (rows, sampled) = (self.bank.len(), self.sampled_rows());
        if rows < 2 {
            return None;
        }
        let mut above = 0;
        for number in 0..sampled {
            let own = number * rows / sampled;
            let row = self.bank.rows().row(own).to_vec();
            let (_, distance) = self.bank.nearest_where(&row, |other| other != own)?;
            above += usize::from(distance > threshold);
            row_done();
        }
        Some(above as f64 / sampled as f64)
    }
}
