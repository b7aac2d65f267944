//! The archive that a bundle travels in.

use std::fs::File;
use std::path::Path;

use super::files::{LIMITS, limit};
use crate::archive::{self, Allowed};

/// Largest archive that is accepted, bytes.
pub const ARCHIVE_LIMIT: u64 = 64 << 20;
/// Most members, directories and notes of the packer included.
const MEMBER_LIMIT: usize = 64;

/// Unpacks the bundle in `file` into `dir`, as [`archive::unpack`] does.
///
/// # Errors
/// One line: what was expected, what was found. `dir` then holds a part.
pub fn unpack(file: &mut File, dir: &Path) -> Result<(), String> {
    let total = LIMITS.iter().map(|(_, limit)| limit).sum();
    archive::unpack(file, dir, &Allowed { of: "a bundle", limit: &limit, total, members: MEMBER_LIMIT })
}
