//! Loads the steering program into the kernel, sets its listen addresses and sockets, and attaches
//! and detaches it.
//!
//! The order matters: [`Steering::load`] creates program and maps, [`Steering::add_socket`] gives
//! each queue its socket, and only then does [`Steering::attach`] let packets in. The attachment is
//! a BPF link, which lives as long as its file descriptor: however the process ends, the kernel
//! removes the program from the NIC.

#![forbid(unsafe_code)]

mod access;
mod error;
mod gate;
mod host;
pub mod netlink;
mod vlan;

pub use access::AccessRules;
pub use error::{SteerError, Step};
pub use gate::{Gate, NEEDED, grant, lacking};
pub use ringdns_abi::{AddressKind, MAX_ACCESS, MAX_BANS};

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{ProgramError, Xdp, XdpMode, links::FdLink},
    util::KernelVersion,
};
use ringdns_abi::{
    ACCESS_MAP, ACCESS_SIDE_MAP, HOST_ADDRESSES_MAP, HostAddress, LINK_ADDRESSES_MAP, LISTEN_MAP, ListenKey,
    MAX_HOST_ADDRESSES, MAX_LISTEN, MAX_QUEUES, SOCKETS_MAP, STEER_FRAGS_PROGRAM, STEER_PROGRAM,
    VERDICTS_MAP, VLANS_MAP, Verdict, VlanKey,
};
use ringdns_dataplane::prefix::Prefix;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use access::AccessMaps;
use error::{chain, release};
use host::{HostTables, Listed};
use netlink::Netlink;

/// Object file that `ebpf/build.sh` built. It is committed, so that building ringdns needs no BPF
/// toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/steer.bpf.o");

/// Interface and addresses to steer.
#[derive(Clone, Copy, Debug)]
pub struct SteerConfig<'a> {
    pub interface: &'a str,
    /// Listen addresses. An unspecified one (`0.0.0.0`, `[::]`) stands for every address of this host
    /// in its family.
    pub listen: &'a [SocketAddr],
    /// 802.1Q VLANs whose frames are steered, besides those that have a device on the interface.
    pub vlans: &'a [u16],
    /// Prefixes of addresses, and what they are in place of what the kernel's local routes say. Empty
    /// but for a load generator, which receives for clients that its host does not have.
    pub prefixes: &'a [(IpAddr, u8, AddressKind)],
    pub mode: AttachMode,
}

/// Places in the receive path at which the program may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver if it supports that, else in the network stack.
    #[default]
    Auto,
    Driver,
    Generic,
}

/// Place in the receive path at which the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    Driver,
    /// After the kernel has built an skb for the packet: works on every NIC, at a fraction of the
    /// rate.
    Generic {
        /// Reason why the driver refused the program, if it was asked.
        refusal: Option<String>,
    },
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver => f.write_str("driver"),
            Self::Generic { refusal: None } => f.write_str("generic"),
            Self::Generic { refusal: Some(reason) } => {
                write!(f, "generic, because the driver refused: {reason}")
            }
        }
    }
}

/// Numbers of packets by verdict since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict.index() as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL.into_iter().map(|verdict| (verdict, self.get(verdict)))
    }

    /// Returns the number of all packets that the program has seen.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Steering program of one interface. Dropping it removes the program from the interface.
pub struct Steering {
    // First, so that it is dropped first: no packet may reach a program whose sockets are being
    // closed.
    link: Option<FdLink>,
    interface: String,
    interface_index: u32,
    mode: AttachMode,
    listen: HashMap<MapData, ListenKey, u32>,
    sockets: XskMap<MapData>,
    links: Array<MapData, u64>,
    vlans: HashMap<MapData, VlanKey, u32>,
    addresses: LpmTrie<MapData, HostAddress, AddressKind>,
    /// Contents of the three maps above.
    host: HostTables,
    access: AccessMaps,
    netlink: Netlink,
    listed: Listed,
    tally: VerdictReader,
    programs: Ebpf,
    /// Name of the loaded program.
    program: &'static str,
    notices: Vec<String>,
}

/// Reader of the program's counters. Attaching or detaching the program does not block it.
#[derive(Clone)]
pub struct VerdictReader(Arc<PerCpuArray<MapData, u64>>);

impl VerdictReader {
    /// Returns the numbers of packets so far by verdict, over all CPUs.
    pub fn verdicts(&self) -> Result<Verdicts, SteerError> {
        let mut sums = [0; Verdict::ALL.len()];
        for (sum, verdict) in sums.iter_mut().zip(Verdict::ALL) {
            let per_cpu = self
                .0
                .get(&verdict.index(), 0)
                .map_err(|error| SteerError::refused(Step::ReadVerdicts, error))?;
            *sum = per_cpu.iter().sum();
        }
        Ok(Verdicts(sums))
    }
}

