//! Managed trust anchors (RFC 5011): the keys of trusted zones are asked for at intervals, and their
//! states are kept in a file. `ringdns-dnssec` has the states and times.

mod file;

use super::{Asks, ask, key_for};
use file::date;
use parking_lot::Mutex;
use ringdns_api::{TrustKeyStatus, TrustPointStatus};
use ringdns_common::{counters, names};
use ringdns_dataplane::clock::Secs;
use ringdns_dnssec::{
    Anchors, KeyChange, KeyEvent, KeyState, Name, Observed, RefreshTimes, TrustPoint, Unproven, ede,
    rdata::rtype,
};
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// Seconds until the next query after one that failed, while the times of the zone are unknown (RFC
/// 5011 section 2.3: not more often).
const RETRY: u64 = 3_600;

counters! {
    /// Counters of managed trust anchors since the start.
    AnchorCounters {
        /// Queries for the keys of a trusted zone whose answer was signed by a trusted key.
        refreshed,
        /// Queries for the keys of a trusted zone that failed, or whose answer no trusted key had
        /// signed.
        refresh_failed,
        /// Times that the file of managed trust anchors was written.
        written,
        /// Times that the file of managed trust anchors could not be written.
        write_failed,
    }
}

/// Trust points, and the file that keeps them.
pub struct ManagedAnchors {
    path: PathBuf,
    points: Mutex<Vec<WatchedPoint>>,
    /// Text in the file, and whether writing it failed the last time.
    saved: Mutex<(Option<String>, bool)>,
}

struct WatchedPoint {
    point: TrustPoint,
    /// Time of the next query.
    next: Secs,
    /// Times of the last RRset.
    times: Option<RefreshTimes>,
    /// Unix time of the last query that succeeded, since the start.
    refreshed: Option<u64>,
}

impl ManagedAnchors {
    /// Returns the trust points of the zones in `initial`. Zones that are in the file have their
    /// keys from there.
    pub fn load(path: &Path, initial: &Anchors, now: u64) -> Result<Self, String> {
        let text = file::read(path)?;
        let mut known = text.as_deref().map(file::parse).transpose()?.unwrap_or_default();
        let points = initial.iter().map(|(zone, anchors)| {
            let at = known.iter().position(|(name, _)| name == zone);
            let point = match at.map(|at| known.swap_remove(at)) {
                Some((zone, keys)) => TrustPoint::restore(zone, keys),
                None => TrustPoint::new(zone.clone(), anchors, now),
            };
            WatchedPoint { point, next: 0, times: None, refreshed: None }
        });
        let points: Vec<_> = points.collect();
        for (zone, _) in &known {
            tracing::warn!(
                "trust anchors of {}: the zone is no longer in dnssec.trust_anchor_file, and its keys are forgotten",
                shown(zone)
            );
        }
        let managed = ManagedAnchors {
            path: path.to_owned(),
            points: Mutex::new(points),
            saved: Mutex::new((text, false)),
        };
        let deleted = |watched: &&WatchedPoint| watched.point.is_deleted();
        managed
            .points
            .lock()
            .iter()
            .filter(deleted)
            .for_each(|watched| managed.tell_deleted(watched.point.zone()));
        Ok(managed)
    }

    fn tell_deleted(&self, zone: &Name) {
        tracing::error!(
            "trust anchors of {}: all of them were revoked by the zone, so its names are no longer validated (RFC 5011 section 5). If it is signed with new keys, put them into dnssec.trust_anchor_file, stop ringdnsd, remove {} and start it again",
            shown(zone),
            self.path.display()
        );
    }

    /// Returns the trusted keys.
    pub fn anchors(&self) -> Anchors {
        let mut anchors = Anchors::default();
        self.points.lock().iter().for_each(|watched| watched.point.add_to(&mut anchors));
        anchors
    }

