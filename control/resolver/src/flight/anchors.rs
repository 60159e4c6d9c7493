//! Upkeep of managed trust anchors (RFC 5011).

use super::{Resolver, Waiter};
use crate::{resolved::Resolved, upstream::turn::Turn};
use ringdns_api::TrustPointStatus;
use ringdns_dataplane::dns::key::Key;
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::sleep};

/// Time between two looks at whether keys are due to be asked for.
const LOOK: Duration = Duration::from_secs(60);

impl Resolver {
    /// Asks for the keys of managed zones when they are due, until the task is dropped.
    pub async fn keep_anchors(self: Arc<Self>) {
        loop {
            self.refresh_anchors().await;
            sleep(LOOK).await;
        }
    }

    /// Asks for the keys of managed zones that are due.
    pub async fn refresh_anchors(self: &Arc<Self>) {
        if let Some(validator) = &self.setup().validator {
            validator.refresh_anchors(self, &self.anchor_counters).await;
            for view in self.views() {
                if let Some(own) = &view.setup.load().validator {
                    own.follow(validator);
                }
            }
        }
    }

    /// Returns the states of managed trust anchors.
    pub fn trust_points(&self) -> Vec<TrustPointStatus> {
        self.setup().validator.as_ref().map(|validator| validator.trust_points()).unwrap_or_default()
    }

    /// Returns an answer that is newer than the one in the host tier, however fresh that is; `None`
    /// if upstreams have none.
    pub(crate) async fn anew(self: &Arc<Self>, key: &Key) -> Option<Resolved> {
        let Some(entry) = self.host.peek(key) else { return Some(self.current(key, false).await) };
        let (to, receiver) = oneshot::channel();
        let waiter = Waiter::Renewal { to, of: entry.answer.received, patient: false };
        self.board(key, Some(waiter), &mut Turn::default());
        receiver.await.ok()
    }
}
