//! Demand at this appliance, reported to the fleet's index once a second.

use super::{Fleet, PATIENCE, index::Added, value};
use parking_lot::Mutex;
use quick_cache::DefaultHashBuilder;
use ringdns_dataplane::dns::key::Asked;
use ringdns_resolver::tier::SharedTier;
use std::{collections::HashMap, time::Duration};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Time between two reports.
const EVERY: Duration = Duration::from_secs(1);
/// Most names counted between two reports. Demand for further names is dropped; it will recur.
const NAMES: usize = 4096;
/// Most names reported in one command, so that it occupies Redis for less than a millisecond.
const BATCH: usize = 64;

/// Demand per question since the last report.
#[derive(Default)]
pub struct Untold(Mutex<HashMap<String, u32, DefaultHashBuilder>>);

impl Fleet {
    /// Adds `n` to the demand for a question that was answered without Redis, or from it.
    pub(super) fn add_demand(&self, asked: Asked<'_>, n: u32) {
        if !self.is_up() {
            return;
        }
        let member = value::member(asked);
        let mut untold = self.untold.0.lock();
        if untold.len() < NAMES || untold.contains_key(&member) {
            let count = untold.entry(member).or_default();
            *count = count.saturating_add(n);
        } else {
            self.counters.demand_dropped.add(n.into());
        }
    }

    /// Reports demand to the index until dropped.
    pub(super) async fn tell_demand(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let untold = std::mem::take(&mut *self.untold.0.lock());
            let sum = |added: &[Added]| added.iter().map(|added| u64::from(added.count)).sum::<u64>();
            let added = |(member, count)| Added { member, lasts: None, count };
            let untold: Vec<Added> = untold.into_iter().map(added).collect();
            for batch in untold.chunks(BATCH) {
                let told = match self.connection() {
                    Some(connection) => {
                        timeout(PATIENCE, self.grow(&connection, batch)).await.is_ok_and(|told| told.is_ok())
                    }
                    None => false,
                };
                let count = if told { &self.counters.demand_told } else { &self.counters.demand_dropped };
                count.add(sum(batch));
            }
        }
    }
}
