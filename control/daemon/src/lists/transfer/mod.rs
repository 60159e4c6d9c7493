//! Transfer of a response policy zone from its primary: AXFR (RFC 5936), or IXFR (RFC 1995) once
//! there is a copy, over TCP, signed with TSIG.
//!
//! The primary, or whoever is on the way, may send anything: time, bytes and records are limited, and
//! nothing takes the place of the copy before all of it has come and is verified.

mod notify;
mod tsig;
mod wire;
mod zone;

use super::{
    copies::{CopyError, CopyNote, Digest, Part},
    download::Download,
};
use data_encoding::BASE64;
pub use notify::Notify;
use ringdns_common::{names, units::Bytes};
use ringdns_config::{FetchConfig, TransferConfig, TsigConfig};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Seek, Write},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};
use tsig::{TsigError, TsigKey, Verifier};
use wire::{Message, be16, rtype};
pub use zone::ZoneSoa;
use zone::{Contents, Kind, ZoneRecord};

/// Bits of a header's flags that a response of a primary has, among those that are looked at: QR, no
/// opcode, no TC.
const RESPONSE: u16 = 0x8000;
const LOOKED_AT: u16 = 0xfa00;
const RCODE: u16 = 0x000f;
/// Class IN.
const IN: u16 = 1;
/// Longest secret in Base64.
const SECRET_MAX: u64 = 4_096;
/// Size of the buffer that the copy is written with, in bytes.
const BUFFER: usize = 64 << 10;

/// Reason why a zone was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file with the secret cannot be used.
    #[error("tsig_file {0}. Write the secret of the key there, in Base64, readable by ringdnsd alone")]
    Secret(String),
    /// The connection could not be made, or broke.
    #[error("the primary {0}")]
    Connection(String),
    /// The primary refused.
    #[error("the primary refused with {0}. Let it allow transfers of the zone to this host")]
    Refused(String),
    /// A message that is none.
    #[error("the primary sent a message that does not fit its header or the question. Check its address")]
    Malformed,
    /// A signature is not accepted.
    #[error("{0}")]
    Tsig(#[from] TsigError),
    /// Without SOA record at the beginning.
    #[error("the transfer does not begin with the zone's SOA record. Check the primary")]
    NoSoa,
    /// Record of another zone.
    #[error("the transfer has a record of {0}, which is not in the zone. Check the primary")]
    Outside(String),
    /// Another version in the middle.
    #[error("the transfer has serial {0} where it is about serial {1}. Check the primary")]
    Serial(u32, u32),
    /// Serial number that went back.
    #[error(
        "the primary has serial {0}, which is before {1} of the copy. Raise it, or remove the list's copy from lists.dir"
    )]
    Older(u32, u32),
    /// Records after the end.
    #[error("the transfer goes on after its end. Check the primary")]
    Trailing,
    /// Changes of another copy.
    #[error("the changes do not fit the copy")]
    Unfit,
    /// Too large.
    #[error("the zone is larger than {0}. If that is right, raise lists.max_bytes")]
    TooLarge(Bytes),
    /// Too slow.
    #[error("the transfer was not complete after {0:?}. Check the primary, or raise lists.timeout")]
    Late(Duration),
    /// The file cannot be written.
    #[error("{0}")]
    Copy(#[from] CopyError),
    /// The file cannot be written to its end.
    #[error("the list cannot be written: {0}. Make room in lists.dir")]
    Write(#[from] io::Error),
}

impl TransferError {
    /// Whether the whole zone may be had although its changes are not.
    fn is_about_changes(&self) -> bool {
        use TransferError::*;
        !matches!(self, Secret(_) | Older(..) | TooLarge(_) | Late(_) | Copy(_) | Write(_))
    }
}

/// Copy of a zone, and a note about it.
pub struct Known {
    /// Note.
    pub note: CopyNote,
    /// Copy.
    pub copy: File,
}

/// Transfers a zone into the file of `part`. `known` is the current copy, if there is one: its
/// changes are asked for, and the whole zone if that fails. `now` is the Unix time.
pub async fn transfer(
    fetch: &FetchConfig,
    source: &TransferConfig,
    known: Option<Known>,
    part: &Part,
    now: u64,
) -> Result<Download, TransferError> {
    let both = async {
        let soa = known.as_ref().and_then(|known| known.note.zone);
        let order = Order { fetch, source, soa, now };
        if let (Some(known), Some(_)) = (known, soa) {
            match order.run(Some(known.copy), part).await {
                Err(error) if error.is_about_changes() => {
                    tracing::debug!(
                        zone = source.url,
                        "the whole zone is asked for instead of its changes: {error}"
                    );
                }
                done => return done,
            }
            part.file.set_len(0)?;
            (&part.file).rewind()?;
        }
        order.run(None, part).await
    };
    timeout(fetch.timeout, both).await.unwrap_or(Err(TransferError::Late(fetch.timeout)))
}

/// Zone to be transferred, and the limits.
struct Order<'a> {
    fetch: &'a FetchConfig,
    source: &'a TransferConfig,
    /// SOA record of the copy.
    soa: Option<ZoneSoa>,
    now: u64,
}

