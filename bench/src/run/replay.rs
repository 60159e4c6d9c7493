//! Recordings: queries and their times, from a capture or a text file.

use crate::question::{HEADER, name_end, record_type, wire_question};
use anyhow::{Context, Result, bail, ensure};
use etherparse::{LaxSlicedPacket, TransportSlice};
use pcap_file::{
    DataLink,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};
use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::Path,
    time::Duration,
};

/// Queries in the order of their time, packed, because there may be millions.
#[derive(Debug, Default)]
pub struct Recording {
    messages: Vec<u8>,
    /// End offset of each message, and length of its question.
    ends: Vec<(u64, u16)>,
    /// Due time of each query, in nanoseconds of the run.
    due: Vec<u64>,
}

/// Length of the longest query that is replayed, in bytes: the size of the buffers.
pub const LONGEST: usize = 512;

impl Recording {
    /// Reads a capture (pcap or pcapng) or a text file of lines `SECONDS NAME TYPE`. Time runs
    /// `speed` times as fast as in the recording.
    pub fn read(path: &Path, speed: f64) -> Result<Self> {
        let said = || format!("cannot replay {}", path.display());
        let mut file = File::open(path).with_context(said)?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic).with_context(said)?;
        file.rewind().with_context(said)?;
        let mut timed = match &magic[..read] {
            [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0xc3, 0xd4]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d] => pcap(file).with_context(said)?,
            [0x0a, 0x0d, 0x0d, 0x0a] => pcapng(file).with_context(said)?,
            _ => text(file).with_context(said)?,
        };
        // Captures of several queues need not be in order.
        timed.sort_by_key(|(at, _)| *at);
        let first = timed.first().map(|(at, _)| *at);
        let first = first.with_context(|| format!("{} holds no DNS query over UDP", path.display()))?;
        let mut recording = Recording::default();
        for (at, message) in &timed {
            let due = (*at - first).as_secs_f64() / speed;
            recording.push((due * 1e9) as u64, message);
        }
        Ok(recording)
    }

    fn push(&mut self, due: u64, message: &[u8]) {
        self.messages.extend_from_slice(message);
        let question = name_end(&message[HEADER..]).unwrap_or_default() + 4;
        self.ends.push((self.messages.len() as u64, question as u16));
        self.due.push(due);
    }

    /// Returns the number of queries.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Returns the due time of the last query.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.due.last().copied().unwrap_or_default())
    }

    /// Returns the due time of a query, in nanoseconds of the run.
    #[inline]
    pub fn due(&self, index: usize) -> u64 {
        self.due[index]
    }

    /// Returns a query as recorded.
    #[inline]
    pub fn message(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        &self.messages[start as usize..self.ends[index].0 as usize]
    }

    /// Returns the question of a query.
    #[inline]
    pub fn question(&self, index: usize) -> &[u8] {
        &self.message(index)[HEADER..HEADER + usize::from(self.ends[index].1)]
    }
}

/// Queries of a file before sorting, with their times.
type Timed = Vec<(Duration, Vec<u8>)>;

fn pcap(file: File) -> Result<Timed> {
    let mut reader = PcapReader::new(BufReader::new(file))?;
    let link = reader.header().datalink;
    let mut timed = Timed::default();
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        timed.extend(query_in(link, &packet.data).map(|query| (packet.timestamp, query)));
    }
    Ok(timed)
}

fn pcapng(file: File) -> Result<Timed> {
    let mut reader = PcapNgReader::new(BufReader::new(file))?;
    let mut timed = Timed::default();
    let mut links = Vec::new();
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) => links.push(interface.linktype),
            Block::EnhancedPacket(packet) => {
                let link = links.get(packet.interface_id as usize).copied();
                let link = link.context("a packet names an interface that is not described")?;
                timed.extend(query_in(link, &packet.data).map(|query| (packet.timestamp, query)));
            }
            _ => {}
        }
    }
    Ok(timed)
}

/// Returns the DNS query in a packet, if there is one.
fn query_in(link: DataLink, bytes: &[u8]) -> Option<Vec<u8>> {
    let packet = match link {
        DataLink::ETHERNET => LaxSlicedPacket::from_ethernet(bytes).ok()?,
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => LaxSlicedPacket::from_ip(bytes).ok()?,
        // Protocol and addresses of the link precede the IP packet: 16 bytes, or 20 (version 2).
        DataLink::LINUX_SLL => LaxSlicedPacket::from_ip(bytes.get(16..)?).ok()?,
        DataLink::LINUX_SLL2 => LaxSlicedPacket::from_ip(bytes.get(20..)?).ok()?,
        _ => return None,
    };
    let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
    if udp.destination_port() != 53 {
        return None;
    }
    let message = udp.payload();
    // A query cut off by the snap length is of no use.
    let whole = message.len() + 8 == usize::from(udp.length());
    (whole && is_query(message)).then(|| message.to_vec())
}

