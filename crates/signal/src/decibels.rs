//! Powers in decibels, many at a time: the library's logarithm takes one by one, and half of the time of a spectrogram.

/// `10 log10(x)` is so many times `ln(x)`.
const DB_PER_NEPER: f32 = 10.0 / std::f32::consts::LN_10;

const LANES: usize = 8;

/// Turns powers into dB, those below `least` (above 0, not denormal) into that of `least`. All must be finite.
pub fn to_decibels(powers: &mut [f32], least: f32) {
    let (eights, rest) = powers.as_chunks_mut::<LANES>();
    for eight in eights {
        for power in eight {
            *power = decibels(*power, least);
        }
    }
    rest.iter_mut().for_each(|power| *power = decibels(*power, least));
}

/// The same of one.
#[inline(always)]
pub fn decibels(power: f32, least: f32) -> f32 {
    DB_PER_NEPER * ln(if power > least { power } else { least })
}

/// The natural logarithm of a positive number that is neither denormal nor infinite, to the last digit or two: the polynomial
/// of the Cephes library's `logf` (Stephen Moshier), without branches.
#[inline(always)]
fn ln(number: f32) -> f32 {
    /// `ln(2)` in two parts, the first of so few digits that its multiples are exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let bits = number.to_bits() as i32;
    // The number is `mantissa * 2^exponent`, the mantissa from the root of a half to the root of 2.
    let exponent = (bits - std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
    let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
    let x = mantissa - 1.0;
    let square = x * x;
    let mut sum = 7.037_683_6e-2;
    for factor in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        sum = sum * x + factor;
    }
    let exponent = exponent as f32;
    let small = sum * x * square + exponent * LN_2.1 - 0.5 * square;
    x + small + exponent * LN_2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_library() {
        let mut power = f32::MIN_POSITIVE;
        while power < f32::MAX / 1.01 {
            let exact = 10.0 * f64::from(power).log10();
            let found = f64::from(decibels(power, f32::MIN_POSITIVE));
            assert!((found - exact).abs() <= 3e-7 * exact.abs().max(1.0), "{power}: {found} instead of {exact}");
            power *= 1.000_7;
        }
        assert_eq!(decibels(1.0, 1e-10), 0.0);
    }

    #[test]
    fn what_is_too_small_is_the_least() {
        let mut powers: Vec<f32> = (0..19).map(|n| n as f32).collect();
        to_decibels(&mut powers, 10.0);
        for (n, found) in powers.iter().enumerate() {
            let expected = 10.0 * (n.max(10) as f32).log10();
            assert!((found - expected).abs() < 1e-5, "{n}: {found} instead of {expected}");
        }
    }
}
