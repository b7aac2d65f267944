//! Commands in, replies out: thresholds retuned, bundles switched and the state asked for by messages.
//!
//! ```text
//! message -> request      envelope, arguments, limits      -> Rejected: an error reply
//!         -> commands     one file each: what is to be done -> Outcome: answer, change or job
//!         -> transaction  a change: its files, its reply on disk, then the monitor between two windows
//!         -> out          reply, settings, events
//! ```

pub mod adapting;
pub mod answers;
pub mod background;
pub mod baselines;
pub mod bundle_switch;
pub mod commands;
pub mod context;
pub mod controller;
pub mod envelope;
pub mod error;
pub mod fitting;
pub mod learning;
pub mod machine_values;
pub mod machines;
pub mod messages;
pub mod notify;
pub mod outcome;
pub mod output;
pub mod pieces;
pub mod provisional;
pub mod rate_limit;
pub mod request;
pub mod settings_change;
pub mod shared;
pub mod state_archive;
pub mod store;
pub mod transaction;
pub mod values;

pub use controller::Controller;
pub use output::Output;
pub use shared::Shared;
