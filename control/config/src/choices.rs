//! Values of keys that choose among a few words.

use serde::Deserialize;

/// Mode in which AF_XDP is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// The best mode that the interface and its driver offer.
    #[default]
    Auto,
    /// In the driver; the NIC writes packets straight into the UMEM.
    ZeroCopy,
    /// In the driver; the kernel copies packets.
    Copy,
    /// Behind the driver: works with every interface, and is slow.
    Generic,
}

impl XdpMode {
    /// Returns the mode's name in the file.
    pub fn label(self) -> &'static str {
        match self {
            XdpMode::Auto => "auto",
            XdpMode::ZeroCopy => "zero-copy",
            XdpMode::Copy => "copy",
            XdpMode::Generic => "generic",
        }
    }
}

/// Order in which upstreams are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The first upstream in the file that works.
    #[default]
    Failover,
    /// Each upstream in turn.
    RoundRobin,
    /// The upstream with the lowest recent latency.
    LowestLatency,
}

impl Strategy {
    /// Returns the strategy's name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Strategy::Failover => "failover",
            Strategy::RoundRobin => "round-robin",
            Strategy::LowestLatency => "lowest-latency",
        }
    }
}

/// Response to clients that the access list excludes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// Answers REFUSED.
    #[default]
    Answer,
    /// Sends nothing.
    Drop,
}

impl Refused {
    /// Returns the response's name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Answer => "answer",
            Refused::Drop => "drop",
        }
    }
}

/// Clients that must present a valid cookie, among those that send cookies at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// No client.
    #[default]
    Never,
    /// Clients that query over UDP.
    Udp,
}

impl Require {
    /// Returns the requirement's name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Require::Never => "never",
            Require::Udp => "udp",
        }
    }
}

/// Part of clients' addresses that the query log keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privacy {
    /// The whole address.
    #[default]
    None,
    /// The network of the address.
    Truncate,
    /// A keyed hash of the address.
    Hash,
}

impl Privacy {
    /// Returns the setting's name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Privacy::None => "none",
            Privacy::Truncate => "truncate",
            Privacy::Hash => "hash",
        }
    }
}
