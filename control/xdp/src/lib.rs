//! The steering program in the kernel: loading it, telling it whom to steer, and taking it away again.
//!
//! The order matters and the types keep it: [`Steering::load`] makes program and maps,
//! [`Steering::add_socket`] gives each queue its socket, and only then does [`Steering::attach`] let packets
//! in. The attachment is a BPF link, which lives as long as its file descriptor: however the process ends,
//! the kernel takes the program off the NIC.

mod error;
mod gate;
mod vlan;

pub use error::{SteerError, Step};
pub use gate::Gate;

use std::{
    fmt,
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, XskMap},
    programs::{ProgramError, Xdp, XdpMode, links::FdLink},
    util::KernelVersion,
};
use ringdns_abi::{
    LISTEN_MAP, ListenKey, MAX_LISTEN, MAX_QUEUES, SOCKETS_MAP, STEER_FRAGS_PROGRAM, STEER_PROGRAM,
    VERDICTS_MAP, Verdict,
};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use error::{chain, release};

/// The program that `ebpf/build.sh` built. Committed, so that building ringdns takes no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/steer.bpf.o");

/// What to steer, and from where.
#[derive(Clone, Copy, Debug)]
pub struct SteerConfig<'a> {
    pub interface: &'a str,
    /// An unspecified address (`0.0.0.0`, `[::]`) stands for every address of its own family.
    pub listen: &'a [SocketAddr],
    pub mode: AttachMode,
}

/// Where in the receive path the program may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver if it can, else in the network stack.
    #[default]
    Auto,
    Driver,
    Generic,
}

