//! Levels of the log by module, changed while ringdnsd runs.

use parking_lot::Mutex;
use ringdns_api::LogFilter;
use tracing_subscriber::{EnvFilter, Registry, filter::ParseError, reload::Handle};

/// Beginning of the names of all modules of ringdns.
const OURS: &str = "ringdns";

/// Reason why the levels are not changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelsError {
    /// The filter cannot be parsed.
    #[error(
        "{text:?} is no filter: {source}. Write a level, such as debug, or levels of modules: info,ringdns_fleet=debug"
    )]
    Filter {
        /// Filter as given.
        text: String,
        /// Cause.
        source: ParseError,
    },
    /// The process has no log whose levels could be changed.
    #[error("this process does not write the log")]
    NoLog,
}

/// Levels of the log.
#[derive(Debug, Default)]
pub struct LogLevels {
    /// `None`: the log was not started.
    handle: Option<Handle<EnvFilter, Registry>>,
    usual: String,
    current: Mutex<Option<LogFilter>>,
}

impl LogLevels {
    /// Returns the levels of a log that was started with the filter `usual`.
    pub(super) fn new(handle: Handle<EnvFilter, Registry>, usual: &str) -> Self {
        LogLevels { handle: Some(handle), usual: usual.to_owned(), current: Mutex::default() }
    }

    /// Returns the filter in effect.
    pub fn filter(&self) -> LogFilter {
        let usual = || LogFilter { filter: self.usual.clone(), until: None };
        self.current.lock().clone().unwrap_or_else(usual)
    }

    /// Sets a filter until a Unix time, or until ringdnsd stops. A level alone is that of ringdns'
    /// own modules: the libraries say much more than anybody wants to read.
    pub fn set(&self, text: &str, until: Option<u64>) -> Result<LogFilter, LevelsError> {
        let is_level = ["error", "warn", "info", "debug", "trace"].contains(&text);
        let filter = if is_level { format!("{},{OURS}={text}", super::DEFAULT) } else { text.to_owned() };
        self.replace(&filter)?;
        let set = LogFilter { filter, until };
        *self.current.lock() = Some(set.clone());
        Ok(set)
    }

    /// Goes back to the filter of the start.
    pub fn reset(&self) -> Result<LogFilter, LevelsError> {
        self.replace(&self.usual)?;
        *self.current.lock() = None;
        Ok(self.filter())
    }

    /// Goes back to the filter of the start if the time of the current one is over.
    pub fn keep_time(&self, now: u64) {
        let is_over = |filter: &LogFilter| filter.until.is_some_and(|until| now >= until);
        if self.current.lock().as_ref().is_some_and(is_over) && self.reset().is_ok() {
            tracing::info!(filter = self.usual, "the usual levels of the log are in effect again");
        }
    }

    fn replace(&self, text: &str) -> Result<(), LevelsError> {
        let refused = |source| LevelsError::Filter { text: text.to_owned(), source };
        let filter = EnvFilter::try_new(text).map_err(refused)?;
        let handle = self.handle.as_ref().ok_or(LevelsError::NoLog)?;
        handle.reload(filter).map_err(|_| LevelsError::NoLog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;
    use tracing_subscriber::{Layer, layer::SubscriberExt, reload};

    #[test]
    fn levels_change_for_a_time_and_back() {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("info"));
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(filter));
        let levels = LogLevels::new(handle, "info");
        tracing::subscriber::with_default(subscriber, || {
            let speaks =
                || (tracing::enabled!(Level::DEBUG), tracing::enabled!(target: "hyper", Level::DEBUG));
            assert_eq!(speaks(), (false, false));
            assert_eq!(levels.set("debug", Some(100)).unwrap().filter, "info,aya=error,ringdns=debug");
            assert_eq!(speaks(), (true, false));
            levels.keep_time(99);
            assert!(speaks().0 && levels.filter().until == Some(100));
            levels.keep_time(100);
            assert_eq!(
                (speaks(), levels.filter()),
                ((false, false), LogFilter { filter: "info".into(), until: None })
            );
            levels.set("hyper=debug", None).unwrap();
            assert_eq!(speaks(), (false, true));
            levels.reset().unwrap();
            assert_eq!(speaks(), (false, false));
            let refused = levels.set("loud=very", None).unwrap_err().to_string();
            assert!(refused.contains("\"loud=very\" is no filter"), "{refused}");
            assert_eq!(levels.filter().filter, "info");
        });
        assert!(matches!(LogLevels::default().set("debug", None), Err(LevelsError::NoLog)));
    }
}
