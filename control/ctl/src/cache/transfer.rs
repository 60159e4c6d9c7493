//! `ringctl cache dump` and `load`.

use crate::{
    progress::{bytes_bar, entries_bar},
    talk::{Lines, Ringdnsd},
};
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
};
use indicatif::ProgressBar;
use ringdns_api::Loaded;
use ringdns_common::{files, units::counted};
use serde_json::json;
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context as Task, Poll},
};

/// Bytes that are read from a dump at once.
const PIECE: usize = 64 << 10;
/// Bytes at the end of a dump: the number of entries, and the checksum.
const TRAILER: usize = 16;

/// Writes a dump into a file, beside the old one until it is complete.
pub async fn dump(ringdnsd: &Ringdnsd, json: bool, path: &Path) -> anyhow::Result<()> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {});
    let to_stdout = path == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        bail!("a dump is no text: give a file, or send standard output to one");
    }
    if !to_stdout {
        files::check_replaceable(path).with_context(|| path.display().to_string())?;
    }
    let body = ringdnsd.open(Method::GET, "/v1/cache/dump", body).await?;
    if to_stdout {
        let mut out = io::stdout().lock();
        receive(body, &mut out).await?;
        return Ok(out.flush()?);
    }
    let beside = beside(path);
    let (entries, bytes) = match replace(body, &beside, path).await {
        Ok(received) => received,
        Err(error) => {
            // It may not be there.
            let _ = fs::remove_file(&beside);
            return Err(error.context(format!("{} is not written", path.display())));
        }
    };
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", json!({ "entries": entries, "bytes": bytes }))?,
        false => {
            let (entries, bytes) = (counted(entries, "entry", "entries"), counted(bytes, "byte", "bytes"));
            writeln!(out, "{}: {entries}, {bytes}", path.display())?;
        }
    }
    Ok(())
}

async fn replace(body: Incoming, beside: &Path, path: &Path) -> anyhow::Result<(u64, u64)> {
    let mut file = files::create_anew(beside, 0o600)?;
    let received = receive(body, &mut file).await?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    Ok(received)
}

/// Returns the name under which a file is written.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// Writes a dump as it arrives. Returns its number of entries, and that of its bytes.
async fn receive(mut body: Incoming, out: &mut dyn Write) -> anyhow::Result<(u64, u64)> {
    let bar = bytes_bar("dumped", None);
    let (mut bytes, mut end) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let piece = frame.context("the dump is cut short")?.into_data().unwrap_or_default();
        out.write_all(&piece)?;
        bytes += piece.len() as u64;
        bar.set_position(bytes);
        end.extend_from_slice(&piece[piece.len().saturating_sub(TRAILER)..]);
        end.drain(..end.len().saturating_sub(TRAILER));
    }
    bar.finish_and_clear();
    let Some((entries, _)) = end.split_first_chunk() else { bail!("the dump is empty") };
    Ok((u64::from_le_bytes(*entries), bytes))
}

/// Sends a dump, and prints what became of its entries. Fails if none of them could be read.
pub async fn load(ringdnsd: &Ringdnsd, json: bool, path: &Path) -> anyhow::Result<()> {
    let dump = DumpBody::open(path).with_context(|| path.display().to_string())?;
    let body = ringdnsd.open(Method::POST, "/v1/cache/load", dump).await?;
    let (mut lines, bar) = (Lines::of(body), entries_bar("loaded"));
    let mut last = Loaded::default();
    while let Some(line) = lines.next().await? {
        last = serde_json::from_slice(line)
            .context("ringdnsd's answer cannot be read: use the ringctl of its version")?;
        bar.set_length(last.entries);
        bar.set_position(looked_at(&last));
    }
    bar.finish_and_clear();
    if !last.complete {
        bail!("ringdnsd stopped at {} of {} entries: see its log", looked_at(&last), last.entries);
    }
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&last)?)?,
        false => show_loaded(&last, &mut out)?,
    }
    Ok(())
}

fn looked_at(loaded: &Loaded) -> u64 {
    loaded.loaded + loaded.too_old + loaded.known + loaded.unfit + loaded.purged
}

/// Shows what became of the entries of a dump.
pub fn show_loaded(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let entries = counted(loaded.entries, "entry", "entries");
    writeln!(out, "loaded {} of {entries}", loaded.loaded)?;
    for (count, reason) in [
        (loaded.too_old, "too old to be given"),
        (loaded.known, "not loaded: their questions have answers here"),
        (loaded.purged, "not loaded: a purge came meanwhile"),
        (loaded.unfit, "do not answer their questions, or are not kept by this configuration"),
    ] {
        if count > 0 {
            writeln!(out, "{count:>8} {reason}")?;
        }
    }
    if let Some(at) = loaded.first_unfit {
        writeln!(out, "         the first of these is at byte {at}")?;
    }
    Ok(())
}

/// Body that is read from a file as it is sent. Reading blocks, which nothing else waits for.
struct DumpBody {
    file: Box<dyn Read + Send>,
    length: Option<u64>,
    bar: ProgressBar,
    sent: u64,
}

impl DumpBody {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, length): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        Ok(DumpBody { file, length, bar: bytes_bar("sent", length), sent: 0 })
    }
}

impl Body for DumpBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut piece = vec![0; PIECE];
        let read = match self.file.read(&mut piece) {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        if read == 0 {
            self.bar.finish_and_clear();
            return Poll::Ready(None);
        }
        self.sent += read as u64;
        self.bar.set_position(self.sent);
        piece.truncate(read);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.sent)))
    }
}
