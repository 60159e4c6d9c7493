//! Current way of receiving packets, for `status`, `/readyz` and metrics.

use parking_lot::Mutex;
use ringdns_common::counters;
use std::{
    fmt,
    time::{Duration, Instant},
};

counters! {
    /// Events of the interface.
    InterfaceCounters {
        /// Times that AF_XDP was lost: the interface went away, or its XDP program was detached.
        lost,
        /// Times that AF_XDP was attached again after a loss.
        regained,
        /// Failed attempts to attach AF_XDP again after a loss.
        refused,
        /// Times that the link of the interface went down.
        link_downs,
    }
}

/// Way in which packets are received, and state of the link.
#[derive(Debug)]
pub struct Receiving {
    /// Counts of the interface's events so far.
    pub counters: InterfaceCounters,
    state: Mutex<ReceivingState>,
}

#[derive(Debug)]
struct ReceivingState {
    way: Way,
    link: LinkState,
}

/// State of the interface's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The link is up, as far as is known.
    Up,
    /// The interface is switched off or has no carrier.
    Down,
    /// The interface does not exist.
    Gone,
}

#[derive(Debug)]
enum Way {
    /// Over kernel sockets since the start.
    Sockets { text: String },
    /// Over AF_XDP.
    Xdp { interface: String, text: String },
    /// Over kernel sockets until AF_XDP can be attached again.
    Lost { interface: String, since: Instant, reason: String, refusal: Option<String>, suffices: bool },
}

impl Receiving {
    /// Returns the state of reception over kernel sockets. `text` says so, and the reason.
    pub fn over_sockets(text: impl Into<String>) -> Self {
        Self::new(Way::Sockets { text: text.into() })
    }

    /// Returns the state of reception over AF_XDP on an interface. `text` describes it.
    pub fn by_xdp(interface: &str, text: String) -> Self {
        Self::new(Way::Xdp { interface: interface.to_owned(), text })
    }

    fn new(way: Way) -> Self {
        let state = Mutex::new(ReceivingState { way, link: LinkState::Up });
        Receiving { counters: InterfaceCounters::default(), state }
    }

    /// Records that AF_XDP was lost. `suffices`: whether kernel sockets may replace it
    /// (`server.fallback`).
    pub(super) fn set_lost(&self, interface: &str, reason: String, suffices: bool) {
        let (interface, since) = (interface.to_owned(), Instant::now());
        self.state.lock().way = Way::Lost { interface, since, reason, refusal: None, suffices };
        self.counters.lost.inc();
    }

    /// Records a failed attempt to attach AF_XDP again. Returns true if it is the first, or has
    /// another reason than the last.
    pub(super) fn set_refused(&self, why: &str) -> bool {
        self.counters.refused.inc();
        let Way::Lost { refusal, .. } = &mut self.state.lock().way else { return false };
        refusal.replace(why.to_owned()).is_none_or(|before| before != why)
    }

    /// Records that AF_XDP was attached again. Returns the time for which it was lost.
    pub(super) fn set_regained(&self, interface: &str, text: String) -> Duration {
        let way = Way::Xdp { interface: interface.to_owned(), text };
        let before = std::mem::replace(&mut self.state.lock().way, way);
        self.counters.regained.inc();
        match before {
            Way::Lost { since, .. } => since.elapsed(),
            Way::Sockets { .. } | Way::Xdp { .. } => Duration::ZERO,
        }
    }

    /// Records the state of the link. Returns the one before.
    pub(super) fn set_link(&self, link: LinkState) -> LinkState {
        std::mem::replace(&mut self.state.lock().link, link)
    }

    /// Whether AF_XDP is in use; `None`: it could not be attached at the start, or is not
    /// configured.
    pub fn is_by_xdp(&self) -> Option<bool> {
        match self.state.lock().way {
            Way::Sockets { .. } => None,
            Way::Xdp { .. } => Some(true),
            Way::Lost { .. } => Some(false),
        }
    }

