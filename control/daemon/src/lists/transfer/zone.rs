//! Contents of a transfer: a whole zone, or changes to the copy of it.
//!
//! A copy is a zone file with a record in each line, so that the reader of lists reads it, and a
//! change is a line more or less.

use super::{
    TransferError,
    wire::{be32, name, rtype},
};
use ringdns_common::names;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr},
};

/// Version of a zone, and the times of its transfers, as in its SOA record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneSoa {
    /// Version of the zone.
    pub serial: u32,
    /// Time between two transfers, in seconds.
    pub refresh: u32,
    /// Time until a failed transfer is tried again, in seconds.
    pub retry: u32,
    /// Time after which a copy that was not confirmed is out of date, in seconds.
    pub expire: u32,
}

impl ZoneSoa {
    fn read(data: &[u8]) -> Option<Self> {
        let mut at = 0;
        name(data, &mut at)?;
        name(data, &mut at)?;
        let number = |nth: usize| be32(data, at + nth * 4);
        let soa = ZoneSoa { serial: number(0)?, refresh: number(1)?, retry: number(2)?, expire: number(3)? };
        (data.len() == at + 20).then_some(soa)
    }
}

/// Whether a serial number is later than another (RFC 1982 section 3.2).
pub(super) fn is_later(serial: u32, than: u32) -> bool {
    (1..1 << 31).contains(&serial.wrapping_sub(than))
}

/// Record of a transfer.
pub(super) struct ZoneRecord {
    pub owner: Vec<u8>,
    pub rtype: u16,
    /// Data without compressed names.
    pub data: Vec<u8>,
}

impl ZoneRecord {
    /// Returns the line of the copy.
    fn line(&self) -> Option<String> {
        let mut line = match self.owner.strip_prefix(b"\x01*") {
            Some(below) if below != [0] => format!("*.{}", names::display(below)),
            _ => names::display(&self.owner),
        };
        let data = &self.data;
        // Writing to a string cannot fail.
        let _ = match self.rtype {
            rtype::A => write!(line, " A {}", Ipv4Addr::from(<[u8; 4]>::try_from(&**data).ok()?)),
            rtype::AAAA => write!(line, " AAAA {}", Ipv6Addr::from(<[u8; 16]>::try_from(&**data).ok()?)),
            rtype::CNAME => write!(line, " CNAME {}", target(data)?),
            rtype::SOA => write!(line, " SOA {}", soa_text(data)?),
            other => {
                let _ = write!(line, " {} \\# {} ", names::type_name(other), data.len());
                data.iter().try_for_each(|byte| write!(line, "{byte:02x}"))
            }
        };
        line.push('\n');
        Some(line)
    }
}

/// Returns the text of an alias's target: `*` is an action if it is the first label.
fn target(data: &[u8]) -> Option<String> {
    let mut at = 0;
    name(data, &mut at).filter(|_| at == data.len())?;
    Some(match data.strip_prefix(b"\x01*") {
        Some([0]) => "*.".into(),
        Some(below) => format!("*.{}", names::display(below)),
        None => names::display(data),
    })
}

fn soa_text(data: &[u8]) -> Option<String> {
    let mut at = 0;
    let (server, mailbox) = (name(data, &mut at)?, name(data, &mut at)?);
    let mut text = format!("{} {}", names::display(&server), names::display(&mailbox));
    for nth in 0..5 {
        let _ = write!(text, " {}", be32(data, at + nth * 4)?);
    }
    Some(text)
}

/// Place in a transfer.
enum Stage {
    /// The SOA record of the new version comes.
    First,
    /// The next record tells whether the zone or changes are sent.
    Second,
    /// Records of the whole zone.
    Whole,
    /// Records that a version no longer has.
    Removed(u32),
    /// Records that a version has and the one before has not.
    Added(u32),
    /// All has come.
    Done,
}

/// Contents of a transfer as far as they have come.
pub(super) struct Contents<'a> {
    zone: &'a [u8],
    /// Serial number of the copy, if there is one.
    known: Option<u32>,
    /// Whether changes to the copy were asked for.
    wants_changes: bool,
    stage: Stage,
    first: Vec<u8>,
    /// The new version.
    pub soa: ZoneSoa,
    /// Lines of the whole zone that the caller has not taken yet.
    pub lines: Vec<u8>,
    /// Changes to the copy.
    pub changes: LineChanges,
}

/// Result of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The copy is the newest version.
    Unchanged,
    /// The zone.
    Whole,
    /// Changes to the copy.
    Changes,
}

impl<'a> Contents<'a> {
    /// Returns the contents before the first record of `zone`. `known` is the serial number of the
    /// copy.
    pub fn new(zone: &'a [u8], known: Option<u32>, wants_changes: bool) -> Self {
        Contents {
            zone,
            known,
            wants_changes: wants_changes && known.is_some(),
            stage: Stage::First,
            first: Vec::new(),
            soa: ZoneSoa::default(),
            lines: Vec::new(),
            changes: LineChanges::default(),
        }
    }

