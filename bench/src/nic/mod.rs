//! `ringbench nic`: measures ringdns on a NIC, in every mode that its driver has.

mod guard;
mod load;
mod page;
mod prepare;
mod programs;
mod setting;
mod subject;
mod trial;

use crate::{built, put_back::PutBack, setup::Setup};
use anyhow::{Context, Result, bail, ensure};
use load::{Peer, Port};
use page::Conditions;
use prepare::Change;
use programs::Programs;
use ringdns_doctor::{
    host::Host,
    nic::{Nic, class},
};
use rustix::{process::geteuid, thread::sched_getaffinity};
use setting::{Mode, Setting, Tuning};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};
use subject::{Running, Subject};
use tempfile::TempDir;
use trial::{Schedule, Trials};

/// Measures ringdnsd and a bare responder on a NIC, in every mode of AF_XDP that its driver has, and writes a folder that
/// can be sent to the project.
///
/// Each mode (zero-copy, copy in the driver, generic) is tried as it is, then with busy polling,
/// with threaded NAPI and on huge pages. Queries come from a second port of this host, wired to the
/// first (--peer-interface), or from another host (--peer); the command to start there is printed.
/// Changes to the machine are announced beforehand and undone at the end, also after an error or a
/// signal. MAC and IP addresses are masked in all output files. Needs root, and ringdnsd and
/// ringctl beside this program.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface of the NIC.
    #[arg(long)]
    pub interface: String,
    /// A second port of this host, wired to the first: it is moved into a network namespace and
    /// sends queries from there.
    #[arg(long, value_name = "INTERFACE", conflicts_with = "peer")]
    pub peer_interface: Option<String>,
    /// Address of another host that sends queries.
    #[arg(long, value_name = "ADDRESS")]
    pub peer: Option<IpAddr>,
    /// Address of the interface that the other host asks. Default: the interface's first address.
    #[arg(long, value_name = "ADDRESS", requires = "peer")]
    pub listen: Option<IpAddr>,
    /// Folder for the results, which must not exist yet.
    #[arg(long, value_name = "DIR", default_value = "ringdns-nic")]
    pub out: PathBuf,
    /// Print facts and plan, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Shorter measurements, and tunings only in the first mode that works.
    #[arg(long)]
    pub quick: bool,
    /// Try only these modes.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MODE")]
    pub mode: Vec<Mode>,
    /// Try only these tunings. `none` is the mode as it is, which is always tried.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TUNING")]
    pub tuning: Vec<Tuning>,
    /// Length of a measurement in seconds. Default: 4, or 1.5 with --quick.
    #[arg(long, value_parser = crate::run::rate)]
    pub seconds: Option<f64>,
    /// Turns of each server in each setting; tables show medians.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub rounds: u16,
    /// Number of names that are asked.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub names: u32,
    /// Number of queues to serve. Default: all, but no more than cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub queues: Option<u32>,
    /// Core of the generator, with --peer-interface. Default: the first.
    #[arg(long, value_name = "CORE")]
    pub generator_core: Option<usize>,
    /// Queries a second that the other host is to send. Default: as many as it can.
    #[arg(long, requires = "peer", value_parser = crate::run::rate)]
    pub qps: Option<f64>,
    /// Seconds to wait for the other host's first query.
    #[arg(long, default_value_t = 300)]
    pub wait: u64,
    /// Leave the NIC's offloads and hash fields as they are.
    #[arg(long)]
    pub as_it_is: bool,
    /// Allow an interface that carries the default route or this session.
    #[arg(long)]
    pub yes_this_interface: bool,
    /// Allow a build without the profile of the release builds.
    #[arg(long)]
    pub any_build: bool,
}

/// Options and facts that all trials share.
#[derive(Debug)]
struct Kit {
    nic: Nic,
    programs: Programs,
    stop: Arc<AtomicBool>,
    began: Instant,
    queues: u32,
    /// Cores of the servers.
    cores: Vec<usize>,
    /// Core of the generator, if it runs on this host.
    generator_core: Option<usize>,
    listen: SocketAddr,
    /// Prefixes of the clients that servers answer.
    client: String,
    upstream: SocketAddr,
    names: u32,
    time: Duration,
    folder: TempDir,
}

