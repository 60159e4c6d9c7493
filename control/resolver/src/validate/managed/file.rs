//! File of managed trust anchors: a line for each key, and a line with their number at the end, so
//! that a part of a file is not taken for the whole.
//!
//! ```text
//! ringdns trust anchors 1
//! . valid since 2026-11-28T12:00:00Z DNSKEY 257 3 8 AwEAA…
//! . pending since 2026-11-28T12:00:00Z until 2026-12-28T12:00:00Z by 20326 DNSKEY 257 3 8 AwEAA…
//! end 2
//! ```

use super::super::anchors;
use ringdns_common::{files, names};
use ringdns_dnssec::{KeyState, ManagedKey, Name, TrustPoint};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const HEAD: &str = "ringdns trust anchors 1";

/// Formats a Unix time in UTC as in RFC 3339.
pub fn date(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| unix.to_string())
}

fn unix(date: &str) -> Option<u64> {
    OffsetDateTime::parse(date, &Rfc3339).ok()?.unix_timestamp().try_into().ok()
}

/// Returns the text of the file.
pub fn text<'a>(points: impl Iterator<Item = &'a TrustPoint>) -> String {
    let mut text = format!(
        "; Keys that ringdnsd manages (RFC 5011). To begin anew with dnssec.trust_anchor_file, stop\n\
         ; ringdnsd and remove this file.\n{HEAD}\n"
    );
    let mut count = 0;
    // Writing to a string cannot fail.
    for point in points {
        let zone = names::display(point.zone().as_wire());
        for ManagedKey { anchor, state, since } in point.keys() {
            let _ = write!(text, "{zone} {} since {}", name(state), date(*since));
            if let KeyState::Pending { until, by } = state {
                let by: Vec<_> = by.iter().map(u16::to_string).collect();
                let _ = write!(text, " until {} by {}", date(*until), by.join(","));
            }
            let _ = writeln!(text, " {}", anchors::display(anchor));
            count += 1;
        }
    }
    let _ = writeln!(text, "end {count}");
    text
}

/// Returns the word for a state.
pub fn name(state: &KeyState) -> &'static str {
    match state {
        KeyState::Pending { .. } => "pending",
        KeyState::Valid => "valid",
        KeyState::Missing => "missing",
        KeyState::Revoked => "revoked",
        KeyState::Removed => "removed",
    }
}

/// Parses the text of the file into the keys of each zone.
pub fn parse(text: &str) -> Result<Vec<(Name, Vec<ManagedKey>)>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(';'));
    if lines.next().is_none_or(|(_, line)| line != HEAD) {
        return Err(format!("it does not begin with {HEAD:?}"));
    }
    let (mut zones, mut count): (Vec<(Name, Vec<ManagedKey>)>, usize) = (Vec::new(), 0);
    while let Some((number, line)) = lines.next() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["end", total] = words[..] {
            let is_whole = total.parse() == Ok(count) && lines.next().is_none();
            // No zone comes to this by itself, and it would not be validated.
            let is_odd = |key: &ManagedKey| matches!(key.state, KeyState::Pending { .. });
            let odd = zones.iter().find(|(_, keys)| keys.iter().all(is_odd));
            return match odd {
                _ if !is_whole => Err(format!("line {number}: {count} keys precede it, or lines follow")),
                Some((zone, _)) => Err(format!("{zone:?} has pending keys alone")),
                None => Ok(zones),
            };
        }
        let (zone, key) = key(&words).ok_or_else(|| format!("line {number} is no key with its state"))?;
        match zones.iter_mut().find(|(known, _)| *known == zone) {
            Some((_, keys)) => keys.push(key),
            None => zones.push((zone, vec![key])),
        }
        count += 1;
    }
    Err("its end is missing".to_owned())
}