impl Order<'_> {
    /// Transfers the zone, or the changes to a copy.
    async fn run(&self, copy: Option<File>, part: &Part) -> Result<Download, TransferError> {
        let mut contents = Contents::new(&self.source.zone, self.soa.map(|soa| soa.serial), copy.is_some());
        let mut written = Written { file: part.file.try_clone()?, digest: Digest::default() };
        let mut stream = Stream::open(self, copy.is_some()).await?;
        let (mut left, max) = (self.fetch.max_bytes, self.fetch.max_bytes);
        while contents.kind().is_none() {
            let bytes = stream.next(&mut left, max).await?;
            stream.take(&bytes, &mut contents)?;
            left =
                left.checked_sub(contents.lines.len() as u64).ok_or(TransferError::TooLarge(Bytes(max)))?;
            written = blocking(written, std::mem::take(&mut contents.lines)).await?;
        }
        if stream.verifier.as_ref().is_some_and(|verifier| !verifier.is_done()) {
            return Err(TsigError::Missing.into());
        }
        let (kind, soa) = (contents.kind(), contents.soa);
        let changes = std::mem::take(&mut contents.changes);
        match (kind, copy) {
            (Some(Kind::Unchanged), _) => return Ok(Download::Unchanged),
            (Some(Kind::Changes), Some(copy)) => {
                let applied = spawn_blocking(move || {
                    let mut to = BufWriter::with_capacity(BUFFER, written);
                    changes.apply(copy, &mut to)??;
                    Ok::<_, TransferError>(to.into_inner().map_err(io::IntoInnerError::into_error)?)
                });
                written = applied.await.map_err(io::Error::other)??;
            }
            _ => {}
        }
        let url = self.source.url.clone();
        let sha256 = written.digest.finish();
        Ok(Download::Changed(CopyNote { url, sha256, zone: Some(soa), ..CopyNote::default() }))
    }
}

/// File that is written, and its digest.
struct Written {
    file: File,
    digest: Digest,
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.write_all(bytes.get(..written).unwrap_or_default())?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

async fn blocking(mut written: Written, lines: Vec<u8>) -> io::Result<Written> {
    if lines.is_empty() {
        return Ok(written);
    }
    let done = spawn_blocking(move || written.write_all(&lines).map(|()| written));
    done.await.map_err(io::Error::other)?
}

/// Connection to the primary, with a request under way.
struct Stream<'a> {
    order: &'a Order<'a>,
    tcp: TcpStream,
    id: u16,
    qtype: u16,
    verifier: Option<Verifier>,
}

impl<'a> Stream<'a> {
    /// Connects, and asks for the zone, or for its changes since the copy.
    async fn open(order: &'a Order<'a>, changes: bool) -> Result<Self, TransferError> {
        let key = order.source.tsig.as_ref().map(key).transpose()?;
        let qtype = if changes { rtype::IXFR } else { rtype::AXFR };
        let id = rand::random();
        let mut request = request(order, id, qtype);
        let verifier = key.map(|key| key.sign(&mut request, order.now));
        let unreachable = |error: io::Error| {
            TransferError::Connection(format!("{} cannot be reached: {error}", order.source.primary))
        };
        let mut tcp = TcpStream::connect(order.source.primary).await.map_err(unreachable)?;
        let framed = [&(request.len() as u16).to_be_bytes()[..], &request].concat();
        tcp.write_all(&framed).await.map_err(broken)?;
        Ok(Stream { order, tcp, id, qtype, verifier })
    }

