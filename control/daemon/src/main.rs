//! `ringdnsd`: command line, logging, and the start of the daemon.

#![forbid(unsafe_code)]

use clap::{Args, CommandFactory, Parser};
use ringdns_common::printable::Printable;
use ringdns_config::{Config, ConfigError, manual, reference};
use ringdns_daemon::{
    daemon,
    error::DaemonError,
    logging::{self, LogFormat, LogLevels, PendingLog},
    panics,
    probe::{CheckReport, CheckSeverity},
    process,
    reload::{COMMAND_LINE, ConfigSource},
    sandbox::{self, Sandbox},
    verdict::{self, OfflineError, TestedClient, TestedQuestion},
};
use ringdns_manual::Section;
use std::{
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};
use toml::Table;

/// jemalloc: a miss allocates and frees a dozen times, and answers live for minutes, so that
/// glibc's arenas would grow by a system call every few misses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A DNS cache at the speed of the link.
///
/// Exit status: 0 after a request to stop, or with --check if the configuration is accepted; 1
/// after a failure at run time; 2 if the configuration is invalid; 3 if this machine lacks what it
/// requires (a port in use, a missing capability, a list that cannot be read), so that a later start
/// may succeed. With 2 and 3, nothing has been attached.
#[derive(Parser)]
#[command(name = "ringdnsd", version, max_term_width = 80)]
struct DaemonArguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/ringdns/ringdns.toml")]
    config: PathBuf,
    #[command(flatten)]
    without_file: WithoutFile,
    /// Only check whether ringdnsd would start with the configuration on this machine, as this user:
    /// keys, files, folders, ports, interface. Says all problems at once, and what this user may not see.
    /// Changes nothing; a running ringdnsd is not disturbed.
    #[arg(long)]
    check: bool,
    /// Print what --check finds as JSON.
    #[arg(long, requires = "check")]
    json: bool,
    /// Format of the log. To systemd's journal, lines have its priority in front and no time.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Print, as JSON, what the configuration and its files make of a question: see `ringctl policy
    /// test --config`.
    #[arg(long, value_name = "NAME", conflicts_with = "check")]
    policy_test: Option<String>,
    #[command(flatten)]
    tested: Tested,
    /// Print docs/configuration.md.
    #[arg(long, hide = true)]
    print_config_reference: bool,
    /// Write the manual pages and completions into this folder, as they lie in /usr/share.
    #[arg(long, hide = true, value_name = "FOLDER")]
    write_share: Option<PathBuf>,
}

/// A configuration without a file. All else has its default.
#[derive(Args)]
struct WithoutFile {
    /// Address and port to answer at, in place of a configuration file. May be given several times.
    #[arg(long, value_name = "ADDRESS", requires = "upstream", conflicts_with = "config")]
    listen: Vec<String>,
    /// Resolver to ask: 9.9.9.9:53, tls://9.9.9.9#dns.quad9.net. May be given several times.
    #[arg(long, value_name = "ADDRESS", requires = "listen")]
    upstream: Vec<String>,
    /// Interface to receive on by AF_XDP.
    #[arg(long, requires = "listen")]
    interface: Option<String>,
    /// Path of the socket that ringctl connects to.
    #[arg(long, requires = "listen")]
    socket: Option<String>,
}

impl WithoutFile {
    /// Returns the text that a file would have. `None`: there is a file.
    fn text(&self) -> Option<String> {
        let mut server = Table::from_iter([("listen".to_owned(), self.listen.clone().into())]);
        server.extend(self.interface.clone().map(|name| ("interface".to_owned(), name.into())));
        let upstream = |address: &String| Table::from_iter([("address".to_owned(), address.clone().into())]);
        let upstreams: Vec<_> = self.upstream.iter().map(upstream).collect();
        let mut tables = Table::from_iter([
            ("server".to_owned(), server.into()),
            ("upstream".to_owned(), upstreams.into()),
        ]);
        if let Some(socket) = &self.socket {
            let control = Table::from_iter([("socket".to_owned(), socket.clone().into())]);
            tables.insert("control".to_owned(), control.into());
        }
        (!self.listen.is_empty()).then(|| tables.to_string())
    }
}

/// Question and client of --policy-test.
#[derive(Args)]
struct Tested {
    /// Record type in the question of --policy-test.
    #[arg(long = "type", value_name = "TYPE", requires = "policy_test")]
    rtype: Option<String>,
    /// Address of the client of --policy-test.
    #[arg(long, requires = "policy_test", conflicts_with = "group")]
    client: Option<IpAddr>,
    /// Group of the client of --policy-test.
    #[arg(long, requires = "policy_test")]
    group: Option<String>,
}

const FAILED: u8 = 1;
/// The configuration is invalid: another start does not help (`RestartPreventExitStatus=` of the unit).
const REFUSED: u8 = 2;
/// This machine lacks what the configuration requires, and may have it later.
const UNFIT: u8 = 3;

