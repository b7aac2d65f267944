//! What systemd is told (`Type=notify`, `WatchdogSec=`); without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent is up.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A clean stop has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The agent is alive; to be called every [`watchdog_interval`], by what would stand still if the agent did.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// How often [`alive`] is due: half of `WatchdogSec=`; `None` where no watchdog is set.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
