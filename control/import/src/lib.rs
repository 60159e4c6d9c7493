//! Configurations of other servers as one of ringdns: of Unbound, dnsmasq, AdGuard Home, blocky and
//! dnsdist.
//!
//! Each line or key either becomes a key of ringdns, which names its origin in a comment, or is
//! reported with the reason why it does not. The result is always a configuration that
//! [`ringdns_config::Config`] accepts.

#![forbid(unsafe_code)]

mod adguard;
mod blocky;
mod dnsdist;
mod dnsmasq;
mod draft;
mod unbound;
mod values;
mod yaml;

pub use draft::{Imported, Unmapped};

use draft::Draft;
use std::fmt;

/// Largest file that is imported, in bytes.
pub const BYTES_MAX: usize = 8 << 20;

/// Format of another server's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `unbound.conf`.
    Unbound,
    /// `dnsmasq.conf`.
    Dnsmasq,
    /// `AdGuardHome.yaml`.
    AdGuardHome,
    /// blocky's `config.yml`.
    Blocky,
    /// dnsdist's `dnsdist.yml`.
    Dnsdist,
}

/// Reason why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is too large.
    #[error("the file has {0} bytes: no configuration has more than {BYTES_MAX}")]
    Size(usize),
    /// The file is no YAML, or is beyond a bound.
    #[error("line {line}: {reason}")]
    Yaml {
        /// Line, from 1.
        line: usize,
        /// Reason.
        reason: String,
    },
    /// There are too many values.
    #[error("{0} values are too many for a configuration: put names and records into files")]
    Values(usize),
    /// Too much is refused.
    #[error("ringdns refuses too many of its values; one of them: {0}")]
    Refused(String),
}

impl Format {
    /// Returns the format that a file has by its name and its text; `None`: it cannot be told.
    pub fn detect(name: &str, text: &str) -> Option<Format> {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let by_name = [
            ("unbound", Format::Unbound),
            ("dnsmasq", Format::Dnsmasq),
            ("adguard", Format::AdGuardHome),
            ("blocky", Format::Blocky),
            ("dnsdist", Format::Dnsdist),
        ];
        let named = by_name.iter().find(|(word, _)| name.contains(word)).map(|(_, format)| *format);
        let starts = |word: &str| text.lines().any(|line| line.starts_with(word));
        named.or_else(|| match () {
            () if starts("schema_version:") => Some(Format::AdGuardHome),
            () if starts("backends:") || starts("binds:") => Some(Format::Dnsdist),
            () if starts("upstreams:") || starts("blocking:") => Some(Format::Blocky),
            () if starts("server:") || starts("forward-zone:") => Some(Format::Unbound),
            () if ["server=", "address=", "listen-address=", "cache-size=", "domain-needed"]
                .iter()
                .any(|word| starts(word)) =>
            {
                Some(Format::Dnsmasq)
            }
            () => None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Unbound => "Unbound",
            Format::Dnsmasq => "dnsmasq",
            Format::AdGuardHome => "AdGuard Home",
            Format::Blocky => "blocky",
            Format::Dnsdist => "dnsdist",
        })
    }
}

/// Returns the configuration of ringdns that another server's becomes. `name` names the file in
/// comments.
pub fn import(format: Format, text: &str, name: &str) -> Result<Imported, ImportError> {
    if text.len() > BYTES_MAX {
        return Err(ImportError::Size(text.len()));
    }
    let mut draft = Draft::default();
    match format {
        Format::Unbound => unbound::read(text, &mut draft),
        Format::Dnsmasq => dnsmasq::read(text, &mut draft),
        Format::AdGuardHome => adguard::read(&*yaml::parse(text)?, &mut draft),
        Format::Blocky => blocky::read(&*yaml::parse(text)?, &mut draft),
        Format::Dnsdist => dnsdist::read(&*yaml::parse(text)?, &mut draft),
    }
    draft.finish(name)
}