    /// Returns the states of all keys.
    pub fn status(&self) -> Vec<TrustPointStatus> {
        let points = self.points.lock();
        let status = |watched: &WatchedPoint| TrustPointStatus {
            zone: shown(watched.point.zone()),
            keys: watched.point.keys().iter().map(key_status).collect(),
            refreshed: watched.refreshed,
        };
        points.iter().map(status).collect()
    }

    /// Asks for the keys of the zones that are due.
    pub async fn refresh(&self, resolver: &impl Asks, counters: &AnchorCounters) {
        let now = resolver.clock().secs();
        let due = |watched: &&WatchedPoint| watched.next <= now && !watched.point.is_deleted();
        let due: Vec<_> =
            self.points.lock().iter().filter(due).map(|watched| watched.point.zone().clone()).collect();
        for zone in due {
            self.refresh_zone(resolver, &zone, counters).await;
        }
    }

    async fn refresh_zone(&self, resolver: &impl Asks, zone: &Name, counters: &AnchorCounters) {
        let response = match key_for(zone, rtype::DNSKEY) {
            Some(key) => match resolver.anew(&key).await {
                Some(found) => ask::response(resolver, &key, &found).map_err(|error| match error {
                    Unproven::Bogus(_) => "the answer is malformed",
                    Unproven::Failed(_) => "no upstream has answered",
                }),
                None => Err("no upstream has answered"),
            },
            None => Err("the name is too long"),
        };
        let (now, unix) = (resolver.clock().secs(), resolver.clock().unix());
        let mut points = self.points.lock();
        let Some(watched) = points.iter_mut().find(|watched| watched.point.zone() == zone) else { return };
        let observed = response.map(|response| watched.point.observe(&response, unix));
        let changes = observed.as_ref().map_or(&[][..], |observed| &observed.changes);
        changes.iter().for_each(|change| log(zone, change));
        let verified = observed.as_ref().map_err(|reason| (*reason).to_owned());
        let verified =
            verified.and_then(|Observed { verified, .. }| verified.map_err(|code| unproven(zone, code)));
        let pause = match &verified {
            Ok(times) => {
                counters.refreshed.inc();
                (watched.times, watched.refreshed) = (Some(*times), Some(unix));
                times.interval()
            }
            Err(_) => {
                counters.refresh_failed.inc();
                watched.times.map_or(RETRY, RefreshTimes::retry)
            }
        };
        watched.next = now.saturating_add(Secs::try_from(pause).unwrap_or(Secs::MAX));
        if watched.point.is_deleted() {
            self.tell_deleted(zone);
        } else if let Err(reason) = verified {
            tracing::warn!(
                "trust anchors of {} are not refreshed: {reason}. Next attempt in {pause} s",
                shown(zone)
            );
        }
    }

    /// Writes the file if it differs from the states.
    pub async fn save(&self, counters: &AnchorCounters) {
        let text = file::text(self.points.lock().iter().map(|watched| &watched.point));
        if self.saved.lock().0.as_ref() == Some(&text) {
            return;
        }
        let (path, copy) = (self.path.clone(), text.clone());
        let written = spawn_blocking(move || file::write(&path, &copy)).await;
        let mut saved = self.saved.lock();
        match written.map_err(std::io::Error::other).and_then(|written| written) {
            Ok(()) => {
                counters.written.inc();
                *saved = (Some(text), false);
            }
            Err(error) => {
                counters.write_failed.inc();
                if !saved.1 {
                    let file = self.path.display();
                    tracing::error!(%error, "dnssec.managed_anchor_file: {file} cannot be written; the states of keys are lost at a restart. Check its folder, its owner, and the free space on the disk. It is tried again each minute");
                }
                saved.1 = true;
            }
        }
    }
}

fn shown(zone: &Name) -> String {
    names::display(zone.as_wire())
}

fn key_status(known: &ringdns_dnssec::ManagedKey) -> TrustKeyStatus {
    let until = match known.state {
        KeyState::Pending { until, .. } => Some(until),
        _ => None,
    };
    let state = file::name(&known.state).to_owned();
    TrustKeyStatus { tag: known.anchor.key_tag(), state, since: known.since, until }
}

