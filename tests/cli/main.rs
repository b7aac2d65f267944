//! The program as a user runs it, and the documentation.

#[path = "../common/mod.rs"]
mod common;

mod configuration;
#[cfg(feature = "demo")]
mod demo;
mod docs;
mod imports;
mod notify;
mod one_build;
mod packages;
mod page;
mod page_types;
mod run;
mod watch;
#[cfg(feature = "web")]
mod web;
mod widths;