    /// Returns what the transfer is, once all has come.
    pub fn kind(&self) -> Option<Kind> {
        match self.stage {
            Stage::Done if self.known == Some(self.soa.serial) => Some(Kind::Unchanged),
            Stage::Done if self.changes.is_some => Some(Kind::Changes),
            Stage::Done => Some(Kind::Whole),
            _ => None,
        }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: ZoneRecord) -> Result<(), TransferError> {
        if !record.owner.ends_with(self.zone) || !is_within(&record.owner, self.zone) {
            return Err(TransferError::Outside(names::display(&record.owner)));
        }
        let is_soa = record.rtype == rtype::SOA;
        if is_soa && record.owner != self.zone {
            return Err(TransferError::Outside(names::display(&record.owner)));
        }
        let is_first = is_soa && record.data == self.first;
        let soa = match is_soa {
            true => Some(ZoneSoa::read(&record.data).ok_or(TransferError::Malformed)?),
            false => None,
        };
        let line = record.line().ok_or(TransferError::Malformed)?;
        self.stage = match (&self.stage, soa) {
            (Stage::First, None) => return Err(TransferError::NoSoa),
            (Stage::First, Some(soa)) => return self.begin(soa, record.data),
            (Stage::Second, Some(soa)) if self.wants_changes && Some(soa.serial) == self.known => {
                self.changes.begin(line);
                Stage::Removed(soa.serial)
            }
            (Stage::Second | Stage::Whole, soa) => {
                if matches!(self.stage, Stage::Second) {
                    let apex =
                        ZoneRecord { owner: self.zone.into(), rtype: rtype::SOA, data: self.first.clone() };
                    self.lines.extend(apex.line().ok_or(TransferError::Malformed)?.bytes());
                }
                match soa {
                    None => {
                        self.lines.extend(line.bytes());
                        Stage::Whole
                    }
                    Some(_) if is_first => Stage::Done,
                    Some(soa) => return Err(TransferError::Serial(soa.serial, self.soa.serial)),
                }
            }
            (Stage::Removed(_) | Stage::Added(_), None) => {
                match self.stage {
                    Stage::Removed(_) => self.changes.remove(line),
                    _ => self.changes.add(line),
                }
                return Ok(());
            }
            (Stage::Removed(from), Some(soa)) => {
                if !is_later(soa.serial, *from) {
                    return Err(TransferError::Serial(soa.serial, self.soa.serial));
                }
                self.changes.end(line);
                Stage::Added(soa.serial)
            }
            (Stage::Added(to), Some(_)) if is_first && *to == self.soa.serial => Stage::Done,
            (Stage::Added(to), Some(soa)) if soa.serial == *to => Stage::Removed(soa.serial),
            (Stage::Added(_), Some(soa)) => return Err(TransferError::Serial(soa.serial, self.soa.serial)),
            (Stage::Done, _) => return Err(TransferError::Trailing),
        };
        Ok(())
    }

    fn begin(&mut self, soa: ZoneSoa, data: Vec<u8>) -> Result<(), TransferError> {
        (self.soa, self.first) = (soa, data);
        self.stage = match self.known {
            Some(known) if known == soa.serial => Stage::Done,
            Some(known) if !is_later(soa.serial, known) => {
                return Err(TransferError::Older(soa.serial, known));
            }
            _ => Stage::Second,
        };
        Ok(())
    }
}

/// Whether a name is a zone's name or below it, label by label.
fn is_within(owner: &[u8], zone: &[u8]) -> bool {
    let mut rest = owner;
    while rest.len() > zone.len() {
        let len = usize::from(rest.first().copied().unwrap_or_default());
        rest = rest.get(len + 1..).unwrap_or_default();
    }
    rest == zone
}

/// Lines that a copy loses and gets, over all versions in between.
#[derive(Default)]
pub(super) struct LineChanges {
    is_some: bool,
    /// SOA record of the last version.
    apex: String,
    removed: HashSet<String>,
    added: BTreeSet<String>,
}

impl LineChanges {
    fn begin(&mut self, apex: String) {
        self.is_some = true;
        self.removed.insert(apex);
    }

    fn end(&mut self, apex: String) {
        self.apex = apex;
    }

    fn remove(&mut self, line: String) {
        if !self.added.remove(&line) {
            self.removed.insert(line);
        }
    }

    fn add(&mut self, line: String) {
        if !self.removed.remove(&line) {
            self.added.insert(line);
        }
    }

    /// Writes the copy with the changes to `to`. They must fit it.
    pub fn apply(mut self, copy: impl Read, mut to: impl Write) -> io::Result<Result<(), TransferError>> {
        to.write_all(self.apex.as_bytes())?;
        let mut copy = BufReader::new(copy);
        let mut line = String::new();
        while copy.read_line(&mut line)? > 0 {
            if self.added.contains(&line) {
                return Ok(Err(TransferError::Unfit));
            }
            if !self.removed.remove(&line) {
                to.write_all(line.as_bytes())?;
            }
            line.clear();
        }
        if !self.removed.is_empty() {
            return Ok(Err(TransferError::Unfit));
        }
        self.added.iter().try_for_each(|line| to.write_all(line.as_bytes()))?;
        Ok(Ok(()))
    }
}
