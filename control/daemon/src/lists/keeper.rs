//! Upkeep of the lists: a task for each that is downloaded, and the exchange of lists for new ones.

use super::{
    Lists,
    copies::{Copies, CopyNote, Part},
    download::{Download, download},
    effect::InEffect,
    groups::Groups,
    origin::ListOrigin,
    specs,
    status::{Ask, Confirmed, Fetching, Outcome, Watched, source},
    transfer::{self, Known, transfer},
};
use parking_lot::Mutex;
use ringdns_api::{ListDifference, ListStatus, Overrides};
use ringdns_config::{Config, ListSource, ListStart, ListsConfig, Problem};
use ringdns_dataplane::clock::Clock;
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier};
use std::{collections::BTreeMap, io::Seek, iter::from_fn, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    runtime::Builder,
    select,
    sync::{Notify, Semaphore, mpsc},
    task::{AbortHandle, JoinSet, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Most downloads at a time.
const DOWNLOADS: usize = 4;
/// Most requests for a download that wait for a list's task.
const ASKS: usize = 8;
/// Shortest time between two transfers of a zone that NOTIFY messages lead to: their sender may be
/// forged.
const NOTIFY_PAUSE: Duration = Duration::from_secs(5);
/// Size of the host cache of the resolver that downloads before the start have, in bytes.
const HOST_BYTES: u64 = 1 << 20;

/// Lists in effect, and their upkeep.
pub struct ListKeeper {
    pub(super) resolver: Arc<Resolver>,
    /// Locked for as long as lists are read, so never in an async task.
    pub(super) kept: Mutex<Kept>,
    /// Locked after `kept`, and only for moments.
    pub(super) shown: Mutex<Shown>,
    /// State of each list. Locked after `kept`, and only for moments.
    pub(super) watched: Mutex<BTreeMap<String, Watched>>,
    changed: Notify,
    /// Notified when there is another time to wait for.
    pub(super) retimed: Notify,
    /// Notified when clients are in other groups.
    pub(super) regrouped: Notify,
    slots: Semaphore,
}

/// Part of what is kept that the API shows.
#[derive(Clone, Default)]
pub(super) struct Shown {
    pub groups: Groups,
    pub overrides: Overrides,
    pub broken: Option<String>,
}

pub(super) struct Kept {
    pub lists: Lists,
    pub config: ListsConfig,
    /// Overrides and pauses, as in their file.
    pub overrides: Overrides,
    /// Reason why the file of overrides cannot be used.
    pub broken: Option<String>,
    /// Lists in effect.
    pub effect: InEffect,
}

/// Reads the lists for the start of the process. Downloads them first if the configuration says so,
/// with a resolver and a runtime that end with this function: nothing else runs yet.
pub fn start(config: &Config) -> Result<Lists, Vec<Problem>> {
    let mut lists = Lists::default();
    lists.load(&config.lists)?;
    let fetch = &config.lists.fetch;
    if fetch.start == ListStart::Fast || !specs(&config.lists).any(|spec| spec.url().is_some()) {
        return Ok(lists);
    }
    let host = Arc::new(HostTier::new(HOST_BYTES, Arc::default()));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
        let remedy = "Raise the limits of threads and open files, or set lists.start = \"fast\"";
        vec![Problem::new("lists.start", format!("lists cannot be downloaded: {error}"), remedy)]
    })?;
    let entered = runtime.enter();
    let resolver = Resolver::new(host, config, Clock::start(), FlightLimits::default(), None);
    let keeper = ListKeeper::new(lists, config.lists.clone(), resolver);
    runtime.block_on(async { drop(timeout(fetch.timeout, keeper.catch_up()).await) });
    drop(entered);
    let missing = keeper.missing();
    if fetch.start == ListStart::Fail && !missing.is_empty() {
        return Err(missing);
    }
    let mut kept = keeper.kept.lock();
    Ok(std::mem::take(&mut kept.lists))
}

