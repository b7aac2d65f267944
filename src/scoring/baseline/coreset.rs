//! Fewer rows that change distances little.

/// Numbers of at most `most` of `rows`, rising: farthest-point sampling (Gonzalez 1985), which begins with the first row
/// and always takes the one that is farthest from all taken so far. Dropped rows lie closer to a kept one than the kept
/// ones lie to each other, so no distance to the set grows by more than that.
pub fn coreset(rows: &[&[f32]], most: usize) -> Vec<usize> {
    if rows.len() <= most {
        return (0..rows.len()).collect();
    }
    let mut kept = Vec::with_capacity(most);
    let mut nearest = vec![f32::INFINITY; rows.len()];
    let mut next = 0;
    while kept.len() < most {
        kept.push(next);
        let taken = rows[next];
        let mut farthest = (0, f32::NEG_INFINITY);
        for (number, (row, least)) in rows.iter().zip(&mut nearest).enumerate() {
            let squared: f32 = row.iter().zip(taken).map(|(a, b)| (a - b) * (a - b)).sum();
            *least = least.min(squared);
            if *least > farthest.1 {
                farthest = (number, *least);
            }
        }
        next = farthest.0;
        // Only copies are left.
        if farthest.1 <= 0.0 {
            break;
        }
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distances_change_by_no_more_than_stated(
            points in prop::collection::vec((-10.0..10.0f32, -10.0..10.0f32), 2..120),
            most in 1usize..40,
            (x, y) in (-12.0..12.0f32, -12.0..12.0f32),
        ) {
            let points: Vec<[f32; 2]> = points.into_iter().map(|(x, y)| [x, y]).collect();
            let rows: Vec<&[f32]> = points.iter().map(|point| point.as_slice()).collect();
            let kept = coreset(&rows, most);
            prop_assert!(kept.len() <= most && kept.windows(2).all(|pair| pair[0] < pair[1]));
            let between = |a: &[f32], b: &[f32]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
            let nearest = |numbers: &[usize], point: &[f32]| {
                numbers.iter().map(|&number| between(rows[number], point)).fold(f32::INFINITY, f32::min)
            };
            // The covering radius: how far any row is from the kept ones.
            let radius = rows.iter().map(|row| nearest(&kept, row)).fold(0.0, f32::max);
            let separation = kept.iter().flat_map(|&a| kept.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b)
                .map(|(a, b)| between(rows[a], rows[b])).fold(f32::INFINITY, f32::min);
            prop_assert!(radius <= separation + 1e-4);
            let all: Vec<usize> = (0..rows.len()).collect();
            prop_assert!(nearest(&kept, &[x, y]) <= nearest(&all, &[x, y]) + radius + 1e-4);
        }
    }

    #[test]
    fn copies_are_kept_once() {
        let rows: Vec<&[f32]> = vec![&[1.0], &[1.0], &[1.0], &[2.0]];
        assert_eq!(coreset(&rows, 3), vec![0, 3]);
    }
}
