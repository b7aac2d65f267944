//! Waiting: for a condition and never for a time. The only sleeps of the tests are here.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt as _;

/// What any wait gives up after: far more than anything takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `done`, or panics with `what`.
#[track_caller]
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    wait_within(TIMEOUT, what, done);
}

/// As [`wait_until`], for another time at most.
#[track_caller]
pub fn wait_within(limit: Duration, what: &str, done: impl FnMut() -> bool) {
    wait_or_explain(limit, || what.to_owned(), done);
}

/// As [`wait_within`]; `explain` tells what is wrong where it takes too long.
#[track_caller]
pub fn wait_or_explain(limit: Duration, explain: impl FnOnce() -> String, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        if Instant::now() >= deadline {
            panic!("not within {} s: {}", limit.as_secs(), explain());
        }
        sleep(Duration::from_millis(5));
    }
}

/// Lets a random time pass: what is killed afterwards is killed at any moment of its work.
pub fn random_moment(range: Range<Duration>) {
    sleep(rand::rng().random_range(range));
}

/// The pace of work that a test makes: sound, messages, a slow server, attempts. Never to wait for something.
pub fn pace(every: Duration) {
    sleep(every);
}