/// Whether a message asks one complete question.
fn is_query(message: &[u8]) -> bool {
    let Some(header) = message.first_chunk::<HEADER>() else { return false };
    let asks = header[2] & 0xf8 == 0 && header[4..6] == [0, 1];
    let end = name_end(&message[HEADER..]).filter(|end| *end <= 255).map(|end| HEADER + end + 4);
    asks && message.len() <= LONGEST && end.is_some_and(|end| end <= message.len())
}

fn text(mut file: File) -> Result<Timed> {
    let mut text = String::new();
    file.read_to_string(&mut text).context("it is neither a capture nor text")?;
    let mut timed = Timed::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (at, message) = timed_line(line).with_context(|| format!("line {}", number + 1))?;
        timed.push((at, message));
    }
    Ok(timed)
}

fn timed_line(line: &str) -> Result<(Duration, Vec<u8>)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [seconds, name, rest @ ..] = words.as_slice() else {
        bail!("\"{line}\" is not a query with its time: write lines like \"0.25 example.com A\"");
    };
    let at = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let at = at.with_context(|| format!("\"{seconds}\" is not a time in seconds"))?;
    ensure!(rest.len() <= 1, "\"{line}\" has more than a time, a name and a type");
    let qtype = rest.first().map_or(Ok(1), |text| record_type(text))?;
    // Flags with RD, and one question.
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(wire_question(name, qtype)?);
    Ok((at, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use pcap_file::{
        Endianness, TsResolution,
        pcap::{PcapHeader, PcapPacket, PcapWriter},
    };
    use std::io::Write;

    fn frame(port: u16, message: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(40_000, port);
        let mut frame = Vec::new();
        builder.write(&mut frame, message).unwrap();
        frame
    }

    fn query(name: &str) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend(wire_question(name, 28).unwrap());
        message.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        message
    }

    fn capture(packets: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (micros, bytes) in packets {
            let packet = PcapPacket::new(Duration::from_micros(*micros), bytes.len() as u32, bytes);
            writer.write_packet(&packet).unwrap();
        }
        file.write_all(&writer.into_writer()).unwrap();
        file
    }

    #[test]
    fn a_capture_gives_its_queries_in_order_of_time_bit_for_bit() {
        let (first, second) = (query("One.example"), query("two.example"));
        let mut answer = first.clone();
        answer[2] |= 0x80;
        let file = capture(&[
            (5_000_000, frame(53, &first)),
            (5_000_500, frame(53, &answer)),
            (5_000_600, frame(5353, &first)),
            (5_000_700, frame(53, &first[..15])),
            (5_300_000, frame(53, &first)),
            (5_200_000, frame(53, &second)),
        ]);
        let recording = Recording::read(file.path(), 2.0).unwrap();
        assert_eq!(recording.len(), 3);
        assert_eq!([0, 1, 2].map(|i| recording.due(i) / 1_000_000), [0, 100, 150]);
        assert_eq!([0, 1, 2].map(|i| recording.message(i)), [&first[..], &second, &first]);
        assert_eq!(recording.question(1), wire_question("two.example", 28).unwrap());
        assert_eq!(recording.duration(), Duration::from_millis(150));
    }

    #[test]
    fn a_text_file_has_times_names_and_types() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# log\n10.5 b.test AAAA\n10.25 a.test\n").unwrap();
        let recording = Recording::read(file.path(), 1.0).unwrap();
        assert_eq!([0, 1].map(|i| recording.due(i)), [0, 250_000_000]);
        assert_eq!(recording.question(0), wire_question("a.test", 1).unwrap());
        assert_eq!(recording.question(1), wire_question("b.test", 28).unwrap());
    }

    #[test]
    fn what_holds_no_query_is_named() {
        let error = Recording::read(capture(&[(1, frame(80, b"x"))]).path(), 1.0).unwrap_err().to_string();
        assert!(error.contains("no DNS query"), "{error}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0 a.test\nsoon b.test A\n").unwrap();
        let error = format!("{:#}", Recording::read(file.path(), 1.0).unwrap_err());
        assert!(error.contains("line 2") && error.contains("soon"), "{error}");
    }
}
