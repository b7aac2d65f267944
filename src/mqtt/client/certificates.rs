//! Certificates end. Somebody should know before.

use std::time::{Duration, Instant};

use crate::mqtt::payload::EventKind;
use crate::mqtt::shared::MqttShared;
use crate::mqtt::tls::{Ending, TlsFiles};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Between two warnings of the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// When the files were looked at, and when somebody was warned.
#[derive(Debug, Default)]
pub struct Certificates {
    looked: Option<Instant>,
    warned: Option<Instant>,
}

impl Certificates {
    /// Looks at the files when it is time, also when another broker is used from now on. `files`: none without TLS.
    pub fn look(&mut self, files: Option<&TlsFiles>, shared: &MqttShared) {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let ending = files.and_then(Ending::first);
        *shared.certificate_until.lock() = ending.as_ref().map(|ending| ending.until.into());
        let Some(warning) = ending.and_then(|ending| ending.warning(shared.clock.now().utc())) else {
            self.warned = None;
            return;
        };
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!("{warning}");
            shared.publish_event(EventKind::CertificateEnds, Some(warning));
        }
    }
}
