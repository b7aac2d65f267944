//! Which of two versions of a bundle is the older one.

use std::cmp::Ordering;

use super::Bundle;

/// Compares versions that are numbers with dots between them, like `2025.2` or `v1.10.0`; a part that is missing counts
/// as 0. `None` where one of them is something else.
pub fn compare(one: &str, other: &str) -> Option<Ordering> {
    let (mut one, mut other) = (numbers(one)?, numbers(other)?);
    let length = one.len().max(other.len());
    one.resize(length, 0);
    other.resize(length, 0);
    Some(one.cmp(&other))
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    version.strip_prefix('v').unwrap_or(version).split('.').map(digits).collect()
}

impl Bundle {
    /// Checks that this bundle is not an older version of `running`. Bundles of other names and the same version pass.
    ///
    /// # Errors
    /// An older version, or another one that cannot be compared: it might be older.
    pub fn check_upgrade(&self, running: &Bundle) -> Result<(), String> {
        let same_bundle = self.name == running.name && self.version != running.version;
        if !same_bundle || compare(&self.version, &running.version).is_some_and(Ordering::is_ge) {
            return Ok(());
        }
        let (name, expected, found) = (&self.name, &running.version, &self.version);
        Err(match compare(found, expected) {
            Some(_) => format!(
                "{name}: expected version {expected} or newer as bundle.allow_downgrade is false, found {found}"
            ),
            None => format!(
                "{name}: expected versions of numbers and dots to compare as bundle.allow_downgrade is false, found \
                 {found} after {expected}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_numbers_are_compared_number_by_number() {
        for (one, other, expected) in [
            ("1.9", "1.10", Some(Ordering::Less)),
            ("2025.2", "2025.1.7", Some(Ordering::Greater)),
            ("v1", "1.0.0", Some(Ordering::Equal)),
            ("1.0-rc1", "1.0", None),
            ("", "1", None),
            ("1..2", "1", None),
            ("99999999999999999999", "1", None),
            ("0a1b2c3d4e5f", "1", None),
        ] {
            assert_eq!(compare(one, other), expected, "{one} and {other}");
            assert_eq!(compare(other, one), expected.map(Ordering::reverse), "{other} and {one}");
        }
    }
}
