//! `ringctl check` and `ringctl ready`: the state of ringdnsd for monitoring, load balancers and
//! routers.

use crate::{
    print::{time_of, write_screen},
    talk::{Ringdnsd, refused},
};
use anyhow::{Context, anyhow};
use clap::Args;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use ringdns_api::{DaemonStatus, Problem, ProblemKind, Severity};
use ringdns_common::printable::Printable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Time between two questions whether ringdnsd is ready.
const PERIOD: Duration = Duration::from_secs(1);
/// Time that ringdnsd may take to say so.
const PATIENCE: Duration = Duration::from_secs(3);

/// Options of `ringctl check`.
#[derive(Args)]
pub struct Check {
    /// Kind of problem that does not count, such as restart_pending. May be given several times.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub ignore: Vec<ProblemKind>,
}

fn kind(text: &str) -> Result<ProblemKind, String> {
    let found = ProblemKind::ALL.iter().find(|kind| kind.label() == text);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.label()).collect();
        format!("there is no such kind. Write one of {}", known.join(", "))
    })
}

/// State of a service, as monitoring plug-ins tell it (Monitoring Plugins Development Guidelines).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

/// Exit code for a wrong command line.
pub const UNKNOWN: u8 = ServiceState::Unknown as u8;

impl ServiceState {
    fn label(self) -> &'static str {
        match self {
            ServiceState::Ok => "OK",
            ServiceState::Warning => "WARNING",
            ServiceState::Critical => "CRITICAL",
            ServiceState::Unknown => "UNKNOWN",
        }
    }

    /// Returns the state that problems make.
    fn of(is_ready: bool, problems: &[&Problem]) -> Self {
        match problems.iter().map(|problem| problem.severity).max() {
            _ if !is_ready => ServiceState::Critical,
            Some(Severity::Critical) => ServiceState::Critical,
            Some(Severity::Warning) => ServiceState::Warning,
            Some(Severity::Info) | None => ServiceState::Ok,
        }
    }
}

impl Check {
    /// Prints the state and returns its exit code.
    pub async fn print(&self, ringdnsd: &Ringdnsd, json: bool) -> ExitCode {
        let (state, text) = match self.look(ringdnsd).await {
            Ok(status) => self.text(&status, json),
            Err(error) => {
                let state = failure(&error);
                let text = match json {
                    true => json!({ "state": state.label(), "error": format!("{error:#}") }).to_string(),
                    false => {
                        format!("RINGDNS {}: {}", state.label(), Printable(plain(&format!("{error:#}"))))
                    }
                };
                (state, text)
            }
        };
        // The reader may be gone; the exit code says the same.
        let _ = if json { writeln!(io::stdout(), "{text}") } else { write_screen(&(text + "\n")) };
        ExitCode::from(state as u8)
    }

    async fn look(&self, ringdnsd: &Ringdnsd) -> anyhow::Result<DaemonStatus> {
        let body = ringdnsd.get("/v1/status").await?;
        serde_json::from_slice(&body)
            .context("ringdnsd's answer cannot be read: use the ringctl of its version")
    }

    pub fn text(&self, status: &DaemonStatus, json: bool) -> (ServiceState, String) {
        let counts = |problem: &&Problem| !self.ignore.contains(&problem.kind);
        let problems: Vec<_> = status.problems.iter().filter(counts).collect();
        let state = ServiceState::of(status.ready, &problems);
        if json {
            let obstacle = &status.obstacle;
            let value = json!({ "state": state.label(), "obstacle": obstacle, "problems": problems });
            return (state, value.to_string());
        }
        let grave = problems.iter().filter(|problem| problem.severity > Severity::Info);
        let texts = status.obstacle.iter().chain(grave.map(|problem| &problem.text));
        let mut first: Vec<&String> = texts.collect();
        first.dedup();
        let said = match &first[..] {
            [] => format!("answering queries over {}", status.receiving),
            [text] => (*text).clone(),
            [text, more @ ..] => format!("{text} (and {} more)", more.len()),
        };
        let up = status.upstreams.iter().filter(|upstream| !upstream.put_back).count();
        let all = status.upstreams.len();
        let measured = format!(
            "problems={};;;0 upstreams={up};;;0;{all} uptime={}s;;;0",
            problems.len(),
            status.uptime_secs
        );
        let mut text = format!("RINGDNS {}: {}|{measured}", state.label(), Printable(plain(&said)));
        for Problem { kind, severity, text: said, since, .. } in problems {
            let (since, said) = (time_of(*since), Printable(plain(said)));
            text += &format!("\n{}: {said} ({}, since {since})", severity.label(), kind.label());
        }
        (state, text)
    }
}

/// Removes what separates text and measured values in the output of plug-ins.
fn plain(text: &str) -> String {
    text.replace('|', "/")
}