impl Steering {
    /// Loads the program and sets its listen addresses. Nothing is steered before
    /// [`attach`](Self::attach).
    pub fn load(config: &SteerConfig<'_>) -> Result<Self, SteerError> {
        let interface_index = interface_index(config.interface)?;
        check_listen(config.listen)?;
        check_kernel()?;
        if let Some(gate) = gate::known_to_be_shut() {
            return Err(SteerError::Shut { step: Step::CreateMaps, gate });
        }
        let notices = vlan::check(config.interface, config.listen)?.into_iter().collect();

        let mut programs =
            EbpfLoader::new().load(OBJECT).map_err(|error| SteerError::refused(Step::CreateMaps, error))?;
        let program = load_program(&mut programs)?;

        let mut steering = Self {
            link: None,
            interface: config.interface.to_owned(),
            interface_index,
            mode: config.mode,
            listen: take_map(&mut programs, LISTEN_MAP)?,
            sockets: take_map(&mut programs, SOCKETS_MAP)?,
            links: take_map(&mut programs, LINK_ADDRESSES_MAP)?,
            vlans: take_map(&mut programs, VLANS_MAP)?,
            addresses: take_map(&mut programs, HOST_ADDRESSES_MAP)?,
            host: HostTables::default(),
            access: AccessMaps::new(
                take_map(&mut programs, ACCESS_MAP)?,
                take_map(&mut programs, ACCESS_SIDE_MAP)?,
            ),
            netlink: Netlink::open().map_err(|error| SteerError::refused(Step::OpenNetlink, error))?,
            listed: Listed {
                vlans: config.vlans.to_vec(),
                prefixes: config.prefixes.to_vec(),
                bans: Vec::new(),
            },
            tally: VerdictReader(Arc::new(take_map(&mut programs, VERDICTS_MAP)?)),
            programs,
            program,
            notices,
        };
        steering.set_listen(config.listen)?;
        Ok(steering)
    }

