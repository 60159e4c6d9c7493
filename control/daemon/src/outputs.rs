//! Outputs of what is answered, query log and dnstap: they end after the workers, with their last
//! answers.

use crate::stop::GRACE;
use ringdns_dnstap::Sender;
use ringdns_querylog::{self as log, writer::Writer};
use std::sync::Arc;
use tokio::{task::spawn_blocking, time::timeout};

/// Running outputs.
#[derive(Default)]
pub struct Outputs {
    /// Query log, if it is enabled.
    pub logging: Option<Logging>,
    /// Sender of dnstap messages, if there is a reader.
    pub dnstap: Option<Sender>,
}

/// Running query log.
pub struct Logging {
    /// Collector of records.
    pub collector: Arc<log::Collector>,
    /// Writer of rows; `None`: rows are not kept.
    pub writer: Option<Writer>,
}

impl Outputs {
    /// Flushes what waits, after the workers have ended.
    pub async fn finish(self) {
        if let Some(sender) = self.dnstap {
            // The timeout is for a thread that gets no time.
            drop(timeout(2 * GRACE, spawn_blocking(|| sender.finish())).await);
        }
        if let Some(logging) = self.logging {
            logging.finish().await;
        }
    }
}

impl Logging {
    /// Flushes pending rows and waits until they are stored or spooled.
    async fn finish(self) {
        self.collector.finish().await;
        if let Some(writer) = self.writer {
            // The timeout is for a disk that hangs.
            drop(timeout(2 * GRACE, spawn_blocking(|| writer.finish())).await);
        }
        self.collector.say_how_it_ended();
    }
}
