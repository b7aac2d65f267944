//! Boxes over bands: what changes a machine's sound changes neighbouring bands together.

/// Widths of the boxes, as parts of the number of mel bands: 5, 10, 20 of 128.
const PARTS: [usize; 3] = [25, 12, 6];

/// Boxes over `bands` bands: `(start, width)`, each width in steps of a quarter of it.
pub fn of(bands: usize) -> impl Iterator<Item = (usize, usize)> {
    let widths = PARTS.into_iter().map(move |part| (bands / part).clamp(1, bands.max(1)));
    widths.flat_map(move |width| {
        (0..=bands.saturating_sub(width)).step_by((width / 4).max(1)).map(move |start| (start, width))
    })
}

/// The sum over each box, divided by the square root of its width: of one size for noise without correlation.
pub fn sums(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let until = values.iter().map(|value| {
        sum += value;
        sum
    });
    let until: Vec<f64> = std::iter::once(0.0).chain(until).collect();
    of(values.len()).map(|(start, width)| (until[start + width] - until[start]) / (width as f64).sqrt()).collect()
}

/// The fourth root of the mean fourth power of all boxes, each in its scatter.
pub fn deviation(sums: &[f64], scatter: &[f32]) -> f64 {
    let total: f64 = sums.iter().zip(scatter).map(|(sum, scatter)| (sum / f64::from(*scatter)).powi(4)).sum();
    (total / scatter.len() as f64).powf(0.25)
}
