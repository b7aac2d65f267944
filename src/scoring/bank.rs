//! The bank: the normal embeddings of one machine, and the distance to the nearest of them.

use std::sync::Arc;

use ndarray::Array2;

use auscult_signal::sums::squared_distance;

/// The normal embeddings of one machine, `[N, embedding]`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bank {
    rows: Arc<Array2<f32>>,
}

impl Bank {
    /// `rows` is `[N, embedding]`.
    pub fn new(rows: Array2<f32>) -> Self {
        Bank { rows: Arc::new(rows.as_standard_layout().into_owned()) }
    }

    /// A bank that nothing is known of yet, for embeddings of this length.
    pub fn empty(width: usize) -> Self {
        Bank::new(Array2::zeros((0, width)))
    }

    pub fn len(&self) -> usize {
        self.rows.nrows()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.nrows() == 0
    }

    /// Length of one embedding.
    pub fn width(&self) -> usize {
        self.rows.ncols()
    }

    pub fn rows(&self) -> &Array2<f32> {
        &self.rows
    }

    /// Euclidean distance to the nearest row and that row's number; `None` for an empty bank, an embedding of
    /// another length, or one that is not finite.
    pub fn nearest(&self, embedding: &[f32]) -> Option<(usize, f64)> {
        self.nearest_where(embedding, |_| true)
    }

    /// As [`Bank::nearest`], over the rows whose number `keep` accepts (leave-one-out, temporal neighbours).
    pub fn nearest_where(&self, embedding: &[f32], keep: impl Fn(usize) -> bool) -> Option<(usize, f64)> {
        if embedding.len() != self.width() || embedding.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut best = None;
        for (number, row) in self.rows.outer_iter().enumerate() {
            if !keep(number) {
                continue;
            }
            let row = row.to_slice().expect("rows are kept in standard layout");
            let squared = squared_distance(row, embedding);
            if best.is_none_or(|(_, least)| squared < least) {
                best = Some((number, squared));
            }
        }
        best.map(|(number, squared)| (number, f64::from(squared.sqrt())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn nearest_is_euclidean() {
        let bank = Bank::new(array![[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]]);
        assert_eq!(bank.nearest(&[3.0, 0.0]), Some((0, 3.0)));
        assert_eq!(bank.nearest(&[9.0, 0.0]), Some((2, 1.0)));
        assert_eq!(bank.nearest_where(&[10.0, 0.0], |other| other != 2), Some((1, 65f32.sqrt().into())));
    }

    #[test]
    fn what_cannot_be_compared_has_no_distance() {
        let bank = Bank::new(array![[0.0, 0.0]]);
        assert_eq!(bank.nearest(&[f32::NAN, 0.0]), None);
        assert_eq!(bank.nearest(&[0.0]), None);
        assert_eq!(Bank::new(Array2::zeros((0, 2))).nearest(&[0.0, 0.0]), None);
    }
}
