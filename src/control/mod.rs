//! Commands in, replies out: thresholds retuned, bundles switched and the state asked for by messages.

pub mod history;
pub mod settings;
pub mod store;