/// Seconds that starting, warming and stopping a server take, besides measurements.
const AROUND_A_TURN: f64 = 4.0;
/// Time between two checks for the other host's queries.
const PAUSE: Duration = Duration::from_millis(300);

impl Kit {
    /// Whether received checksums count as right: on a link within this machine the kernel leaves
    /// them unfinished.
    fn trusts_checksums(&self) -> bool {
        self.nic.driver.name == "veth"
    }
}

/// `ringbench nic`.
pub fn run(args: &Args) -> Result<()> {
    guard::exists(&args.interface)?;
    let (nic, host) = (Nic::read(&args.interface), Host::read());
    println!("| {} | |\n| --- | --- |\n{nic}{host}", args.interface);
    prepare::advice(&nic, &host).iter().for_each(|advice| println!("- {advice}"));

    let (cores, generator_core) = cores(args)?;
    let queues = prepare::queues(&nic, args.queues, cores.len());
    let changes = prepare::changes(&nic, queues, args.as_it_is)?;
    let schedule = schedule(args);
    let seconds = args.seconds.unwrap_or(if args.quick { 1.5 } else { 4.0 });
    let minutes = f64::from(schedule.turns()) * (AROUND_A_TURN + 2.25 * seconds) / 60.0;
    println!("\n{}", plan(args, &schedule, &changes, queues, &cores, minutes));
    if args.dry_run {
        return Ok(());
    }

    check(args)?;
    let programs = Programs::find()?;
    let listen = listen(args)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    // Made before everything that uses the changed settings, and so dropped after it.
    let mut put_back = PutBack::default();
    let upstream = programs.start_upstream()?;
    let kit = Kit {
        nic,
        programs,
        stop,
        began: Instant::now(),
        queues,
        cores,
        generator_core,
        listen,
        client: args.peer.map_or_else(|| load::CLIENT.to_string(), |peer| peer.to_string()),
        upstream: upstream.1,
        names: args.names,
        time: Duration::from_secs_f64(seconds),
        folder: tempfile::tempdir().context("cannot make a temporary folder")?,
    };
    let done = perform(args, kit, &schedule, &changes, minutes, &mut put_back);
    // Undo the changes first, then print.
    let restored = put_back.put_back();
    if restored.is_ok() {
        println!("all settings are restored");
    }
    drop(upstream);
    if done.is_err() {
        // Removes the folder only if it is empty.
        let _ = fs::remove_dir(&args.out);
    }
    done.and(restored)
}

/// Fails if the trials may not or cannot run.
fn check(args: &Args) -> Result<()> {
    guard::check(&args.interface, args.yes_this_interface)?;
    ensure!(geteuid().is_root(), "trials need root: they attach XDP programs and change the NIC's settings");
    if !args.any_build {
        built::ensure_shipped()?;
    }
    ensure!(
        args.peer.is_some() || args.peer_interface.is_some(),
        "there is no source of queries: give --peer-interface, a second port of this host that is wired to {}, or \
         --peer, the address of another host; --dry-run prints what there is",
        args.interface
    );
    if let Some(peer) = &args.peer_interface {
        guard::check_peer(peer)?;
        ensure!(*peer != args.interface, "{peer} cannot be its own peer: give another port");
    }
    ensure!(!args.out.exists(), "{} exists already: give another folder (--out)", args.out.display());
    Ok(())
}

