//! A thread for each target, so that one that does not answer holds up none of the others.

use std::sync::mpsc::{self, SyncSender};

use super::channel::{self, SendError};
use super::item::Message;
use crate::config::NotifyConfig;

/// The thread; it ends after the message that it is sending once this is dropped.
pub struct Sender(SyncSender<Message>);

impl Sender {
    /// `report` gets the outcome of each message.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        target: NotifyConfig,
        report: impl Fn(Result<(), SendError>) + Send + 'static,
    ) -> std::io::Result<Sender> {
        let (sender, messages) = mpsc::sync_channel(1);
        let work = move || {
            while let Ok(message) = messages.recv() {
                report(channel::send(&target, &message));
            }
        };
        std::thread::Builder::new().name("notify-send".into()).spawn(work)?;
        Ok(Sender(sender))
    }

    /// Sends a message; false where the one before is still being sent.
    pub fn send(&self, message: Message) -> bool {
        self.0.try_send(message).is_ok()
    }
}
