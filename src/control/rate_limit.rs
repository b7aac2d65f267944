//! How fast commands are accepted, so that a flood of them cannot take the processor from scoring.

use std::time::Instant;

use crate::token_bucket::TokenBucket;

/// Commands a second in the long run.
const COMMANDS_PER_S: f64 = 20.0;
/// So many at once after a quiet time.
const BURST: f64 = 100.0;

/// The limit for all commands of one agent.
pub fn for_commands(now: Instant) -> TokenBucket {
    TokenBucket::new(COMMANDS_PER_S, BURST, now)
}
