//! SHA-256 in hex.

use sha2::{Digest, Sha256};

/// All of it, as `sha256sum` prints it.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// The first 16 digits: against damage and chance, not against an attacker.
pub fn check_sum(bytes: impl AsRef<[u8]>) -> String {
    short(&Sha256::digest(bytes))
}

/// The first 16 digits of a digest that was made piece by piece.
pub fn short(digest: &[u8]) -> String {
    hex(&digest[..digest.len().min(8)])
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