    /// Replaces the listen addresses. Those in both the old and the new set are steered without a
    /// gap.
    pub fn set_listen(&mut self, listen: &[SocketAddr]) -> Result<(), SteerError> {
        check_listen(listen)?;
        let failed = |error| SteerError::refused(Step::SetListen, error);

        let wanted: Vec<ListenKey> = listen.iter().copied().map(ListenKey::from).collect();
        let present = self.listen.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        // Remove the old ones first: both sets together may exceed the map.
        for key in present.iter().filter(|key| !wanted.contains(key)) {
            self.listen.remove(key).map_err(failed)?;
        }
        for (position, key) in (0..).zip(&wanted) {
            self.listen.insert(key, position, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Steers packets from `queue` to `socket`, which must be an AF_XDP socket bound to that queue
    /// of the interface.
    ///
    /// The map refers to the socket until the socket is closed.
    pub fn add_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        if queue >= MAX_QUEUES {
            return Err(SteerError::NoSuchQueue { queue });
        }
        self.sockets
            .set(queue, socket.as_raw_fd(), 0)
            .map_err(|error| SteerError::Socket { queue, reason: chain(&error) })
    }

    /// Updates the addresses, MAC addresses and VLANs of this host, which may have changed: what is
    /// not for this host is left to the kernel. If they cannot be read, everything is.
    pub fn look_at_host(&mut self) -> Result<(), SteerError> {
        match host::look(&mut self.netlink, self.interface_index, &self.listed) {
            Ok(found) => self.set_host(found),
            Err(error) => {
                let none = HostTables { addresses: Default::default(), left_out: 0, ..self.host.clone() };
                self.set_host(none)?;
                Err(SteerError::refused(Step::ReadHost, error))
            }
        }
    }

    /// Drops queries from clients in these prefixes, at most [`MAX_BANS`], in place of those of the
    /// last call. Prefixes that have addresses of this host are left out.
    pub fn set_bans(&mut self, bans: Vec<Prefix>) -> Result<(), SteerError> {
        let mut wanted = self.host.clone();
        wanted.set_bans(&bans);
        self.listed.bans = bans;
        self.set_host(wanted)
    }

    /// Drops queries from clients that these rules deny; `None`, and after an error: workers decide.
    /// So they do if there are more than [`MAX_ACCESS`] rules, as a notice says. Each packet is
    /// decided by the rules of one call.
    pub fn set_access(&mut self, rules: Option<AccessRules>) -> Result<(), SteerError> {
        self.access.set(rules).map_err(|error| SteerError::refused(Step::SetAccess, error))
    }

    /// Returns the number of rules of the access list that the program decides by; `None`: workers
    /// decide.
    pub fn access_rules(&self) -> Option<usize> {
        self.access.in_effect()
    }

    /// Writes the changes of the tables into the maps. `self.host` is always what the maps have.
    fn set_host(&mut self, wanted: HostTables) -> Result<(), SteerError> {
        let failed = |error| SteerError::refused(Step::SetHost, error);
        if wanted.links != self.host.links {
            for (place, address) in (0..).zip(wanted.links) {
                self.links.set(place, address, 0).map_err(failed)?;
            }
            self.host.links = wanted.links;
        }
        let present = self.host.vlans.clone();
        for gone in present.difference(&wanted.vlans) {
            self.vlans.remove(gone).map_err(failed)?;
            self.host.vlans.remove(gone);
        }
        for new in wanted.vlans.difference(&present) {
            self.vlans.insert(new, 0, 0).map_err(failed)?;
            self.host.vlans.insert(*new);
        }
        let key = |&(address, bits): &(HostAddress, u32)| Key::new(bits, address);
        // The new ones first, since they may be parts of the old ones. Both sets fit.
        for (prefix, kind) in &wanted.addresses {
            if self.host.addresses.get(prefix) != Some(kind) {
                self.addresses.insert(&key(prefix), *kind, 0).map_err(failed)?;
                self.host.addresses.insert(*prefix, *kind);
            }
        }
        let present: Vec<_> = self.host.addresses.keys().copied().collect();
        for gone in present.iter().filter(|prefix| !wanted.addresses.contains_key(prefix)) {
            self.addresses.remove(&key(gone)).map_err(failed)?;
            self.host.addresses.remove(gone);
        }
        self.host.left_out = wanted.left_out;
        Ok(())
    }

    /// Attaches the program: the last step, after every socket is in place.
    ///
    /// Fails if the interface already runs an XDP program, which it keeps. In [`AttachMode::Auto`],
    /// if the driver has no XDP or refuses it for its present settings, the generic mode is used,
    /// and the result gives the reason. Call it in the network namespace in which
    /// [`load`](Self::load) was called.
    pub fn attach(&mut self) -> Result<Attachment, SteerError> {
        if self.link.is_some() {
            return Err(SteerError::Occupied { interface: self.interface.clone() });
        }
        self.look_at_host()?;
        let refusal = match self.mode {
            AttachMode::Generic => None,
            AttachMode::Auto | AttachMode::Driver => match self.attach_in(XdpMode::Driver) {
                Ok(()) => return Ok(Attachment::Driver),
                Err(SteerError::NoDriverMode { reason, nic, .. }) if self.mode == AttachMode::Auto => {
                    Some(format!("{reason} ({nic})"))
                }
                Err(error) => return Err(error),
            },
        };
        self.attach_in(XdpMode::Skb)?;
        Ok(Attachment::Generic { refusal })
    }

    fn attach_in(&mut self, mode: XdpMode) -> Result<(), SteerError> {
        let program = program(&mut self.programs, self.program)?;
        let link = program
            .attach_to_if_index(self.interface_index, mode)
            .and_then(|link| program.take_link(link))
            .map_err(|error| SteerError::from_attach(&self.interface, mode, error))?;
        let link = FdLink::try_from(link)
            .map_err(|_| SteerError::LeftBehind { interface: self.interface.clone() })?;
        self.link = Some(link);
        Ok(())
    }

    /// Removes the program from the interface. Keeps sockets, listen addresses and counters for
    /// another [`attach`].
    ///
    /// [`attach`]: Self::attach
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Returns the index of the interface that the program is attached to, or will be.
    pub fn interface_index(&self) -> u32 {
        self.interface_index
    }

    /// Sets the index of the interface for the next [`attach`](Self::attach): an interface that was
    /// created again under the same name has another index. Its queues need new sockets.
    pub fn set_interface_index(&mut self, index: u32) {
        self.interface_index = index;
    }

    /// Returns the id that the kernel gave the program.
    pub fn program_id(&mut self) -> Result<u32, SteerError> {
        let info = program(&mut self.programs, self.program)?.info();
        Ok(info.map_err(|error| SteerError::refused(Step::LoadProgram, error))?.id())
    }

    /// Returns the reader of the program's counters.
    pub fn tally(&self) -> VerdictReader {
        self.tally.clone()
    }

    /// Returns the numbers of packets so far by verdict, over all CPUs.
    pub fn verdicts(&self) -> Result<Verdicts, SteerError> {
        self.tally.verdicts()
    }

    /// Updates the notices of the interface, which may have been created again or reconfigured.
    /// Refuses an interface that strips VLAN tags and has a VLAN device with an address of
    /// `listen`.
    pub fn look(&mut self, listen: &[SocketAddr]) -> Result<(), SteerError> {
        self.notices = vlan::check(&self.interface, listen)?.into_iter().collect();
        Ok(())
    }

    /// Returns the notices of the interface, one sentence each.
    pub fn notices(&self) -> Vec<String> {
        let full = (self.host.left_out > 0).then(|| {
            format!(
                "this host has {} local routes more than the {MAX_HOST_ADDRESSES} that the XDP program holds: \
                 kernel sockets serve queries to their addresses, which is slower. `ip route show table local` \
                 lists them; use prefixes in place of many addresses",
                self.host.left_out
            )
        });
        self.notices.iter().cloned().chain(full).chain(self.access.notice()).collect()
    }

    /// Whether the loaded program accepts frames in several buffers, as they come if the MTU
    /// exceeds a page.
    pub fn takes_frags(&self) -> bool {
        self.program == STEER_FRAGS_PROGRAM
    }

    /// Returns the program itself, for tests that run it on their own packets.
    pub fn program(&mut self) -> Result<&mut Xdp, SteerError> {
        program(&mut self.programs, self.program)
    }
}

fn check_listen(listen: &[SocketAddr]) -> Result<(), SteerError> {
    if listen.len() > MAX_LISTEN as usize {
        return Err(SteerError::TooManyListeners { count: listen.len() });
    }
    Ok(())
}

fn interface_index(interface: &str) -> Result<u32, SteerError> {
    let none = || SteerError::NoInterface { interface: interface.to_owned() };
    // The ioctl works on any socket: it only uses its network namespace.
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|errno| SteerError::Failed { step: Step::FindInterface, reason: errno.to_string() })?;
    name_to_index(&any, interface).map_err(|_| none())
}

/// Refuses a kernel without XDP links: aya would attach over netlink, and such a program outlives its process.
fn check_kernel() -> Result<(), SteerError> {
    let is_old = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 9, 0));
    if is_old { Err(SteerError::OldKernel { release: release() }) } else { Ok(()) }
}

