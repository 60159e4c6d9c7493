//! Entrances of fuzz targets to code that reads bytes of Redis. Built only with `--cfg fuzzing`.

use crate::{Fleet, PATIENCE, cluster, connection::Connection, index::Added};
use futures_util::FutureExt;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, aio::MultiplexedConnection};
use ringdns_dataplane::dns::key::Key;
use ringdns_resolver::{
    host::{HostTier, Purge},
    tier::{SharedAnswer, SharedTier},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Values in Redis.
pub mod value {
    pub use crate::value::{Ages, StoredValue, Unfit, key, member, name};
}

/// Log of purges in Redis.
pub mod purges {
    pub use crate::purges::{KEPT, id, number};
}

/// Result of a conversation with Redis.
#[derive(Debug, Default)]
pub struct Heard {
    /// Answer to the question, if one was found.
    pub answer: Option<SharedAnswer>,
    /// Questions in most demand.
    pub wanted: Vec<Key>,
    /// Number of purges in memory.
    pub purges: usize,
    /// Number of slots of a cluster in memory.
    pub slots: usize,
}

/// Asks a Redis at the other end of `stream` one of the things that an appliance asks: the one with
/// number `which`.
pub async fn ask<S>(stream: S, fleet: &Arc<Fleet>, host: &Arc<HostTier>, key: &Key, which: u8) -> Heard
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connecting = MultiplexedConnection::new_with_config(&info, stream, config);
    let Ok((connection, driver)) = connecting.await else { return Heard::default() };
    let driver = tokio::spawn(driver);
    let heard = ask_over(connection, fleet, host, key, which).await;
    driver.abort();
    heard
}

async fn ask_over(
    mut one: MultiplexedConnection,
    fleet: &Arc<Fleet>,
    host: &Arc<HostTier>,
    key: &Key,
    which: u8,
) -> Heard {
    let mut connection = Connection::One(one.clone());
    *fleet.connection.write() = Some(connection.clone());
    let mut heard = Heard::default();
    let member = crate::value::member(key.asked());
    match which % 9 {
        0 => heard.answer = fleet.find(key).await,
        1 => {
            // Twice, since the second read begins where the first one ended.
            for _ in 0..2 {
                let _ = fleet.learn(&mut connection, host).await;
            }
        }
        2 => {
            let untold = fleet.begin_purge(&Purge::All).done();
            fleet.tell(&mut connection).await;
            drop(untold);
        }
        3 => heard.wanted = fleet.most_wanted(100).await.unwrap_or_default(),
        4 => {
            let added = [Added { member, lasts: Some(60), count: 1 }];
            let _ = timeout(PATIENCE, fleet.grow(&connection, &added)).await;
        }
        5 => {
            let _ = timeout(PATIENCE, fleet.trim(&connection)).await;
        }
        6 => {
            let sought = async {
                let members = fleet.members(&connection, "-inf").await?;
                let gone = fleet.without_key(&connection, members).await?;
                fleet.forget(&connection, &gone).await
            };
            let _ = timeout(PATIENCE, sought).await;
        }
        7 => drop(fleet.clone().ask_for_lease(key, Duration::from_secs(1)).await),
        _ => {
            heard.slots = timeout(PATIENCE, cluster::slots_of(&mut one)).map(Result::unwrap_or_default).await
        }
    }
    fleet.connection.write().take();
    heard.purges = fleet.purges.read().len();
    heard
}