/// Prepares the NIC and the peer, and runs the trials.
fn perform(
    args: &Args,
    mut kit: Kit,
    schedule: &Schedule,
    changes: &[Change],
    minutes: f64,
    put_back: &mut PutBack,
) -> Result<()> {
    prepare::keep_offloads(&kit.nic, put_back);
    let refused = prepare::apply(changes, put_back)?;
    let mut notes: Vec<String> =
        refused.iter().map(|refusal| format!("The driver refused a setting: {refusal}.")).collect();
    let peer = match (&args.peer_interface, args.peer) {
        (Some(interface), _) => {
            let core = kit.generator_core.unwrap_or(0);
            Peer::Port(Port::set_up(&kit.nic.interface, interface, core, put_back)?)
        }
        (None, Some(address)) => Peer::Host(address),
        (None, None) => bail!("there is no source of queries: give --peer-interface or --peer"),
    };
    kit.nic = Nic::read(&args.interface);
    let peer = greet(args, &kit, schedule, minutes, peer, &mut notes)?;
    let mut conditions = Conditions {
        setup: Setup::here(),
        versions: kit.programs.versions(),
        nic: kit.nic.clone(),
        host: Host::read(),
        queues: kit.queues,
        cores: kit.cores.clone(),
        names: kit.names,
        seconds: kit.time.as_secs_f64(),
        peer: describe(&peer, args.qps),
        notes,
    };
    let mut trials = Trials::default();
    let done = trials.run(&kit, &peer, schedule, |trials| page::write(&args.out, &conditions, trials));
    if let Err(error) = &done {
        conditions
            .notes
            .push(format!("**The trials ended early ({error:#}): the tables are not complete.**"));
    }
    page::write(&args.out, &conditions, &trials)?;
    println!("results are in {}", args.out.display());
    done?;
    ensure!(
        trials.all.iter().any(|trial| !trial.rounds.is_empty()),
        "nothing could be measured: {}/README.md says why, server by server",
        args.out.display()
    );
    Ok(())
}

/// Makes sure that queries arrive: chooses a generator for a port, or asks the operator to start
/// one on another host.
fn greet(
    args: &Args,
    kit: &Kit,
    schedule: &Schedule,
    minutes: f64,
    peer: Peer,
    notes: &mut Vec<String>,
) -> Result<Peer> {
    let plain = Setting::all(&schedule.modes, &[]);
    match peer {
        Peer::Port(mut port) => {
            // Any mode that starts will do.
            let mut running = first_that_starts(kit, &plain)?;
            if let Some(why) = port.choose_generator(kit, &mut running)? {
                let note = format!(
                    "The generator in the kernel does not work on the peer's port, so queries come from kernel sockets: \
                     {why}."
                );
                println!("{note}");
                notes.push(note);
            }
            running.stop()?;
            Ok(Peer::Port(port))
        }
        Peer::Host(address) => {
            let seconds = (minutes * 60.0 * 1.5) as u64 + args.wait;
            let mac = fs::read_to_string(class(&args.interface).join("address")).ok();
            println!(
                "\nOn {address}, as root, start one of these (PORT: its interface), and leave it running:\n"
            );
            for command in load::commands(
                &kit.listen.to_string(),
                mac.as_deref().map(str::trim),
                args.names,
                seconds,
                args.qps,
            ) {
                println!("    {command}");
            }
            println!(
                "\nkxdpgun and dnsperf read queries.txt, which the second line makes. Waiting for queries, {} s at most …",
                args.wait
            );
            let mut running = first_that_starts(kit, &plain)?;
            let began = Instant::now();
            while running.counted()?.queries.unwrap_or(0) < 100 {
                kit.nap(PAUSE)?;
                running.check()?;
                ensure!(
                    began.elapsed() < Duration::from_secs(args.wait),
                    "no queries came within {} s: does {address} reach {} (ping), and is its generator running?",
                    args.wait,
                    kit.listen
                );
            }
            println!("queries arrive");
            running.stop()?;
            Ok(Peer::Host(address))
        }
    }
}

/// Starts ringdnsd in the first setting in which it starts.
fn first_that_starts<'k>(kit: &'k Kit, settings: &[Setting]) -> Result<Running<'k>> {
    let mut why = String::new();
    for setting in settings {
        match Running::start(kit, Subject::Ringdnsd, *setting) {
            Ok(running) => return Ok(running),
            Err(error) => {
                kit.check_stop()?;
                why += &format!("\n  {}: {error:#}", setting.mode.label());
            }
        }
    }
    bail!("ringdnsd starts in no mode on {}:{why}", kit.nic.interface)
}

