//! Captures of packets into a file.

use crate::{filter::FilterArgs, talk::Ringdnsd};
use anyhow::{Context, bail, ensure};
use clap::Args;
use http_body_util::BodyExt;
use hyper::Method;
use ringdns_common::{printable::Printable, units::TimeSpan};
use rustix::{fs::OFlags, io::Errno};
use serde_json::json;
use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

/// Time that the rest of a capture may take after its end was asked for.
const END_TIME: Duration = Duration::from_secs(5);
/// Bytes of the shortest block: type, length, length.
const BLOCK_MIN: usize = 12;
/// Bytes of the longest block that ringdnsd writes.
const BLOCK_MAX: usize = 1 << 20;
/// Type of a block with a packet.
const PACKET: u32 = 6;
/// Type of a block with the counters of an interface.
const STATISTICS: u32 = 5;
/// Bytes of a block of statistics before its options.
const STATISTICS_HEAD: usize = 20;

/// Options of `ringctl capture`.
#[derive(Args)]
pub struct Capture {
    /// Write the packets to this file; "-" is standard output.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    output: PathBuf,
    /// End after this number of packets.
    #[arg(short, long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// Capture only queries that are dropped.
    #[arg(long, conflicts_with_all = ["outcome", "rcode"])]
    dropped: bool,
    /// Capture one exchange in this many, at random.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: u32,
    /// End after this time: 30s, 10m; at most 1h.
    #[arg(long = "for", value_name = "TIME", default_value = "10m")]
    time: TimeSpan,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Capture {
    /// Writes packets until the capture ends, by its limits, by Ctrl-C or by ringdnsd.
    pub async fn run(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        let to_stdout = self.output == Path::new("-");
        if to_stdout && io::stdout().is_terminal() {
            bail!(
                "packets are no text for a terminal: write them to a file, or through a pipe to `tshark -r -`"
            );
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut body = ringdnsd.stream(&self.path()).await?;
        let mut out: Box<dyn Write> = match to_stdout {
            true => Box::new(io::stdout().lock()),
            false => Box::new(open(&self.output)?),
        };
        let mut file = PacketFile::default();
        let (mut told, mut ends): (bool, Option<Instant>) = (false, None);
        loop {
            tokio::select! {
                frame = body.frame() => {
                    let Some(frame) = frame else { break };
                    let frame = frame.context("the connection broke: the file is whole up to there")?;
                    let blocks = file.take(&frame.into_data().unwrap_or_default())?;
                    let written = out.write_all(blocks).and_then(|()| out.flush());
                    written.with_context(|| format!("writing {}", self.output.display()))?;
                    if !told {
                        told = true;
                        tell("capturing; Ctrl-C ends it");
                    }
                }
                // The second time, the rest is not waited for: what is written is whole.
                _ = interrupt.recv() => if !end(ringdnsd, &mut ends).await { break },
                _ = terminate.recv() => if !end(ringdnsd, &mut ends).await { break },
                () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => break,
            }
        }
        file.conclude(json && !to_stdout)
    }

    /// Returns the request.
    fn path(&self) -> String {
        let Capture { count, dropped, sample, time, filter, .. } = self;
        let seconds = time.0.as_secs();
        let mut parameters = vec![
            format!("packets={count}"),
            format!("seconds={seconds}"),
            format!("sample={sample}"),
            format!("dropped={dropped}"),
        ];
        parameters.extend(filter.parameters());
        format!("/v1/capture?{}", parameters.join("&"))
    }
}

/// Opens a file, which becomes its owner's alone: it shows packets of clients. Pipes and devices stay as they
/// are; links are refused.
fn open(path: &Path) -> anyhow::Result<File> {
    let said = || format!("writing {}", path.display());
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file =
        match options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                bail!("{}: it is a link: give another path", path.display())
            }
            opened => opened.with_context(said)?,
        };
    if file.metadata().with_context(said)?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600)).with_context(said)?;
        file.set_len(0).with_context(said)?;
    }
    Ok(file)
}

/// Asks ringdnsd to end the capture. Returns false if it was asked before, or cannot be.
async fn end(ringdnsd: &Ringdnsd, ends: &mut Option<Instant>) -> bool {
    let is_first = ends.replace(Instant::now() + END_TIME).is_none();
    is_first && ringdnsd.ask(Method::POST, "/v1/capture/end").await.is_ok()
}

/// Tells the user something, apart from the packets.
fn tell(text: &str) {
    // Standard error may be gone.
    let _ = writeln!(io::stderr(), "ringctl: {}", Printable(text));
}

/// File that arrives in parts: only whole blocks are written, so that it is valid whenever it ends.
#[derive(Default)]
struct PacketFile {
    /// Blocks written, and behind them a part of the next one.
    bytes: Vec<u8>,
    /// Length of the blocks written.
    whole: usize,
    packets: u64,
    counts: Counts,
    reason: Option<String>,
}

/// Sums over the interfaces of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    offered: u64,
    lost: u64,
    accepted: u64,
    unread: u64,
}