    /// Reads the next message; `left` of `max` bytes may still come.
    async fn next(&mut self, left: &mut u64, max: u64) -> Result<Vec<u8>, TransferError> {
        let len = self.tcp.read_u16().await.map_err(broken)?;
        *left = left.checked_sub(u64::from(len) + 2).ok_or(TransferError::TooLarge(Bytes(max)))?;
        let mut bytes = vec![0; usize::from(len)];
        self.tcp.read_exact(&mut bytes).await.map_err(broken)?;
        Ok(bytes)
    }

    /// Checks a message, and adds its records.
    fn take(&mut self, bytes: &[u8], contents: &mut Contents<'_>) -> Result<(), TransferError> {
        let message = Message::read(bytes).ok_or(TransferError::Malformed)?;
        let flags = be16(bytes, 2).ok_or(TransferError::Malformed)?;
        if be16(bytes, 0) != Some(self.id) || flags & LOOKED_AT != RESPONSE {
            return Err(TransferError::Malformed);
        }
        if flags & RCODE != 0 {
            let rcode = flags & RCODE;
            let name = names::rcode_name(rcode).map_or_else(|| rcode.to_string(), str::to_owned);
            let tsig = tsig::error_in(bytes, &message).map(|error| format!(", {error}"));
            return Err(TransferError::Refused(format!("{name}{}", tsig.unwrap_or_default())));
        }
        let asked = (&self.order.source.zone, self.qtype);
        let question = message.question.as_ref().map(|(name, qtype)| (name, *qtype));
        if question.is_some_and(|question| question != asked) {
            return Err(TransferError::Malformed);
        }
        if let Some(verifier) = &mut self.verifier {
            verifier.verify(bytes, &message, self.order.now)?;
        }
        // Messages that bring nothing could go on for ever.
        if message.answers.is_empty() {
            return Err(TransferError::Malformed);
        }
        for raw in &message.answers {
            if raw.class != IN {
                return Err(TransferError::Malformed);
            }
            let data = message.data(raw).ok_or(TransferError::Malformed)?;
            contents.push(ZoneRecord { owner: raw.owner.clone(), rtype: raw.rtype, data })?;
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> TransferError {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed the connection before the end of the transfer".into(),
        _ => format!("broke the connection: {error}"),
    };
    TransferError::Connection(reason)
}

/// Returns a request, with the SOA record of the copy if its changes are asked for.
fn request(order: &Order<'_>, id: u16, qtype: u16) -> Vec<u8> {
    let soa = order.soa.filter(|_| qtype == rtype::IXFR);
    let counts = [1, 0, u16::from(soa.is_some()), 0];
    let head = [id, 0].into_iter().chain(counts).flat_map(u16::to_be_bytes);
    let mut request: Vec<u8> = head.collect();
    request.extend([&order.source.zone[..], &qtype.to_be_bytes(), &IN.to_be_bytes()].concat());
    if let Some(soa) = soa {
        // The primary looks at the serial number alone.
        let numbers = [soa.serial, soa.refresh, soa.retry, soa.expire, 0];
        let data: Vec<u8> =
            [0, 0].into_iter().chain(numbers.into_iter().flat_map(u32::to_be_bytes)).collect();
        let head =
            [rtype::SOA.to_be_bytes(), IN.to_be_bytes(), [0, 0], [0, 0], (data.len() as u16).to_be_bytes()];
        request.extend([&order.source.zone[..], &head.concat(), &data].concat());
    }
    request
}

/// Reads the secret of a key. Errors do not repeat it.
fn key(config: &TsigConfig) -> Result<TsigKey, TransferError> {
    let failed = |reason: String| TransferError::Secret(format!("{}: {reason}", config.file.display()));
    let len = fs::metadata(&config.file).map_err(|error| failed(error.to_string()))?.len();
    if len > SECRET_MAX {
        return Err(failed("it is too large for a secret".into()));
    }
    let text = fs::read_to_string(&config.file).map_err(|error| failed(error.to_string()))?;
    let secret = BASE64.decode(text.trim().as_bytes()).ok().filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| failed("it is not Base64".into()))?;
    Ok(TsigKey::new(&config.name, config.algorithm, &secret))
}