impl ListKeeper {
    /// Puts lists into effect that were read by `config`, and returns their upkeep.
    pub fn new(lists: Lists, config: ListsConfig, resolver: Arc<Resolver>) -> Arc<Self> {
        let keeper = ListKeeper {
            resolver,
            kept: Mutex::new(Kept {
                lists,
                config,
                overrides: Overrides::default(),
                broken: None,
                effect: InEffect::default(),
            }),
            shown: Mutex::default(),
            watched: Mutex::default(),
            changed: Notify::new(),
            retimed: Notify::new(),
            regrouped: Notify::new(),
            slots: Semaphore::new(DOWNLOADS),
        };
        {
            let mut kept = keeper.kept.lock();
            keeper.recall(&mut kept);
            keeper.apply(&mut kept);
            keeper.watch(&kept);
        }
        Arc::new(keeper)
    }

    /// Returns the groups of clients that the lists decide for.
    pub fn groups(&self) -> Groups {
        self.shown.lock().groups.clone()
    }

    /// Waits until clients are in other groups than at the last call.
    pub async fn regrouped(&self) {
        self.regrouped.notified().await;
    }

    /// Reads the lists of a new configuration and puts them into effect. If one cannot be used,
    /// nothing changes. Returns the changes of their rules. It may take seconds, so it must not run in
    /// an async task.
    pub fn load(&self, config: &ListsConfig) -> Result<Vec<ListDifference>, Vec<Problem>> {
        let mut kept = self.kept.lock();
        let changed = kept.lists.load(config)?;
        kept.config = config.clone();
        self.recall(&mut kept);
        self.apply(&mut kept);
        self.watch(&kept);
        self.changed.notify_one();
        self.retimed.notify_one();
        Ok(changed)
    }

    /// Returns the origin of a list.
    pub fn origin(&self, name: &str) -> Option<ListOrigin> {
        self.kept.lock().lists.origin(name)
    }

    /// Returns the state of each list.
    pub fn status(&self) -> Vec<ListStatus> {
        let now = self.resolver.clock().secs();
        self.watched.lock().iter().map(|(name, list)| list.status(name, now)).collect()
    }

    /// Returns the names of the lists that are degraded, with a sentence about each.
    pub fn degraded(&self) -> Vec<(String, String)> {
        let now = self.resolver.clock().secs();
        let watched = self.watched.lock();
        let lists = watched.iter();
        lists.filter_map(|(name, list)| Some((name.clone(), list.problem(name, now)?))).collect()
    }

    /// Returns the reason why no override is in effect, if that is so.
    pub fn broken_overrides(&self) -> Option<String> {
        self.shown.lock().broken.clone()
    }

    /// Takes a NOTIFY from `client`: if it is the primary of a zone, and signs as it should, the zone is
    /// transferred at once. Returns the reply, and whether that is so. `None`: it is another message.
    pub async fn notify(&self, client: IpAddr, message: &[u8]) -> Option<(Vec<u8>, bool)> {
        let notify = transfer::Notify::read(message)?;
        let of_zone = self.watched.lock().values().find_map(|list| {
            let source = list.fetching.as_ref()?.zone.as_ref()?;
            let is_its = source.zone == notify.zone && source.primary.ip() == client.to_canonical();
            is_its.then(|| (source.clone(), list.notified.clone()))
        });
        let Some((source, notified)) = of_zone else { return Some((notify.refuse(), false)) };
        let (bytes, now) = (message.to_vec(), self.resolver.clock().unix());
        let judged = spawn_blocking(move || Some(transfer::Notify::read(&bytes)?.judge(&source, now)));
        let (reply, is_accepted) = judged.await.ok()??;
        if is_accepted {
            notified.notify_one();
        }
        Some((reply, is_accepted))
    }

