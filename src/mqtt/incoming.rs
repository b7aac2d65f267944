//! Control messages on their way from the connection to the agent, bounded in number and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::topics::Topic;

/// Control messages that may wait for the agent; further ones are dropped and counted.
const MESSAGES: usize = 64;
const BYTES: usize = 4 << 20;

/// Which way a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Broker,
    /// From an operator at the agent's own page.
    Page,
}

/// A message on one of the topics that the agent takes commands from.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// `<agent>/control`, `fleet/control` or `<agent>/<machine>/threshold/set`.
    pub topic: Topic,
    /// The payload, or only its length where it exceeds [`MAX_CONTROL_BYTES`](super::connection::MAX_CONTROL_BYTES).
    pub payload: Result<Vec<u8>, usize>,
    pub retained: bool,
    pub origin: Origin,
}

impl Incoming {
    fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Both ends of the way.
pub fn channel() -> (IncomingSender, IncomingReceiver) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let bytes = Arc::new(AtomicUsize::new(0));
    (IncomingSender { sender, bytes: Arc::clone(&bytes) }, IncomingReceiver { receiver, bytes })
}

/// The connection's end.
pub struct IncomingSender {
    sender: mpsc::Sender<Incoming>,
    bytes: Arc<AtomicUsize>,
}

impl IncomingSender {
    pub fn downgrade(&self) -> WeakIncomingSender {
        WeakIncomingSender { sender: self.sender.downgrade(), bytes: Arc::clone(&self.bytes) }
    }

    /// Hands a message to the agent; false when too much waits already.
    pub fn try_send(&self, incoming: Incoming) -> bool {
        let bytes = incoming.bytes();
        let room = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES;
        let sent = room && self.sender.try_send(incoming).is_ok();
        if !sent {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

/// As [`IncomingSender`], but the receiver does not wait for it.
pub struct WeakIncomingSender {
    sender: mpsc::WeakSender<Incoming>,
    bytes: Arc<AtomicUsize>,
}

impl WeakIncomingSender {
    /// As [`IncomingSender::try_send`]; false also when the connection's end is gone.
    pub fn try_send(&self, incoming: Incoming) -> bool {
        let Some(sender) = self.sender.upgrade() else { return false };
        IncomingSender { sender, bytes: Arc::clone(&self.bytes) }.try_send(incoming)
    }
}

/// Where the agent takes control messages from.
pub struct IncomingReceiver {
    receiver: mpsc::Receiver<Incoming>,
    bytes: Arc<AtomicUsize>,
}

impl IncomingReceiver {
    /// The next message; `None` when the client has stopped. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Incoming> {
        let incoming = self.receiver.recv().await?;
        Some(self.release(incoming))
    }

    /// As [`IncomingReceiver::recv`], for a thread without a runtime.
    pub fn blocking_recv(&mut self) -> Option<Incoming> {
        let incoming = self.receiver.blocking_recv()?;
        Some(self.release(incoming))
    }

    fn release(&self, incoming: Incoming) -> Incoming {
        self.bytes.fetch_sub(incoming.bytes(), Ordering::Relaxed);
        incoming
    }
}