/// Loads the program for frames in several buffers or, if the kernel does not support it (before
/// 5.18), the other. Returns the name of the loaded program.
fn load_program(programs: &mut Ebpf) -> Result<&'static str, SteerError> {
    let Err(error) = program(programs, STEER_FRAGS_PROGRAM)?.load() else { return Ok(STEER_FRAGS_PROGRAM) };
    tracing::debug!("this kernel does not support XDP frames in several buffers: {}", chain(&error));
    let loaded = program(programs, STEER_PROGRAM)?.load();
    loaded.map_err(|error| SteerError::refused(Step::LoadProgram, error)).map(|()| STEER_PROGRAM)
}

fn program<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, SteerError> {
    let program = programs.program_mut(name).ok_or(SteerError::WrongObject { what: name })?;
    program.try_into().map_err(|_: ProgramError| SteerError::WrongObject { what: name })
}

fn take_map<M>(programs: &mut Ebpf, name: &'static str) -> Result<M, SteerError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = programs.take_map(name).ok_or(SteerError::WrongObject { what: name })?;
    M::try_from(map).map_err(|_| SteerError::WrongObject { what: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the object with an endless loop in place of each exit, which the verifier rejects.
    fn endless() -> Vec<u8> {
        const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
        const JUMP_TO_ITSELF: [u8; 8] = [0x05, 0, 0xff, 0xff, 0, 0, 0, 0];
        let mut object = OBJECT.to_vec();
        let (instructions, _) = object.as_chunks_mut::<8>();
        instructions.iter_mut().filter(|it| **it == EXIT).for_each(|it| *it = JUMP_TO_ITSELF);
        object
    }

    #[test]
    fn a_refusal_of_the_verifier_is_one_line() {
        if !ringdns_testkit::privilege::granted() {
            return;
        }
        let mut programs = EbpfLoader::new().load(&endless()).expect("the maps");
        let error = load_program(&mut programs).expect_err("no exit");
        assert!(matches!(&error, SteerError::Verifier { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("the verifier of Linux {} refuses", release())), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        // An attempt of which only the reason is logged, like that for the program for several
        // buffers.
        let error = program(&mut programs, STEER_PROGRAM).and_then(|program| {
            program.load().map_err(|error| SteerError::from_attach("eth0", XdpMode::Skb, error))
        });
        assert_eq!(error.expect_err("no exit").to_string().lines().count(), 1);
    }
}
