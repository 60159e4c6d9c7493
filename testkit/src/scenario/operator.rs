//! Steps of the operator: files, another configuration, reloads.

use std::collections::BTreeSet;

use super::play::{Played, Player};
use super::{Action, Order, OrderVerb, Reload};

impl Player<'_> {
    /// Plays a step of the operator.
    pub(super) fn operate(&mut self, action: &Action) -> Played {
        self.settle()?;
        match action {
            Action::Purge(purge) => self.world.purge(purge),
            Action::Write(file) => {
                self.files.write(file).map_err(|error| format!("writing {}: {error}", file.name))?;
            }
            Action::Remove(name) => {
                self.files.remove(name).map_err(|error| format!("removing {name}: {error}"))?;
            }
            Action::Configure(changes) => {
                self.world.configure(&self.files.configuration(self.base, changes));
            }
            Action::Reload(expected) => return expected.compare(self.world.reload()),
            Action::Order(order) => return self.world.order(order),
            _ => {}
        }
        Ok(())
    }
}

impl Reload {
    /// Compares the result of a reload: the tables in effect, or the reason why there are none.
    fn compare(&self, result: Result<BTreeSet<String>, String>) -> Played {
        match (self, result) {
            (Self::Applied(wanted), Ok(applied)) if *wanted == applied => Ok(()),
            (Self::Refused(parts), Err(reason)) => match parts.iter().find(|part| !reason.contains(*part)) {
                Some(part) => Err(format!("{part:?} is not in the reason: {reason}")),
                None => Ok(()),
            },
            (_, Ok(applied)) => Err(format!("in effect: {applied:?}")),
            (_, Err(reason)) => Err(format!("refused: {reason}")),
        }
    }
}

impl Order {
    /// Returns the arguments of ringctl.
    pub fn arguments(&self) -> Vec<String> {
        let words: &[&str] = match &self.verb {
            OrderVerb::Block(name) => &["block", name],
            OrderVerb::Allow(name) => &["allow", name],
            OrderVerb::Clear(name) => &["policy", "clear", name],
            OrderVerb::Pause => &["pause"],
            OrderVerb::Resume => &["resume"],
        };
        let time = self.seconds.map(|seconds| ["--for".to_owned(), format!("{seconds}s")]);
        let group = self.group.as_ref().map(|group| ["--group".to_owned(), group.clone()]);
        let options = [time, group].into_iter().flatten().flatten();
        words.iter().map(|word| (*word).to_owned()).chain(options).collect()
    }
}
