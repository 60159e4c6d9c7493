//! Renewal of lists when somebody asks for it.

use super::{
    keeper::{Kept, ListKeeper},
    origin::ListFile,
    specs,
    status::{Confirmed, Outcome},
    told,
};
use ringdns_api::ListRefresh;
use ringdns_common::printable::Printable;
use std::sync::Arc;
use tokio::{sync::oneshot, task::spawn_blocking};

impl ListKeeper {
    /// Downloads a list or reads it from its file, or does so for all lists, and returns the results.
    /// `None`: no list of this name has a file or a URL.
    pub async fn refresh(self: &Arc<Self>, name: Option<&str>) -> Option<Vec<ListRefresh>> {
        let mut asked = Vec::new();
        for (list, watched) in self.watched.lock().iter() {
            if watched.fetching.is_some() && name.is_none_or(|name| name == list) {
                let (ask, outcome) = oneshot::channel();
                // If the queue is full or the task has ended, `ask` is dropped, which is seen below.
                drop(watched.asks.try_send(ask));
                asked.push((list.clone(), outcome));
            }
        }
        let (keeper, wanted) = (self.clone(), name.map(str::to_owned));
        // A panic in there has been logged and counted.
        let read = spawn_blocking(move || keeper.read_files(wanted.as_deref())).await.unwrap_or_default();
        if asked.is_empty() && read.is_empty() && name.is_some() {
            return None;
        }
        let mut outcomes = read;
        for (name, outcome) in asked {
            outcomes.push((name, outcome.await.unwrap_or_else(|_| Err("the download was given up".into()))));
        }
        outcomes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let result = |(name, outcome): (String, Outcome)| {
            let (changes, error) = match outcome {
                Ok(changes) => (changes, None),
                Err(error) => (None, Some(error)),
            };
            ListRefresh { name, changes: changes.map(told), error }
        };
        Some(outcomes.into_iter().map(result).collect())
    }

    /// Reads the lists from their files again, or one of them, and puts them into effect. A list that
    /// cannot be used stays as it was. It may take seconds.
    fn read_files(&self, name: Option<&str>) -> Vec<(String, Outcome)> {
        let mut kept = self.kept.lock();
        let names = specs(&kept.config).map(|spec| spec.name.to_owned());
        let names: Vec<String> = names.filter(|list| name.is_none_or(|name| name == list)).collect();
        let mut outcomes = Vec::new();
        for name in names {
            let origin = kept.lists.origin(&name);
            let Some((file @ ListFile::Given(_), _)) = origin.and_then(|origin| origin.file) else {
                continue;
            };
            let Kept { lists, config, .. } = &mut *kept;
            let taken = match file.open() {
                Ok(open) => lists.take(config, &name, open).map_err(|refusal| refusal.of_download()),
                Err(error) => Err(error.to_string()),
            };
            let place = Printable(file.path().display()).to_string();
            outcomes.push((name, taken.map_err(|reason| format!("{place}: {reason}"))));
        }
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Ok(Some(_)))) {
            self.apply(&mut kept);
        }
        let mut watched = self.watched.lock();
        for (name, outcome) in &outcomes {
            let Some(list) = watched.get_mut(name) else { continue };
            list.rules = kept.lists.rules(name);
            list.error = outcome.as_ref().err().cloned();
            if list.error.is_none() {
                list.confirmed = Some(Confirmed::now(self.resolver.clock()));
            }
        }
        outcomes
    }
}
