//! Questions whose asker waits for the answer: of clients over TCP, and of this process.

use super::{Resolver, waiter::Waiter};
use crate::{
    host::Found,
    resolved::{Client, Resolved, Transport},
    upstream::turn::Turn,
};
use ringdns_dataplane::dns::key::Key;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Resolver {
    /// Returns the answer to a question of this process, however long it takes.
    pub async fn resolve(self: &Arc<Self>, key: &Key) -> Resolved {
        self.resolve_own(None, key).await
    }

    /// Returns the answer to the question of a client over TCP, however long it takes.
    pub async fn resolve_for(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Resolved {
        let view = client.and_then(|client| self.view_of(client.group));
        view.as_ref().unwrap_or(self).resolve_own(client, key).await
    }

    async fn resolve_own(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Resolved {
        let (to, receiver) = oneshot::channel();
        {
            let mut turn = Turn::default();
            let at_once = match client {
                Some(Client { group, .. }) => self.at_once(key, group, Transport::Tcp, &mut turn),
                None => self.lookup(key, &mut turn),
            };
            let waiter = Waiter::Client { to, address: client.map(|client| client.address) };
            match at_once {
                Some(resolved) if client.is_none() => return resolved,
                Some(resolved) => {
                    let answer = move |resolved: Resolved, turn: &mut Turn| waiter.answer(&resolved, turn);
                    self.whole(resolved, self.finish(key), &mut turn, answer);
                }
                None => self.board(key, Some(waiter), &mut turn),
            }
        }
        // A question in flight answers all its waiters, even when it is dropped; so this fails at
        // shutdown only.
        let resolved = receiver.await.unwrap_or_else(|_| self.refusal());
        client.map_or_else(|| resolved.clone(), |client| resolved.for_client(client.group, Transport::Tcp))
    }

    /// Returns the current answer to a question; an expired answer is used only if resolution
    /// fails. `renew`: so is an answer that is due for renewal.
    pub(crate) async fn current(self: &Arc<Self>, key: &Key, renew: bool) -> Resolved {
        let (generation, now) = (self.host.generation(), self.clock().secs());
        let found = match self.host.get(key, now) {
            Found::Fresh(answer) => Some(answer),
            Found::Stale(_) | Found::Missing => None,
        };
        let due = found.as_ref().filter(|answer| renew && answer.is_due(now)).map(|answer| answer.received);
        if let Some(answer) = found.filter(|_| due.is_none()) {
            return self.host_answer(answer, generation);
        }
        let (to, receiver) = oneshot::channel();
        let waiter = match due {
            Some(of) => Waiter::Renewal { to, of, patient: false },
            None => Waiter::Client { to, address: None },
        };
        self.board(key, Some(waiter), &mut Turn::default());
        receiver.await.unwrap_or_else(|_| self.refusal())
    }
}
