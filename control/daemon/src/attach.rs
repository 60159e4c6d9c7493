//! Attachment of the XDP program and of AF_XDP sockets to the queues of an interface.

use crate::workers::{OpenedSocket, StartError};
use ringdns_dataplane::port::{nic::Nic, xsk::Opened};
use ringdns_xdp::{SteerError, Steering};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

/// Reason why queries cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// The XDP program cannot be used.
    #[error("{0}")]
    Steer(#[from] SteerError),
    /// A worker cannot start.
    #[error("{0}")]
    Worker(#[from] StartError),
    /// The kernel does not report changes of network interfaces.
    #[error(
        "the kernel does not report network interfaces: {0}. Let the process open netlink sockets (systemd: add \
         AF_NETLINK to RestrictAddressFamilies=)"
    )]
    Watch(#[source] io::Error),
}

/// Opens the listed queues, or all of the interface, up to `limit`, one for each worker. Returns
/// their numbers and sockets.
pub(crate) fn each_queue(
    interface: &str,
    listed: Option<&[u32]>,
    limit: usize,
    mut open: impl FnMut(usize, u32) -> Result<OpenedSocket, StartError>,
) -> Result<Vec<(u32, OwnedFd, Opened)>, EntranceError> {
    let queues = queues(interface, listed);
    if queues.len() > limit {
        tracing::warn!(
            "{interface} has {} receive queues, and there are workers for {limit}: kernel sockets serve the others, which \
             is slower, until ringdnsd is restarted",
            queues.len()
        );
    }
    let mut sockets = Vec::new();
    for (worker, queue) in queues.into_iter().enumerate().take(limit) {
        if let Some((socket, opened)) = open(worker, queue)? {
            sockets.push((queue, socket, opened));
        }
    }
    Ok(sockets)
}

/// Gives the program the sockets of its queues and attaches it. Returns the sockets, and a
/// description of how packets are received.
pub(crate) fn steer(
    interface: &str,
    steering: &mut Steering,
    sockets: Vec<(u32, OwnedFd, Opened)>,
) -> Result<(Vec<OwnedFd>, String), EntranceError> {
    for (queue, socket, _) in &sockets {
        steering.add_socket(*queue, socket.as_fd())?;
    }
    let attachment = steering.attach()?;
    let queues = sockets.len();
    let how = sockets.first().map_or_else(String::new, |(.., how)| format!("{} ({})", how.mode, how.reason));
    let text = format!("AF_XDP on {interface}, queues: {queues}, program: {attachment}, sockets: {how}");
    Ok((sockets.into_iter().map(|(_, socket, _)| socket).collect(), text))
}

/// Returns the queues to serve: the listed ones, or all of the interface.
fn queues(interface: &str, listed: Option<&[u32]>) -> Vec<u32> {
    if let Some(queues) = listed {
        return queues.to_vec();
    }
    let count = Nic::look(interface).queues.unwrap_or_else(|| {
        tracing::warn!(
            "neither the driver of {interface} nor sysfs tells how many receive queues it has: serving queue 0, and \
             kernel sockets the others; list them in server.queues"
        );
        1
    });
    (0..count).collect()
}