    /// Returns the state of the link.
    pub fn link(&self) -> LinkState {
        self.state.lock().link
    }

    /// Returns the reason why clients get no answers, if they get none.
    pub fn obstacle(&self) -> Option<String> {
        let state = self.state.lock();
        match (&state.way, state.link) {
            (Way::Sockets { .. }, _) => None,
            (Way::Xdp { interface, .. } | Way::Lost { interface, .. }, LinkState::Gone) => {
                Some(format!("interface {interface} is gone"))
            }
            (Way::Xdp { interface, .. } | Way::Lost { interface, .. }, LinkState::Down) => {
                Some(format!("the link of {interface} is down"))
            }
            (Way::Lost { interface, suffices: false, .. }, LinkState::Up) => {
                Some(format!("AF_XDP on {interface} was lost, and server.fallback = false"))
            }
            (Way::Xdp { .. } | Way::Lost { .. }, LinkState::Up) => None,
        }
    }
}

impl fmt::Display for Receiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        match &state.way {
            Way::Sockets { text } => return f.write_str(text),
            Way::Xdp { text, .. } => f.write_str(text)?,
            Way::Lost { interface, since, reason, refusal, .. } => {
                let seconds = since.elapsed().as_secs();
                write!(
                    f,
                    "kernel sockets, because AF_XDP on {interface} was lost {seconds} s ago: {reason}"
                )?;
                if let Some(refusal) = refusal {
                    write!(f, "; it cannot be attached again yet: {refusal}")?;
                }
            }
        }
        match state.link {
            LinkState::Down => f.write_str("; the link is down"),
            LinkState::Up | LinkState::Gone => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_so_is_said_and_why_clients_get_no_answers() {
        let receiving = Receiving::by_xdp("eth1", "AF_XDP on eth1".into());
        assert_eq!((receiving.to_string().as_str(), receiving.obstacle()), ("AF_XDP on eth1", None));
        assert_eq!(receiving.set_link(LinkState::Down), LinkState::Up);
        assert_eq!(receiving.to_string(), "AF_XDP on eth1; the link is down");
        assert_eq!(receiving.obstacle().unwrap(), "the link of eth1 is down");

        receiving.set_lost("eth1", "it is gone".into(), true);
        receiving.set_link(LinkState::Gone);
        assert_eq!(
            receiving.to_string(),
            "kernel sockets, because AF_XDP on eth1 was lost 0 s ago: it is gone"
        );
        assert_eq!(receiving.obstacle().unwrap(), "interface eth1 is gone");
        receiving.set_link(LinkState::Up);
        assert_eq!((receiving.obstacle(), receiving.is_by_xdp()), (None, Some(false)));
        assert!(
            receiving.set_refused("busy") && !receiving.set_refused("busy") && receiving.set_refused("no")
        );
        assert!(receiving.to_string().ends_with(": it is gone; it cannot be attached again yet: no"));

        receiving.set_regained("eth1", "AF_XDP again".into());
        assert_eq!((receiving.to_string().as_str(), receiving.is_by_xdp()), ("AF_XDP again", Some(true)));
        let values: Vec<_> = receiving.counters.totals().iter().map(|total| total.value).collect();
        assert_eq!(values, [1, 1, 3, 0]);
    }

    #[test]
    fn without_fallback_kernel_sockets_do_not_do() {
        let receiving = Receiving::by_xdp("eth1", String::new());
        receiving.set_lost("eth1", String::new(), false);
        assert!(receiving.obstacle().unwrap().contains("server.fallback = false"));
    }

    #[test]
    fn what_has_no_interface_depends_on_none() {
        let receiving = Receiving::over_sockets("kernel sockets");
        receiving.set_link(LinkState::Gone);
        assert_eq!((receiving.to_string().as_str(), receiving.obstacle()), ("kernel sockets", None));
        assert_eq!(receiving.is_by_xdp(), None);
    }
}