impl PacketFile {
    /// Takes a part of the file, and returns the blocks that are whole with it.
    fn take(&mut self, part: &[u8]) -> anyhow::Result<&[u8]> {
        self.bytes.drain(..std::mem::take(&mut self.whole));
        self.bytes.extend_from_slice(part);
        while let Some((kind, len)) = head(self.bytes.get(self.whole..).unwrap_or_default()) {
            ensure!(
                (BLOCK_MIN..=BLOCK_MAX).contains(&len),
                "ringdnsd sent a block of {len} bytes, which is none of pcapng: use the ringctl of its version"
            );
            let Some(block) = self.bytes.get(self.whole..self.whole + len) else { break };
            match kind {
                PACKET => self.packets += 1,
                STATISTICS => {
                    let options = block.get(STATISTICS_HEAD..len - 4).unwrap_or_default();
                    self.reason = Some(self.counts.add(options));
                }
                _ => {}
            }
            self.whole += len;
        }
        Ok(self.bytes.get(..self.whole).unwrap_or_default())
    }

    /// Prints the sums of the file, unless it has none.
    fn conclude(&self, json: bool) -> anyhow::Result<()> {
        let (packets, Counts { offered, lost, accepted, unread }) = (self.packets, self.counts);
        let Some(reason) = &self.reason else {
            bail!("the capture ended without its counters: the {packets} packets in the file are whole");
        };
        let filtered = offered.saturating_sub(lost + accepted);
        if json {
            let told = json!({
                "offered": offered, "written": packets, "filtered": filtered, "unread": unread, "lost": lost,
                "reason": reason,
            });
            return Ok(writeln!(io::stdout(), "{told}")?);
        }
        tell(&format!(
            "{packets} packets written, {filtered} left out by filters, {unread} beyond the end, {lost} lost: {reason}"
        ));
        Ok(())
    }
}

/// Returns type and length of the block that begins here.
fn head(bytes: &[u8]) -> Option<(u32, usize)> {
    let (kind, rest) = bytes.split_first_chunk::<4>()?;
    let len = rest.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*kind), u32::from_le_bytes(*len) as usize))
}

impl Counts {
    /// Adds the counters among the options of an interface's statistics, and returns the comment.
    fn add(&mut self, mut options: &[u8]) -> String {
        let mut comment = String::new();
        while let Some(([code0, code1, len0, len1], rest)) = options.split_first_chunk::<4>() {
            let len = usize::from(u16::from_le_bytes([*len0, *len1]));
            let value = rest.get(..len).unwrap_or_default();
            let count = value.first_chunk().map_or(0, |value| u64::from_le_bytes(*value));
            match u16::from_le_bytes([*code0, *code1]) {
                1 => comment = String::from_utf8_lossy(value).into_owned(),
                4 => self.offered += count,
                5 => self.lost += count,
                6 => self.accepted += count,
                7 => self.unread += count,
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        comment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::fs;

    #[test]
    fn a_file_that_exists_becomes_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link, pipe] = ["file", "link", "pipe"].map(|name| folder.path().join(name));
        fs::write(&path, "before").unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = open(&link).unwrap_err().to_string();
        assert!(refused.contains("it is a link"), "{refused}");
        assert_eq!((mode(), fs::read_to_string(&path).unwrap().as_str()), (0o644, "before"));
        open(&path).unwrap().write_all(b"now").unwrap();
        assert_eq!((mode(), fs::read_to_string(&path).unwrap().as_str()), (0o600, "now"));

        let device = || fs::metadata("/dev/null").unwrap().permissions();
        let before = device();
        open(Path::new("/dev/null")).unwrap().write_all(b"packet").unwrap();
        assert_eq!(device(), before);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        // Without a reader, opening it would wait for one.
        let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        open(&pipe).unwrap().write_all(b"packet").unwrap();
        let mut read = [0; 6];
        io::Read::read_exact(&mut reader, &mut read).unwrap();
        assert_eq!(&read, b"packet");
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, body, &len].concat()
    }

    #[test]
    fn only_whole_blocks_are_written_however_they_arrive() {
        let option = |code: u16, value: &[u8]| {
            let pad = vec![0; value.len().next_multiple_of(4) - value.len()];
            [&code.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value, &pad].concat()
        };
        let count = |code: u16, count: u64| option(code, &count.to_le_bytes());
        let statistics =
            [vec![0; 12], option(1, b"over"), count(4, 10), count(5, 1), count(6, 7), count(7, 2)].concat();
        let blocks =
            [block(0x0a0d_0d0a, &[0; 16]), block(6, &[1; 40]), block(6, &[2; 8]), block(5, &statistics)]
                .concat();
        for step in [1, 7, 40, 1000] {
            let (mut file, mut written) = (PacketFile::default(), Vec::new());
            for part in blocks.chunks(step) {
                written.extend_from_slice(file.take(part).unwrap());
                let ends = [0, 28, 80, 100, blocks.len()];
                assert!(ends.contains(&written.len()), "{} of a step of {step}", written.len());
            }
            assert_eq!((&written, file.packets, file.reason.as_deref()), (&blocks, 2, Some("over")));
            assert_eq!(file.counts, Counts { offered: 10, lost: 1, accepted: 7, unread: 2 });
            assert!(file.conclude(false).is_ok());
        }
        assert!(PacketFile::default().conclude(false).is_err(), "without counters");
        for wrong in [BLOCK_MIN as u32 - 1, BLOCK_MAX as u32 + 1, u32::MAX] {
            let bytes = [6_u32.to_le_bytes(), wrong.to_le_bytes()].concat();
            assert!(PacketFile::default().take(&bytes).is_err(), "{wrong}");
        }
    }
}
