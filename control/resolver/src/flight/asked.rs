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

/// Answer to a question that was asked.
pub enum Asked {
    /// The answer is known.
    Known(Resolved),
    /// The question is in flight.
    Awaited(AwaitedAnswer),
}

/// Answer to a question in flight.
pub struct AwaitedAnswer {
    receiver: oneshot::Receiver<Resolved>,
    resolver: Arc<Resolver>,
    client: Option<Client>,
}

impl AwaitedAnswer {
    /// Returns the answer, however long it takes.
    pub async fn wait(self) -> Resolved {
        // A question in flight answers all its waiters, even when it is dropped; so this fails at
        // shutdown only.
        let resolved = self.receiver.await.unwrap_or_else(|_| self.resolver.refusal());
        resolved.for_asker(self.client)
    }
}

impl Resolved {
    /// Returns the answer as the client that asked gets it; `None`: this process asked, and gets it
    /// as it is.
    fn for_asker(self, client: Option<Client>) -> Self {
        match client {
            Some(client) => self.for_client(client.group, Transport::Tcp),
            None => self,
        }
    }
}

impl Resolver {
    /// Returns the answer to a question of this process, however long it takes.
    pub async fn resolve(self: &Arc<Self>, key: &Key) -> Resolved {
        self.resolve_own(None, key).await
    }

    /// Returns the answer to the question of a client over TCP, however long it takes.
    pub async fn resolve_for(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Resolved {
        match self.ask_for(client, key) {
            Asked::Known(resolved) => resolved,
            Asked::Awaited(answer) => answer.wait().await,
        }
    }

    /// Returns the answer to the question of a client over TCP if it is known, or else asks for it.
    pub fn ask_for(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Asked {
        let view = client.and_then(|client| self.view_of(client.group));
        view.as_ref().unwrap_or(self).ask_own(client, key)
    }

    async fn resolve_own(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Resolved {
        match self.ask_own(client, key) {
            Asked::Known(resolved) => resolved,
            Asked::Awaited(answer) => answer.wait().await,
        }
    }

    fn ask_own(self: &Arc<Self>, client: Option<Client>, key: &Key) -> Asked {
        let mut turn = Turn::default();
        let at_once = match client {
            Some(Client { group, .. }) => self.at_once(key, group, Transport::Tcp, &mut turn),
            None => self.lookup(key, &mut turn),
        };
        let unfinished = match at_once {
            Some(resolved) => {
                let finish = client.map(|_| self.finish(key)).unwrap_or_default();
                if finish.is_nothing_for(&resolved) {
                    return Asked::Known(resolved.for_asker(client));
                }
                Some((resolved, finish))
            }
            None => None,
        };
        let (to, mut receiver) = oneshot::channel();
        let waiter = Waiter::Client { to, address: client.map(|client| client.address) };
        match unfinished {
            Some((resolved, finish)) => {
                let answer = move |resolved: Resolved, turn: &mut Turn| waiter.answer(&resolved, turn);
                self.whole(resolved, finish, &mut turn, answer);
            }
            None => self.board(key, Some(waiter), &mut turn),
        }
        match receiver.try_recv() {
            Ok(resolved) => Asked::Known(resolved.for_asker(client)),
            Err(_) => Asked::Awaited(AwaitedAnswer { receiver, resolver: self.clone(), client }),
        }
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
