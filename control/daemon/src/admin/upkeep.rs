//! Tasks that last as long as the process: looks at problems, hosts files and groups, and reloads.

use super::Service;
use std::{sync::Arc, time::Duration};
use tokio::{signal::unix::Signal, task::spawn_blocking, time::sleep};

/// Time between two looks at all problems, for the times at which they begin and for the hold-down.
const LOOKS: Duration = Duration::from_secs(1);
/// Time between looks at hosts files.
const HOSTS_PERIOD: Duration = Duration::from_secs(2);

impl Service {
    /// Looks at all problems, so that the times at which they begin are known though nobody asks.
    pub async fn watch_problems(self: Arc<Self>) {
        loop {
            self.problems.look(&self);
            self.levels.keep_time(self.clock.unix());
            sleep(LOOKS).await;
        }
    }

    /// Tells workers when policy zones put clients into other groups.
    pub async fn follow_groups(self: Arc<Self>) {
        loop {
            self.lists.regrouped().await;
            let service = self.clone();
            // A panic in there has been logged and counted.
            drop(spawn_blocking(move || service.reloader.take_groups()).await);
        }
    }

    /// Reloads the configuration on each SIGHUP.
    pub async fn reload_when_told(self: Arc<Self>, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let service = self.clone();
            let reloading = spawn_blocking(move || {
                let reloaded = service.reloader.reload();
                let error = reloaded.as_ref().err().map(ToString::to_string);
                service.audit.write_signal("SIGHUP", "/v1/reload", error);
                reloaded
            });
            // The reloader logs success; a refusal is reported only here.
            if let Ok(Err(error)) = reloading.await {
                for line in error.lines() {
                    tracing::error!("not reloaded, the running configuration stays in effect: {line}");
                }
            }
        }
    }

    /// Reads hosts files again after they change.
    pub async fn watch_hosts_files(self: Arc<Self>) {
        loop {
            sleep(HOSTS_PERIOD).await;
            let service = self.clone();
            // A panic is in the log; the next look may find other files.
            drop(spawn_blocking(move || service.reloader.refresh_hosts()).await);
        }
    }
}
