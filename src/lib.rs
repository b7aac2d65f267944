//! auscult: the agent that listens to machines.
//!
//! The modules follow the data, one way:
//!
//! ```text
//! audio      source -> ring -> window            sound from cards, WAV files, simulated machines
//! features   window -> mel spectrogram           what the encoder is fed
//! encoder    spectrogram -> embedding            our own kernels, LiteRT or tract behind one trait
//! bundle     the model files: read, check, switch
//! scoring    embedding -> distance -> verdict -> alarm    pure: no I/O, no clock
//! mqtt       topics, payloads, outbox, client
//! monitor    the machines behind one lock: bundle in use, settings, alarms, what is learned; and what of it is on disk
//! control    commands in, replies out
//! notify     who is told of an alarm: ntfy, webhook, e-mail
//! web        the page: what is published and the commands, in a browser
//! agent      wires it all together: start, supervise, stop
//! config     what a user can set
//! window     a window of sound, and why it could not be assessed
//! numbers    numbers for people
//! validate   checks that several sections of the configuration share
//! clock      wall time that can be trusted, or says that it cannot
//! backoff    pauses between attempts
//! threads    waiting for threads, but not for ever
//! token_bucket  limits of rate
//! causes     errors in one line
//! archive    unpacking what comes from elsewhere, within limits
//! sha256     digests and check sums in hex
//! sqlite     opening SQLite files, setting damaged ones aside
//! fs         files that are there whole or not at all
//! state_files  small files of the state directory: a check sum in each, an inventory of all
//! log_tail   the newest lines of the log
//! secret     text that no log shows
//! systemd    readiness and watchdog
//! cli        one file per command
//! ```
//! The engines and what is computed sample by sample are crates of their own, `crates/encoder` and `crates/signal`, so that they
//! and the generic code below them are compiled once.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]
// It panics where the reader has gone: `writeln!` to a locked standard output tells.
#![cfg_attr(not(test), deny(clippy::print_stdout))]

pub mod agent;
mod archive;
pub mod audio;
mod backoff;
pub mod bundle;
mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod encoder;
pub mod features;
pub mod fs;
mod log_tail;
pub mod monitor;
pub mod mqtt;
pub mod notify;
mod numbers;
pub mod scoring;
pub mod secret;
mod sha256;
mod sqlite;
pub mod state_files;
pub mod systemd;
mod threads;
mod token_bucket;
pub mod validate;
#[cfg(feature = "web")]
pub mod web;
pub mod window;