/// Returns the reason why the keys of a zone were not accepted.
fn unproven(zone: &Name, code: u16) -> String {
    let zone = shown(zone);
    match code {
        ede::DNSKEY_MISSING => format!(
            "none of its keys is a trust anchor. If this lasts, ringdnsd has missed a change of keys: put the zone's keys into dnssec.trust_anchor_file, stop ringdnsd, remove the lines of {zone} or the whole file of dnssec.managed_anchor_file, and start it again"
        ),
        ede::RRSIGS_MISSING => {
            "its keys are not signed. Check that the upstreams return signatures".to_owned()
        }
        ede::SIGNATURE_EXPIRED | ede::SIGNATURE_NOT_YET_VALID => {
            "the signatures of its keys have expired or are not valid yet. Check the clock of this host"
                .to_owned()
        }
        code => format!("the signatures of its keys are bogus (extended error {code})"),
    }
}

/// Logs an event of a key.
fn log(zone: &Name, KeyChange { tag, event }: &KeyChange) {
    let zone = shown(zone);
    match event {
        KeyEvent::Appeared(until) => {
            let until = date(*until);
            tracing::info!(
                "trust anchors of {zone}: key {tag} is new. It will be trusted after {until} if it is in the zone until then"
            );
        }
        KeyEvent::Withdrawn => {
            tracing::warn!(
                "trust anchors of {zone}: new key {tag} has left the zone, or the keys that signed it were revoked. It is not trusted"
            );
        }
        KeyEvent::Trusted => tracing::info!("trust anchors of {zone}: key {tag} is trusted from now on"),
        KeyEvent::Left => {
            tracing::warn!(
                "trust anchors of {zone}: key {tag} has left the zone, and was not revoked. It stays trusted"
            );
        }
        KeyEvent::Returned => tracing::info!("trust anchors of {zone}: key {tag} is in the zone again"),
        KeyEvent::Revoked => {
            tracing::warn!(
                "trust anchors of {zone}: key {tag} was revoked by its owner, and is never trusted again"
            );
        }
        KeyEvent::Removed => {
            tracing::info!("trust anchors of {zone}: revoked key {tag} is gone from the zone")
        }
        KeyEvent::Ignored => {
            tracing::warn!(
                "trust anchors of {zone}: new key {tag} is ignored, because the zone has too many keys"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::anchors;

    #[test]
    fn zones_have_their_keys_from_the_file_if_it_has_them() {
        const DS: &str = "8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";
        let folder = tempfile::tempdir().unwrap();
        let [file, first] = ["file", "first"].map(|name| folder.path().join(name));
        let since = "since 2026-11-28T12:00:00Z DS";
        let lines = [
            "ringdns trust anchors 1".to_owned(),
            format!(". valid {since} 1 {DS}"),
            format!("gone. valid {since} 2 {DS}"),
            format!("deleted. revoked {since} 3 {DS}"),
            "end 3\n".to_owned(),
        ];
        file::write(&file, &lines.join("\n")).unwrap();
        file::write(&first, &[".", "deleted.", "new."].map(|zone| format!("{zone} DS 9 {DS}\n")).concat())
            .unwrap();
        let initial = anchors::trust_anchors(Some(&first)).unwrap();
        let managed = ManagedAnchors::load(&file, &initial, 0).unwrap();
        let status = managed.status();
        let keys = |point: &TrustPointStatus| format!("{} {}", point.zone, point.keys[0].tag);
        assert_eq!(status.iter().map(keys).collect::<Vec<_>>(), [". 1", "deleted. 3", "new. 9"]);
        let zones: Vec<_> = managed.anchors().iter().map(|(zone, _)| shown(zone)).collect();
        assert_eq!(zones, [".", "new."]);
    }
}
