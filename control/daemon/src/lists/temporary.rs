//! Changes with time or by an operator: schedules, overrides and pauses, put into effect.

use super::{
    effect::{InEffect, next_look},
    keeper::{Kept, ListKeeper, Shown},
    overrides::{self, OverrideError},
};
use ringdns_api::{Override, OverrideAction, Overrides, Pause, RulePlace};
use ringdns_common::{names, printable::Printable};
use ringdns_config::DEFAULT_GROUP;
use ringdns_policy::list::Found;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{select, task::spawn_blocking, time::sleep};

/// Time after a defect until the clock is looked at again, in seconds.
const RETRY_SECONDS: u64 = 60;

impl ListKeeper {
    /// Puts the lists into effect, as far as they are by now.
    pub(super) fn apply(&self, kept: &mut Kept) {
        kept.effect = InEffect::at(&kept.config, &kept.overrides, self.now());
        if let Err(error) = kept.lists.pause_clients(&kept.config, kept.effect.clients()) {
            // By a pause, it is refused before this. Others may have changed the file.
            tracing::error!("lists decide for the clients that they decided for before: {error}");
        }
        let shown = Shown {
            groups: kept.lists.groups().clone(),
            overrides: kept.overrides.clone(),
            broken: kept.broken.clone(),
        };
        let before = std::mem::replace(&mut *self.shown.lock(), shown);
        self.resolver.set_policy(kept.lists.policies(&kept.config, &kept.effect));
        // After the policy: there are lists for groups that workers learn of.
        if !kept.lists.groups().are_same(&before.groups) {
            self.regrouped.notify_one();
        }
    }

    /// Reads the file of overrides. If it is broken, there are none, and the file stays as it is.
    pub(super) fn recall(&self, kept: &mut Kept) {
        let path = &kept.config.fetch.overrides_file;
        (kept.overrides, kept.broken) = match overrides::read(path) {
            Ok(overrides) => (overrides, None),
            Err(error) => {
                let broken = format!("{}: {error}", Printable(path.display()));
                tracing::error!(
                    "lists.overrides_file: {broken}. No override is in effect. Correct the file or move it away, and \
                     restart ringdnsd"
                );
                (Overrides::default(), Some(broken))
            }
        };
    }

    /// Keeps schedules and the ends of overrides until dropped.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let keeper = self.clone();
            // A panic in there has been logged and counted.
            let left = spawn_blocking(move || keeper.look_at_clock()).await.unwrap_or(Some(RETRY_SECONDS));
            // Without a time to wait for, there is one when something changes.
            select! {
                () = sleep(left.map_or(Duration::MAX, Duration::from_secs)) => {}
                () = self.retimed.notified() => {}
            }
        }
    }

    /// Puts the lists into effect if they have changed with time. Returns the seconds until the next
    /// look; `None`: they change only with the configuration. It may take seconds.
    pub fn look_at_clock(&self) -> Option<u64> {
        let mut kept = self.kept.lock();
        let now = self.now();
        if InEffect::at(&kept.config, &kept.overrides, now) == kept.effect {
            return next_look(&kept.config, &kept.overrides, now);
        }
        let mut left = kept.overrides.clone();
        if overrides::expire(&mut left, now) {
            tracing::info!("an override or a pause has ended");
            if let Err(error) = overrides::write(&kept.config.fetch.overrides_file, &left) {
                // It has ended all the same: the file says when.
                tracing::warn!("{error}");
            }
            kept.overrides = left;
        }
        self.apply(&mut kept);
        next_look(&kept.config, &kept.overrides, now)
    }

    /// Returns the overrides and pauses.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = self.shown.lock().overrides.clone();
        overrides::expire(&mut overrides, self.now());
        overrides
    }

    /// Blocks or allows a name, with all names below it, for so many seconds, or until it is cleared.
    /// It may take a while, so it must not run in an async task.
    pub fn add_override(
        &self,
        name: &str,
        action: OverrideAction,
        group: Option<String>,
        seconds: Option<u64>,
    ) -> Result<Override, OverrideError> {
        let entry = Override { name: name.to_owned(), action, group, until: self.until(seconds) };
        self.change(entry.group.clone().as_deref(), |overrides| {
            overrides::add(overrides, entry.clone())?;
            Ok(overrides.overrides.last().cloned().unwrap_or(entry))
        })
    }

    /// Removes the override for a name. Returns whether there was one.
    pub fn clear_override(&self, name: &str, group: Option<&str>) -> Result<bool, OverrideError> {
        let name = names::display(&names::name(name)?);
        self.change(None, |overrides| Ok(overrides::clear(overrides, &name, group)))
    }

    /// Lets no list decide for a group, for a client, or without both for anybody, for so many seconds,
    /// or until it is resumed.
    pub fn pause(
        &self,
        group: Option<String>,
        client: Option<IpAddr>,
        seconds: Option<u64>,
    ) -> Result<Pause, OverrideError> {
        let pause = Pause { until: self.until(seconds), ..overrides::pause_of(group, client) };
        self.change(pause.group.clone().as_deref(), |overrides| {
            overrides::pause(overrides, pause.clone())?;
            Ok(pause)
        })
    }

    /// Ends the pause of a group, of a client, or of all. Returns whether there was one.
    pub fn resume(&self, group: Option<String>, client: Option<IpAddr>) -> Result<bool, OverrideError> {
        let ended = overrides::pause_of(group, client);
        self.change(None, |overrides| Ok(overrides::resume(overrides, &ended)))
    }

    /// Changes the overrides, writes them down, and puts them into effect. `group` must be one of the
    /// configuration.
    fn change<T>(
        &self,
        group: Option<&str>,
        change: impl FnOnce(&mut Overrides) -> Result<T, OverrideError>,
    ) -> Result<T, OverrideError> {
        let mut kept = self.kept.lock();
        if let Some(broken) = &kept.broken {
            return Err(OverrideError::Broken(broken.clone()));
        }
        let is_known = |group: &str| {
            group == DEFAULT_GROUP || kept.config.groups.iter().any(|known| known.name == group)
        };
        if let Some(unknown) = group.filter(|group| !is_known(group)) {
            return Err(OverrideError::Group(unknown.to_owned()));
        }
        let mut changed = kept.overrides.clone();
        overrides::expire(&mut changed, self.now());
        let result = change(&mut changed)?;
        let effect = InEffect::at(&kept.config, &changed, self.now());
        kept.lists.groups_with(&kept.config, effect.clients())?;
        overrides::write(&kept.config.fetch.overrides_file, &changed)?;
        kept.overrides = changed;
        self.apply(&mut kept);
        self.retimed.notify_one();
        Ok(result)
    }

    /// Returns the place of the override that was found for a question.
    pub fn place_of_override(&self, name: &[u8], found: &Found<'_>) -> Option<RulePlace> {
        let path = self.kept.lock().config.fetch.overrides_file.clone();
        overrides::place(&path, name, found)
    }

    fn until(&self, seconds: Option<u64>) -> Option<String> {
        let seconds = i64::try_from(seconds?).unwrap_or(i64::MAX);
        overrides::at(self.now().saturating_add(seconds))
    }

    fn now(&self) -> i64 {
        i64::try_from(self.resolver.clock().unix()).unwrap_or(i64::MAX)
    }
}
