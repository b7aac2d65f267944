//! How often a machine runs in one of its ways of running, and how loud it is then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::window::LEVEL_FLOOR_DBFS;

/// So far beyond the levels that were heard a level is still usual, dB: doors, people and the weather move it as much.
const FREEDOM_DB: f64 = 3.0;
/// No sound that is judged is louder: its samples would be no sound.
const HIGHEST_DBFS: f64 = 400.0;
/// This share of the windows at either end is left out of the usual range.
const RARE: f64 = 0.01;

/// One way of running in what was learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModeLevel {
    /// Share of the windows that are of it, 0..1; windows between two ways of running are of none.
    pub share: f64,
    /// Median level, dB of full scale.
    pub level_dbfs: f64,
    /// Its usual range: all but the quietest and the loudest hundredth of its windows.
    pub from_dbfs: f64,
    pub to_dbfs: f64,
}

impl ModeLevel {
    /// From the levels of its windows, of so many in all; `None` where there are none.
    pub(super) fn of(mut levels: Vec<f64>, all: usize) -> Option<ModeLevel> {
        levels.sort_by(f64::total_cmp);
        let last = levels.len().checked_sub(1)?;
        let rare = (RARE * levels.len() as f64) as usize;
        let share = levels.len() as f64 / all as f64;
        let (level_dbfs, from_dbfs, to_dbfs) = (levels[levels.len() / 2], levels[rare], levels[last - rare]);
        Some(ModeLevel { share, level_dbfs, from_dbfs, to_dbfs })
    }

    /// How far a level lies from the median, dB, where it is beyond the usual range.
    pub(super) fn unusual_db(&self, level_dbfs: f64) -> Option<f64> {
        let usual = self.from_dbfs - FREEDOM_DB..=self.to_dbfs + FREEDOM_DB;
        Some(level_dbfs - self.level_dbfs).filter(|_| !usual.contains(&level_dbfs))
    }

    pub(super) fn is_valid(&self) -> bool {
        let levels = [LEVEL_FLOOR_DBFS, self.from_dbfs, self.level_dbfs, self.to_dbfs, HIGHEST_DBFS];
        (0.0..=1.0).contains(&self.share) && levels.is_sorted() && levels.iter().all(|level| level.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_levels_are_not_of_the_usual_range() {
        let levels = (0..200).map(|number| if number < 2 { -70.0 } else { -30.0 + f64::from(number % 10) / 10.0 });
        let found = ModeLevel::of(levels.collect(), 400).expect("windows");
        assert_eq!((found.share, found.from_dbfs, found.to_dbfs), (0.5, -30.0, -29.1));
        assert_eq!([-33.0, -26.2].map(|level_dbfs| found.unusual_db(level_dbfs)), [None; 2]);
        assert!(
            found.unusual_db(-24.0).is_some_and(|db| db > 5.0) && found.unusual_db(-35.0).is_some_and(|db| db < 0.0)
        );
        assert_eq!(ModeLevel::of(Vec::new(), 400), None);
    }

    #[test]
    fn what_cannot_have_been_learned_is_not_valid() {
        let whole = ModeLevel { share: 0.5, level_dbfs: -30.0, from_dbfs: -31.0, to_dbfs: -29.0 };
        assert!(whole.is_valid());
        for broken in [
            ModeLevel { share: 1.5, ..whole },
            ModeLevel { level_dbfs: -28.0, ..whole },
            ModeLevel { from_dbfs: -1e9, ..whole },
            ModeLevel { to_dbfs: f64::INFINITY, ..whole },
            ModeLevel { level_dbfs: f64::NAN, ..whole },
        ] {
            assert!(!broken.is_valid(), "{broken:?}");
        }
    }
}