fn main() -> ExitCode {
    let arguments = DaemonArguments::parse();
    if arguments.print_config_reference {
        say(io::stdout(), reference::markdown().trim_end());
        return ExitCode::SUCCESS;
    }
    if let Some(share) = arguments.write_share {
        let command = DaemonArguments::command();
        let written = ringdns_manual::write(&command, Section::Administrators, &share).and_then(|()| {
            ringdns_manual::write_page("ringdns.toml", Section::Formats, &manual::page(), &share)
        });
        let Err(error) = written else { return ExitCode::SUCCESS };
        complain(&format!("ringdnsd: {} cannot be written: {error}", share.display()));
        return ExitCode::from(FAILED);
    }
    let path = arguments.config;
    if let Some(name) = arguments.policy_test {
        return test_policy(&path, &name, arguments.tested);
    }
    let signals = process::keep_signals();
    panics::watch();
    let (log, levels) = PendingLog::to_stderr(arguments.log_format);
    let (file, loaded) = match arguments.without_file.text() {
        Some(text) => (PathBuf::from(COMMAND_LINE), ConfigSource::of_command_line(&text)),
        None => (path.clone(), ConfigSource::load(&path)),
    };
    // What is right in itself may be too much for this machine, now.
    let status = if loaded.is_ok() { UNFIT } else { REFUSED };
    if arguments.check {
        // For warnings about this machine.
        let _log = log.start();
        let report = CheckReport::of(&file, loaded);
        tell(&report, arguments.json);
        return if report.accepted { ExitCode::SUCCESS } else { ExitCode::from(status) };
    }
    let (config, source) = match loaded.and_then(ConfigSource::checked) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            // Warnings may wait.
            let _log = log.start();
            complain_of(&refusal);
            return ExitCode::from(status);
        }
    };
    // Threads that run already would not have the limits, so none does: not even that of the log.
    let sandbox = match config.sandbox.enabled {
        true => sandbox::enter(&config, &path).map(Some),
        false => Ok(None),
    };
    let _log = match signals.and_then(|()| log.start()) {
        Ok(log) => log,
        Err(error) => {
            let remedy = "Raise the limits of threads and open files";
            complain(&format!("ringdnsd: signals or the log cannot be set up: {error}. {remedy}"));
            return ExitCode::from(FAILED);
        }
    };
    match sandbox {
        Ok(sandbox) => run(config, source, levels, sandbox),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs until the end of the service.
fn run(config: Config, source: ConfigSource, levels: LogLevels, sandbox: Option<Sandbox>) -> ExitCode {
    let file = source.file().clone();
    if let Some(sandbox) = &sandbox {
        sandbox.log();
    }
    match daemon::run(config, source, levels, sandbox.and_then(|sandbox| sandbox.folders)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(DaemonError::Lists(problems)) => {
            for problem in problems {
                tracing::error!("{}{problem}", file.place(&problem.key));
            }
            ExitCode::from(UNFIT)
        }
        Err(error) => {
            let place = error.key().map(|key| file.place(key)).unwrap_or_default();
            tracing::error!("{place}{error}");
            ExitCode::from(if error.is_refusal() { UNFIT } else { FAILED })
        }
    }
}

/// Prints what --check found.
fn tell(report: &CheckReport, json: bool) {
    if json {
        say(io::stdout(), &serde_json::to_string(report).unwrap_or_default());
    } else {
        for (severity, line) in report.lines() {
            let line = format!("ringdnsd: {}", Printable(line));
            // What this user may not see is no failure.
            match severity {
                CheckSeverity::Unchecked => say(io::stdout(), &line),
                _ => complain(&line),
            }
        }
        if report.accepted {
            say(io::stdout(), &format!("{}: accepted", Printable(report.file.display())));
        }
    }
}

/// Prints the verdict on a question. The log is not set up: what it would say of lists, a running
/// ringdnsd or `--check` says.
fn test_policy(path: &Path, name: &str, tested: Tested) -> ExitCode {
    let (config, source) = match ConfigSource::load(path) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            complain_of(&refusal);
            return ExitCode::from(REFUSED);
        }
    };
    let client = TestedClient { address: tested.client, group: tested.group };
    let question = TestedQuestion::parse(name, tested.rtype.as_deref()).map_err(OfflineError::from);
    match question.and_then(|question| verdict::offline(&config, path, &question, &client)) {
        Ok((test, missing)) => {
            for list in missing {
                complain(&format!("ringdnsd: the list {list:?} has not been downloaded yet"));
            }
            say(io::stdout(), &serde_json::to_string(&test).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(OfflineError::Problems(problems)) => {
            for problem in problems {
                complain(&format!("ringdnsd: {}{problem}", source.file().place(&problem.key)));
            }
            ExitCode::from(REFUSED)
        }
        Err(error) => {
            complain(&format!("ringdnsd: {}", Printable(error)));
            ExitCode::from(REFUSED)
        }
    }
}

/// Writes why a configuration is refused to standard error.
fn complain_of(refusal: &ConfigError) {
    for line in refusal.lines() {
        complain(&format!("ringdnsd: {}", Printable(line)));
    }
}

/// Writes a line about a failure to standard error, as an error if the journal reads it.
fn complain(line: &str) {
    let priority = if logging::is_journal(&io::stderr()) { logging::ERROR_PRIORITY } else { "" };
    say(io::stderr(), &format!("{priority}{line}"));
}

/// Writes a line for the caller. A reader that is gone does not want it, so failures are ignored.
fn say(mut to: impl Write, line: &str) {
    let _ = writeln!(to, "{line}");
}
