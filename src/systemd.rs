//! What is reported to systemd (`Type=notify`, `WatchdogSec=`); without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::causes::one_line;

/// The agent is up.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A clean stop has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The agent is alive; to be called every [`watchdog_interval`], by what would stand still if the agent did.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A second line would be another message to systemd.
    let line = one_line(line, usize::MAX);
    notify(&[NotifyState::Status(&line)]);
}

/// How often [`alive`] is due: half of `WatchdogSec=`; `None` where no watchdog is set.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}
