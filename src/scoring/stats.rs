//! The few distributions that scoring needs.

use statrs::distribution::{ContinuousCDF, Gamma, Normal};

/// The standard normal distribution's quantile; -inf at 0, +inf at 1, NaN stays NaN.
pub fn normal_quantile(probability: f64) -> f64 {
    if !(0.0..=1.0).contains(&probability) {
        return f64::NAN;
    }
    Normal::standard().inverse_cdf(probability)
}

/// The conformal quantile `s[ceil((1 - rate)(n + 1))]` of sorted values; `None` below `1/rate` of them, where there is none.
pub fn conformal_quantile(sorted: &[f64], rate: f64) -> Option<f64> {
    let rank = ((1.0 - rate) * (sorted.len() + 1) as f64 - 1e-9).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Mean and variance (of a sample, divided by n - 1); `None` for fewer than two values.
pub fn moments(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    Some((mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)))
}

/// Quantile of the gamma distribution with the moments of `values`; `None` where they have no spread.
pub fn gamma_quantile(values: &[f64], probability: f64) -> Option<f64> {
    let (mean, variance) = moments(values)?;
    if mean <= 0.0 || variance <= 0.0 || mean.is_nan() || variance.is_nan() {
        return None;
    }
    let gamma = Gamma::new(mean * mean / variance, mean / variance).ok()?;
    Some(gamma.inverse_cdf(probability)).filter(|quantile| quantile.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal() {
        for (probability, quantile) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.01, -2.326_347_874)] {
            assert!((normal_quantile(probability) - quantile).abs() < 1e-6);
        }
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        assert!(normal_quantile(f64::NAN).is_nan());
    }

    /// An exponential distribution is a gamma of shape 1: its 99 % quantile is ln(100) means.
    #[test]
    fn quantile_of_the_gamma() {
        let values: Vec<f64> = (0..20_000).map(|i| -(1.0 - (f64::from(i) + 0.5) / 20_000.0).ln()).collect();
        let quantile = gamma_quantile(&values, 0.99).expect("values with a spread");
        assert!((quantile / 100f64.ln() - 1.0).abs() < 0.01, "{quantile}");
        assert_eq!(gamma_quantile(&[1.0, 1.0], 0.5), None);
    }
}