    /// Keeps the lists fresh until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = BTreeMap::<String, (Fetching, AbortHandle)>::new();
        let mut running = JoinSet::new();
        if let Some(task) = self.wanted().into_values().next() {
            drop(spawn_blocking(move || Copies::new(&task.fetch.dir).clean()).await);
        }
        loop {
            let wanted = self.wanted();
            tasks.retain(|name, (task, handle)| {
                let stays = wanted.get(name) == Some(task);
                if !stays {
                    handle.abort();
                }
                stays
            });
            for (name, list) in &mut *self.watched.lock() {
                if let (Some(task), Some(asked)) = (&list.fetching, list.asked.take()) {
                    let handle =
                        running.spawn(self.clone().keep_fresh(task.clone(), asked, list.notified.clone()));
                    tasks.insert(name.clone(), (task.clone(), handle));
                }
            }
            self.changed.notified().await;
            while running.try_join_next().is_some() {}
        }
    }

    /// Downloads each list that is missing or stale once.
    async fn catch_up(self: &Arc<Self>) {
        let mut running = JoinSet::new();
        for task in self.wanted().into_values() {
            if self.until_due(&task.name).is_zero() {
                let keeper = self.clone();
                running.spawn(async move { keeper.update(&task).await });
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Returns a problem for each list that has yet to be downloaded.
    fn missing(&self) -> Vec<Problem> {
        let (kept, watched) = (self.kept.lock(), self.watched.lock());
        let missing = specs(&kept.config).filter_map(|spec| {
            let list = watched.get(spec.name).filter(|list| list.is_missing)?;
            let error = list.error.as_deref().unwrap_or("the download was not complete in time");
            let remedy = "lists.start = \"fast\" starts without the list";
            Some(Problem::new(spec.key(), format!("there is no copy, and {error}"), remedy))
        });
        missing.collect()
    }

    /// Brings the states in line with the lists in effect.
    fn watch(&self, kept: &Kept) {
        let clock = self.resolver.clock();
        let mut watched = self.watched.lock();
        let mut before = std::mem::take(&mut *watched);
        for spec in specs(&kept.config) {
            let fetching = spec.source.and_then(ListSource::remote).map(|(url, refresh)| Fetching {
                name: spec.name.to_owned(),
                url: url.to_owned(),
                refresh,
                fetch: kept.config.fetch.clone(),
                zone: match spec.source {
                    Some(ListSource::Zone(zone)) => Some(zone.clone()),
                    _ => None,
                },
            });
            let (rules, is_missing) = (kept.lists.rules(spec.name), kept.lists.is_missing(spec.name));
            let same =
                before.remove(spec.name).filter(|list| list.fetching.is_some() && list.fetching == fetching);
            let list = match same {
                Some(list) => Watched { rules, is_missing, ..list },
                None => {
                    let (asks, asked) = mpsc::channel(ASKS);
                    let note = fetching.as_ref().and_then(|fetching| {
                        let note = Copies::new(&fetching.fetch.dir).note(spec.name);
                        note.filter(|note| note.url == fetching.url)
                    });
                    Watched {
                        source: source(spec.source),
                        confirmed: match &fetching {
                            None => Some(Confirmed::now(clock)),
                            Some(_) => note.as_ref().map(|note| Confirmed::noted(note.confirmed, clock)),
                        },
                        soa: note.and_then(|note| note.zone),
                        fetching,
                        asks,
                        asked: Some(asked),
                        notified: Arc::default(),
                        rules,
                        is_missing,
                        error: None,
                        failures: 0,
                    }
                }
            };
            watched.insert(spec.name.to_owned(), list);
        }
    }

    fn wanted(&self) -> BTreeMap<String, Fetching> {
        let watched = self.watched.lock();
        watched.iter().filter_map(|(name, list)| Some((name.clone(), list.fetching.clone()?))).collect()
    }

    fn until_due(&self, name: &str) -> Duration {
        let now = self.resolver.clock().secs();
        self.watched.lock().get(name).map_or_else(Default::default, |list| list.until_due(now))
    }

    /// Downloads a list when it is due or somebody asks, until dropped.
    async fn keep_fresh(
        self: Arc<Self>,
        task: Fetching,
        mut asked: mpsc::Receiver<Ask>,
        notified: Arc<Notify>,
    ) {
        let mut pause = Instant::now();
        loop {
            let told = async {
                sleep_until(pause).await;
                notified.notified().await;
            };
            let first = select! {
                ask = asked.recv() => match ask {
                    Some(ask) => Some(ask),
                    // The list is no longer there.
                    None => return,
                },
                // One that came during a download begins another: that one may have begun before.
                () = told => {
                    pause = Instant::now() + NOTIFY_PAUSE;
                    None
                }
                () = sleep(self.until_due(&task.name)) => None,
            };
            let outcome = self.update(&task).await;
            // One download serves all who asked while it went on.
            for ask in first.into_iter().chain(from_fn(|| asked.try_recv().ok())) {
                drop(ask.send(outcome.clone()));
            }
        }
    }

    /// Downloads a list and notes the result.
    async fn update(self: &Arc<Self>, task: &Fetching) -> Outcome {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let outcome = self.fetch(task).await;
        let mut watched = self.watched.lock();
        let list = watched.get_mut(&task.name).filter(|list| list.fetching.as_ref() == Some(task));
        let Some(list) = list else { return outcome };
        match &outcome {
            Ok(_) => {
                if list.failures > 0 {
                    tracing::info!(list = task.name, failures = list.failures, "the list is renewed again");
                }
                (list.error, list.failures) = (None, 0);
                list.confirmed = Some(Confirmed::now(self.resolver.clock()));
            }
            Err(error) => {
                list.error = Some(error.clone());
                if list.failures == 0
                    && let Some(problem) = list.problem(&task.name, self.resolver.clock().secs())
                {
                    tracing::warn!("{problem}");
                } else {
                    tracing::debug!(list = task.name, "still not renewed: {error}");
                }
                list.failures = list.failures.saturating_add(1);
            }
        }
        outcome
    }

    async fn fetch(self: &Arc<Self>, task: &Fetching) -> Outcome {
        let now = self.resolver.clock().secs();
        let is_of_use = |list: &Watched| !list.is_missing && !list.is_expired(now);
        let is_missing = !self.watched.lock().get(&task.name).is_some_and(is_of_use);
        let (copies, of) = (Copies::new(&task.fetch.dir), task.clone());
        let began = blocking(move || {
            let note = copies.note(&of.name).filter(|note| {
                let is_conditional =
                    note.etag.is_some() || note.last_modified.is_some() || note.zone.is_some();
                // A copy that somebody has changed is replaced.
                !is_missing && is_conditional && note.url == of.url && copies.is_about(note, &of.name)
            });
            copies.begin(&of.name).map(|part| (note, part)).map_err(|error| error.to_string())
        });
        let (known, part) = began.await?;
        let done = match &task.zone {
            Some(zone) => {
                let copy = |note: &CopyNote| {
                    let copy = Copies::new(&task.fetch.dir).open(&task.name).ok()?;
                    Some(Known { note: note.clone(), copy })
                };
                let (known, now) = (known.as_ref().and_then(copy), self.resolver.clock().unix());
                transfer(&task.fetch, zone, known, &part, now).await.map_err(|error| error.to_string())
            }
            None => download(&task.fetch, &self.resolver, &task.url, known.as_ref(), &part)
                .await
                .map_err(|error| error.to_string()),
        };
        let (keeper, of) = (self.clone(), task.clone());
        match (done?, known) {
            (Download::Changed(note), _) => blocking(move || keeper.adopt(&of, part, note)).await,
            (Download::Unchanged, Some(note)) => {
                let note = CopyNote { confirmed: self.resolver.clock().unix(), ..note };
                let confirm = move || Copies::new(&of.fetch.dir).confirm(&of.name, &note);
                blocking(move || confirm().map(|()| None).map_err(|error| error.to_string())).await
            }
            (Download::Unchanged, None) => Ok(None),
        }
    }

    /// Puts a downloaded list into effect and keeps it as the copy, if it can be used.
    fn adopt(&self, task: &Fetching, mut part: Part, note: CopyNote) -> Outcome {
        let mut kept = self.kept.lock();
        // A reload may have changed the list meanwhile.
        if self.watched.lock().get(&task.name).and_then(|list| list.fetching.as_ref()) != Some(task) {
            return Err("the list was changed by a reload".into());
        }
        let file = part.file.rewind().and_then(|()| part.file.try_clone());
        let file = file.map_err(|error| format!("the download cannot be read: {error}"))?;
        let Kept { lists, config, .. } = &mut *kept;
        let changes = lists.take(config, &task.name, file).map_err(|refusal| refusal.of_download())?;
        let note = CopyNote { confirmed: self.resolver.clock().unix(), ..note };
        let saved = Copies::new(&task.fetch.dir).keep(&task.name, part, &note);
        if changes.is_some() {
            self.apply(&mut kept);
        }
        if let Some(list) = self.watched.lock().get_mut(&task.name) {
            (list.rules, list.is_missing) = (kept.lists.rules(&task.name), false);
            list.soa = note.zone;
        }
        saved.map(|()| changes).map_err(|error| error.to_string())
    }
}

/// Runs what may block on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            Err(format!("a defect of ringdnsd ended the work on the list: {error}. Please report this"))
        }
    }
}

#[cfg(test)]
mod tests;