/// Returns the cores of the servers, and the generator's.
fn cores(args: &Args) -> Result<(Vec<usize>, Option<usize>)> {
    let allowed = sched_getaffinity(None).context("cannot read which cores this process may use")?;
    let all: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if args.peer_interface.is_none() {
        return Ok((all, None));
    }
    let generator = args.generator_core.or(all.first().copied());
    let servers: Vec<usize> = all.into_iter().filter(|core| Some(*core) != generator).collect();
    ensure!(
        !servers.is_empty(),
        "generator and server need a core each, and this process has one: use --peer, with another host"
    );
    Ok((servers, generator))
}

fn schedule(args: &Args) -> Schedule {
    let wanted = |mode: &Mode| args.mode.is_empty() || args.mode.contains(mode);
    let tuned = |tuning: &Tuning| args.tuning.is_empty() || args.tuning.contains(tuning);
    Schedule {
        modes: Mode::ALL.into_iter().filter(wanted).collect(),
        tunings: Tuning::ALL.into_iter().filter(tuned).collect(),
        rounds: args.rounds,
        quick: args.quick,
    }
}

/// Returns the address that servers listen on.
fn listen(args: &Args) -> Result<SocketAddr> {
    if args.peer.is_none() {
        return Ok(SocketAddr::new(load::SERVER.into(), 53));
    }
    let own = guard::addresses(&args.interface)?;
    let usable = |ip: &&IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let found = match args.listen {
        Some(ip) => own.iter().find(|own| **own == ip),
        None => own.iter().filter(usable).min_by_key(|ip| ip.is_ipv6()),
    };
    let found = found.with_context(|| match args.listen {
        Some(ip) => format!("{} does not have the address {ip}: see `ip address`", args.interface),
        None => format!(
            "{} has no address that a peer could ask: add one with `ip address add … dev {}`",
            args.interface, args.interface
        ),
    });
    Ok(SocketAddr::new(*found?, 53))
}

/// Returns the plan of the trials as text.
fn plan(
    args: &Args,
    schedule: &Schedule,
    changes: &[Change],
    queues: u32,
    cores: &[usize],
    minutes: f64,
) -> String {
    let modes: Vec<&str> = schedule.modes.iter().map(|mode| mode.label()).collect();
    let mut lines = vec![
        format!(
            "This takes about {:.0} minutes: responder and ringdnsd in turns, in the modes {}; queues: {queues}, cores: \
             {cores:?}. Meanwhile they receive all queries to UDP port 53 of {}, and drivers may take its link down for \
             seconds.",
            minutes.ceil(),
            modes.join(", "),
            args.interface
        ),
        "Changes, undone at the end:".into(),
    ];
    lines.extend(changes.iter().map(|change| format!("- {}", change.change.make)));
    if let Some(peer) = &args.peer_interface {
        lines.push(format!(
            "- {peer} goes into a network namespace; {} has the address {} and {peer} {}",
            args.interface,
            load::SERVER,
            load::CLIENT
        ));
    }
    let tunings = Setting::all(&schedule.modes[..1], &schedule.tunings);
    lines.extend(
        tunings
            .iter()
            .filter_map(|setting| setting.changes(&args.interface))
            .map(|change| format!("- {change}")),
    );
    lines.join("\n") + "\n"
}

fn describe(peer: &Peer, qps: Option<f64>) -> String {
    match peer {
        Peer::Port(port) => format!("a second port of this host, {}", port.generator()),
        Peer::Host(_) => {
            let rate = qps.map_or("as many queries as it can".into(), |qps| format!("{qps:.0} queries/s"));
            format!(
                "another host, told to send {rate}; queries are counted where they arrive, by the interface and the server. \
                 Latencies are in what its generator printed: add that to this folder as peer.txt"
            )
        }
    }
}