/// Where in the receive path the program does run, and why not further down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    Driver,
    /// After the kernel has made an skb of the packet: works on every NIC, at a fraction of the rate.
    Generic {
        /// Why the driver would not have it, if it was asked.
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

/// Packets by what became of them, since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts([u64; Verdict::ALL.len()]);

impl Verdicts {
    pub fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict.index() as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL.into_iter().map(|verdict| (verdict, self.get(verdict)))
    }

    /// Every packet that the program has seen.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The steering program of one interface. Dropping it takes the program off the interface.
pub struct Steering {
    // First, so that it is dropped first: no packet may meet a program whose sockets are being closed.
    link: Option<FdLink>,
    interface: String,
    interface_index: u32,
    mode: AttachMode,
    listen: HashMap<MapData, ListenKey, u32>,
    sockets: XskMap<MapData>,
    tally: Tally,
    programs: Ebpf,
    /// Name of the one that is loaded.
    program: &'static str,
    notices: Vec<String>,
}

/// Reads the program's counters. Whoever attaches or detaches the program meanwhile does not hold it up.
#[derive(Clone)]
pub struct Tally(Arc<PerCpuArray<MapData, u64>>);

impl Tally {
    /// Returns the packets so far by verdict, over all CPUs.
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
    /// Loads the program and its listen set. Nothing is steered before [`attach`](Self::attach).
    pub fn load(config: &SteerConfig<'_>) -> Result<Self, SteerError> {
        let interface_index = interface_index(config.interface)?;
        check_listen(config.listen)?;
        check_kernel()?;
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
            tally: Tally(Arc::new(take_map(&mut programs, VERDICTS_MAP)?)),
            programs,
            program,
            notices,
        };
        steering.set_listen(config.listen)?;
        Ok(steering)
    }

    /// Replaces the listen set. Addresses in both the old and the new set are steered without a gap.
    pub fn set_listen(&mut self, listen: &[SocketAddr]) -> Result<(), SteerError> {
        check_listen(listen)?;
        let failed = |error| SteerError::refused(Step::SetListen, error);

        let wanted: Vec<ListenKey> = listen.iter().copied().map(ListenKey::from).collect();
        let present = self.listen.keys().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        // The old ones go first: the two sets together may be more than the map holds.
        for key in present.iter().filter(|key| !wanted.contains(key)) {
            self.listen.remove(key).map_err(failed)?;
        }
        for (position, key) in (0..).zip(&wanted) {
            self.listen.insert(key, position, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Gives what arrives on `queue` to `socket`, which must be an AF_XDP socket bound to that queue of the
    /// interface.
    ///
    /// The map holds the socket from then on; it lets go when the socket is closed.
    pub fn add_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        if queue >= MAX_QUEUES {
            return Err(SteerError::NoSuchQueue { queue });
        }
        self.sockets
            .set(queue, socket.as_raw_fd(), 0)
            .map_err(|error| SteerError::Socket { queue, reason: chain(&error) })
    }

    /// Lets packets in: the last step, when every socket is in place.
    ///
    /// An interface that already runs an XDP program keeps it, and this fails. In [`AttachMode::Auto`], a
    /// driver that has no XDP, or refuses it for its present settings, gets the generic mode instead, and the
    /// answer says why. To be called in the network namespace that [`load`](Self::load) was called in.
    pub fn attach(&mut self) -> Result<Attachment, SteerError> {
        if self.link.is_some() {
            return Err(SteerError::Occupied { interface: self.interface.clone() });
        }
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

    /// Takes the program off the interface, and keeps sockets, listen set and counters for another
    /// [`attach`].
    ///
    /// [`attach`]: Self::attach
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// The number of the interface that the program is attached to, or will be.
    pub fn interface_index(&self) -> u32 {
        self.interface_index
    }

    /// Names another interface for the next [`attach`](Self::attach): what was made anew under the same name has another
    /// number. Its queues need sockets of their own.
    pub fn set_interface_index(&mut self, index: u32) {
        self.interface_index = index;
    }

    /// The number that the kernel gave the program.
    pub fn program_id(&mut self) -> Result<u32, SteerError> {
        let info = program(&mut self.programs, self.program)?.info();
        Ok(info.map_err(|error| SteerError::refused(Step::LoadProgram, error))?.id())
    }

    /// Returns the reader of the program's counters.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// What became of the packets so far, over all CPUs.
    pub fn verdicts(&self) -> Result<Verdicts, SteerError> {
        self.tally.verdicts()
    }

    /// Looks again at what of the interface an operator should know, as it may have been made anew or set up otherwise.
    /// Refuses one that takes VLAN tags off and has a VLAN device with an address of `listen`.
    pub fn look(&mut self, listen: &[SocketAddr]) -> Result<(), SteerError> {
        self.notices = vlan::check(&self.interface, listen)?.into_iter().collect();
        Ok(())
    }

    /// Notices of the interface, a sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Whether frames in several buffers may come, as they do where the MTU exceeds a page.
    pub fn takes_frags(&self) -> bool {
        self.program == STEER_FRAGS_PROGRAM
    }

    /// The program itself: what tests run on packets of their own.
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
    // Any socket will do to ask with: the ioctl only looks at its network namespace.
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|errno| SteerError::Failed { step: Step::FindInterface, reason: errno.to_string() })?;
    name_to_index(&any, interface).map_err(|_| none())
}

/// Refuses a kernel without XDP links: aya would attach over netlink, and such a program outlives its process.
fn check_kernel() -> Result<(), SteerError> {
    let is_old = KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(5, 9, 0));
    if is_old { Err(SteerError::OldKernel { release: release() }) } else { Ok(()) }
}

/// Loads the program for frames in several buffers or, where the kernel has none of its kind (before 5.18), the other.
/// Returns the name of the one that is loaded.
fn load_program(programs: &mut Ebpf) -> Result<&'static str, SteerError> {
    let Err(error) = program(programs, STEER_FRAGS_PROGRAM)?.load() else { return Ok(STEER_FRAGS_PROGRAM) };
    tracing::debug!("frames in several buffers are not for this kernel: {}", chain(&error));
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
#[cfg(test)]
mod tests {
    use super::*;

    /// The object with a loop in place of each exit: no verifier takes that.
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
        // An attempt of which only the reason is told, as that of the program for several buffers.
        let error = program(&mut programs, STEER_PROGRAM).and_then(|program| {
            program.load().map_err(|error| SteerError::from_attach("eth0", XdpMode::Skb, error))
        });
        assert_eq!(error.expect_err("no exit").to_string().lines().count(), 1);
    }
}
