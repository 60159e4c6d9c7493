use super::*;
use crate::text::LINE_MAX;
use std::io::{self, BufReader, Read};

#[test]
fn lines_are_counted_by_kind() {
    let text = b"\xef\xbb\xbf# Title\r\n\r\n0.0.0.0 a.example b.example\r\n127.0.0.1 localhost\n0.0.0.0 \xfc.example\n# \xfc\n0.0.0.0 \x1b[31mx\n0.0.0.0 c.example a..b";
    let (report, rules) = rules(Format::Hosts, text).unwrap();
    let skipped = [(Reason::OwnHost, 1), (Reason::NotUtf8, 1), (Reason::Character, 1)].into();
    let expected = Counts {
        lines: 8,
        blank: 1,
        comments: 2,
        directives: 0,
        with_rules: 2,
        rules: 3,
        partial: 1,
        skipped,
    };
    assert_eq!(report.counts, expected);
    assert_eq!(report.counts.skipped_lines(), 3);
    assert_eq!(rules.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 3, 8]);
    let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "line 5: \"0.0.0.0 \u{fffd}.example\": it is not UTF-8 text",
            "line 7: \"0.0.0.0 \\u{1b}[31mx\": it has a character that is in no host name",
            "line 8: \"0.0.0.0 c.example a..b\": a label is empty or longer than 63 bytes",
        ]
    );
}

#[test]
fn long_lines_are_skipped_and_problems_are_few_and_short() {
    let fits = format!("ads.example #{}", "x".repeat(LINE_MAX - 13));
    let (report, found) = rules(Format::Plain, format!("{fits}\r\n{fits}x\nb.example").as_bytes()).unwrap();
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(report.counts.skipped, [(Reason::LongLine, 1)].into());
    assert!(report.problems[0].text.chars().count() < 90, "{}", report.problems[0]);

    // A CR within a long line is not its end, wherever the stream is cut.
    let long = format!("ads.example #{}\rz\nb.example\n", "x".repeat(LINE_MAX - 13));
    let text = format!("{}{long}", format!("#{}\n", "x".repeat(1000)).repeat(70));
    let report = read(BufReader::with_capacity(7, text.as_bytes()), Format::Plain, |_, _| {}).unwrap();
    assert_eq!(report.counts.skipped, [(Reason::LongLine, 1)].into());

    let bad = "a..b\n".repeat(1000) + "ads.example\n";
    let (report, _) = rules(Format::Plain, bad.as_bytes()).unwrap();
    assert_eq!((report.counts.skipped_lines(), report.problems.len()), (1000, 20));
}

/// Stream of one line of so many bytes.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let len = to.len().min(usize::try_from(self.0).unwrap_or(usize::MAX));
        to[..len].fill(b'a');
        self.0 -= len as u64;
        Ok(len)
    }
}

#[test]
fn a_line_without_an_end_costs_no_memory() {
    let mut report = None;
    let used = allocation_counter::measure(|| {
        let reader = BufReader::with_capacity(4096, b"ads.example\n".chain(Endless(1 << 27)));
        report = Some(read(reader, Format::Plain, |_, _| {}));
    });
    let report = report.unwrap().unwrap();
    assert_eq!((report.counts.lines, report.counts.rules), (2, 1));
    assert_eq!(report.problems[0].reason, Reason::LongLine);
    assert!(report.problems[0].text.len() < 400);
    assert!(used.bytes_max < 1 << 18, "{used:?}");
}

/// Stream that fails after its text.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

#[test]
fn a_stream_that_fails_is_no_shorter_list() {
    let text = "ads.example\n".repeat(10_000);
    let reader = BufReader::new(text.as_bytes().chain(Failing));
    let error = read(reader, Format::Auto, |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "the list cannot be read: the disk is on fire");
}