fn key(words: &[&str]) -> Option<(Name, ManagedKey)> {
    let (&[zone, state, "since", since], rest) = words.split_first_chunk()? else { return None };
    let (state, rest) = match (state, rest) {
        ("pending", ["until", until, "by", by, rest @ ..]) => {
            let by = by.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
            (KeyState::Pending { until: unix(until)?, by }, rest)
        }
        ("valid", rest) => (KeyState::Valid, rest),
        ("missing", rest) => (KeyState::Missing, rest),
        ("revoked", rest) => (KeyState::Revoked, rest),
        ("removed", rest) => (KeyState::Removed, rest),
        _ => return None,
    };
    let (zone, anchor) = anchors::record(&[&[zone], rest].concat())?;
    Some((zone, ManagedKey { anchor: anchor.ok()?, state, since: unix(since)? }))
}

/// Reads the file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes a file beside the old one and puts it in its place, so that a crash leaves one of the two
/// whole. Blocks.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = files::create_anew(beside.as_ref(), 0o644)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        drop(fs::remove_file(&beside));
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(".".as_ref()))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 2] = [
        "DNSKEY 257 3 13 tOTyp1YGOXJ/+S7YHrbvFu7kjNFc4jRgulAtJzzef+NzxEOINuM8Jzd2uZFMXAsG2C5iRnNMPF2vkV5W4WI0ZA==",
        "DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ];
    const NOON: &str = "2026-11-28T12:00:00Z";

    fn lines() -> Vec<String> {
        vec![
            HEAD.to_owned(),
            format!(". valid since {NOON} {}", KEYS[1]),
            format!(". pending since {NOON} until 2026-12-28T12:00:00Z by 20326,7 {}", KEYS[0]),
            format!("corp.example. missing since {NOON} {}", KEYS[0]),
            format!("corp.example. revoked since {NOON} {}", KEYS[1]),
            format!("corp.example. removed since {NOON} {}", KEYS[0]),
            "end 5".to_owned(),
        ]
    }

    fn points(text: &str) -> Result<Vec<TrustPoint>, String> {
        let restore = |(zone, keys)| TrustPoint::restore(zone, keys);
        parse(text).map(|zones| zones.into_iter().map(restore).collect())
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchors");
        assert_eq!(read(&path), Ok(None));
        let read_back = |text: &str| {
            write(&path, text).unwrap();
            points(&read(&path).unwrap().unwrap()).unwrap()
        };
        let first = read_back(&lines().join("\n"));
        assert_eq!(first.iter().map(|point| point.keys().len()).collect::<Vec<_>>(), [2, 3]);
        let KeyState::Pending { until, by } = &first[0].keys()[1].state else { panic!("{first:?}") };
        assert_eq!((*until, &by[..]), (first[0].keys()[0].since + 30 * 86_400, &[20326, 7][..]));
        let written = text(first.iter());
        assert_eq!(read_back(&written), first);
        let kept: Vec<_> = written.lines().filter(|line| !line.starts_with(';')).collect();
        assert_eq!(kept, lines());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchors");
        write(&path, "old").unwrap();
        fs::create_dir(folder.path().join("anchors.new")).unwrap();
        assert!(write(&path, "new").is_err());
        assert_eq!(read(&path), Ok(Some("old".to_owned())));
    }

    #[test]
    fn damage_is_told() {
        let whole = lines().join("\n");
        // A file that was cut anywhere but in its last line's end.
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end}");
        }
        for (from, to, said) in [
            (HEAD, "ringdns trust anchors 2", "does not begin"),
            ("end 5", "end 4", "line 7"),
            ("end 5", "", "end is missing"),
            ("end 5", "end 5\nend 5", "line 7"),
            (". valid", ". trusted", "line 2"),
            (". valid since", ". valid", "line 2"),
            ("since 2026", "since 1026", "line 2"),
            ("until 2026", "until soon", "line 3"),
            ("20326,7", "20326,", "line 3"),
            ("by 20326,7 ", "", "line 3"),
            ("257", "385", "line 3"),
            ("ulAt", "u", "line 3"),
            ("E06D", "E06", "line 2"),
            ("missing", "pending", "line 4"),
            (". valid", "a. valid", "pending keys alone"),
        ] {
            let damaged = whole.replacen(from, to, 1);
            assert!(damaged != whole && parse(&damaged).is_err_and(|error| error.contains(said)), "{from}");
        }
    }
}