/// Returns the state of a ringdnsd that does not tell its state.
fn failure(error: &anyhow::Error) -> ServiceState {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
    match error.chain().find_map(kind) {
        Some(io::ErrorKind::PermissionDenied) => ServiceState::Unknown,
        _ => ServiceState::Critical,
    }
}

/// Prints whether ringdnsd is ready, or each change of that.
pub async fn ready(ringdnsd: &Ringdnsd, follow: bool, json: bool) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let obstacle = obstacle(ringdnsd).await;
        if told.as_ref() != Some(&obstacle) {
            let mut out = io::stdout().lock();
            match &obstacle {
                _ if json => {
                    writeln!(out, "{}", json!({ "ready": obstacle.is_none(), "obstacle": obstacle }))?;
                }
                None => writeln!(out, "ready")?,
                Some(obstacle) => writeln!(out, "not ready: {}", Printable(obstacle))?,
            }
            out.flush()?;
        }
        if !follow {
            return obstacle.map_or(Ok(()), |obstacle| Err(anyhow!("not ready: {obstacle}")));
        }
        told = Some(obstacle);
        sleep(PERIOD).await;
        if is_unread() {
            return Ok(());
        }
    }
}

/// Whether nobody reads standard output any more. Without this, a follower would outlive its reader
/// until the next change.
fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled.is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Returns the reason why ringdnsd is not ready, if it is not.
async fn obstacle(ringdnsd: &Ringdnsd) -> Option<String> {
    let asked = timeout(PATIENCE, async {
        let response = ringdnsd.exchange(Method::GET, "/readyz").await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    });
    match asked.await {
        Ok(Ok((StatusCode::OK, _))) => None,
        Ok(Ok((status, body))) => Some(refused(status, &body).to_string()),
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(format!("ringdnsd took more than {} s to answer", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: bool, problems: &[(ProblemKind, &str)]) -> DaemonStatus {
        let problem = |(kind, text): &(ProblemKind, &str)| {
            json!({
                "kind": kind, "severity": kind.severity(), "subject": "", "text": text, "since": 1_767_225_600,
            })
        };
        let problems: Vec<_> = problems.iter().map(problem).collect();
        let obstacle = (!ready).then_some("no upstream answers");
        serde_json::from_value(json!({
            "version": "0.1.0", "pid": 1, "uptime_secs": 90, "ready": ready, "obstacle": obstacle,
            "receiving": "AF_XDP on eth1", "problems": problems, "listen": [], "workers": 2,
            "process": null, "upstreams": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_gravest_problem_decides_and_others_follow() {
        let check = Check { ignore: vec![ProblemKind::RedisLost] };
        let text = |ready, problems: &[(ProblemKind, &str)]| check.text(&status(ready, problems), false);
        let measured = "upstreams=0;;;0;0 uptime=90s;;;0";
        assert_eq!(
            text(true, &[]),
            (
                ServiceState::Ok,
                format!("RINGDNS OK: answering queries over AF_XDP on eth1|problems=0;;;0 {measured}")
            )
        );
        let (state, said) = text(true, &[(ProblemKind::RestartPending, "[tcp] has changed")]);
        assert_eq!(state, ServiceState::Ok, "{said}");
        assert!(
            said.ends_with("\ninfo: [tcp] has changed (restart_pending, since 2026-01-01T00:00:00Z)"),
            "{said}"
        );
        assert_eq!(text(true, &[(ProblemKind::RedisLost, "gone")]).0, ServiceState::Ok, "it is ignored");
        let several = [(ProblemKind::ListDegraded, "list | \"ads\""), (ProblemKind::RestartPending, "x")];
        let (state, said) = text(true, &several);
        assert_eq!(state, ServiceState::Warning);
        assert!(said.starts_with("RINGDNS WARNING: list / \"ads\"|problems=2;;;0"), "{said}");
        let (state, said) = text(false, &[(ProblemKind::NoUpstream, "no upstream answers")]);
        assert_eq!(state, ServiceState::Critical);
        assert!(said.starts_with("RINGDNS CRITICAL: no upstream answers|problems=1"), "{said}");
    }

    #[test]
    fn a_ringdnsd_that_cannot_be_asked_is_critical_unless_we_may_not_ask() {
        let error = |kind| anyhow::Error::from(io::Error::from(kind)).context("no ringdnsd");
        assert_eq!(failure(&error(io::ErrorKind::NotFound)), ServiceState::Critical);
        assert_eq!(failure(&error(io::ErrorKind::ConnectionRefused)), ServiceState::Critical);
        assert_eq!(failure(&error(io::ErrorKind::PermissionDenied)), ServiceState::Unknown);
    }

    #[test]
    fn kinds_are_known_by_their_names() {
        assert_eq!(kind("redis_lost"), Ok(ProblemKind::RedisLost));
        assert!(kind("redis").unwrap_err().contains("redis_lost"));
    }
}
