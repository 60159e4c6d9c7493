//! `ringctl tap`: rows of the query log as they come.

use crate::{filter::FilterArgs, talk::Ringdnsd};
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use ringdns_common::printable::Printable;
use ringdns_segment::show::LogEntry;
use std::io::{self, Write};

/// Longest row in bytes: a name of 255 bytes has at most four times as many characters, and there are
/// some texts of similar length.
const ROW_MAX: usize = 64 << 10;

/// Options of `ringctl tap`.
#[derive(Args)]
pub struct Tap {
    /// Stop after this number of rows.
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Format of the rows: a JSON object, or the text of `ringctl log`.
    #[arg(short, long, value_enum, default_value = "json")]
    format: RowFormat,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Format of a row.
#[derive(Clone, Copy, ValueEnum)]
enum RowFormat {
    Json,
    Text,
}

impl Tap {
    /// Prints rows as they arrive, until enough are printed or ringdnsd stops.
    pub async fn print(&self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        let mut left = self.count.unwrap_or(u64::MAX);
        let path = format!("/v1/log/tap?{}", self.filter.parameters().join("&"));
        let mut body = ringdnsd.stream(&path).await?;
        let mut out = io::stdout().lock();
        let mut rest = Vec::new();
        while left > 0
            && let Some(frame) = body.frame().await
        {
            // The last piece may be a partial row; the next frame has the rest.
            rest.extend_from_slice(&frame?.into_data().unwrap_or_default());
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            ensure!(rest.len() - whole <= ROW_MAX, "ringdnsd sent a row of more than {ROW_MAX} bytes");
            for row in rest.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                if left > 0 {
                    self.format.write(row, &mut out)?;
                    left -= 1;
                }
            }
            out.flush()?;
            rest.drain(..whole);
        }
        Ok(())
    }
}

impl RowFormat {
    /// Writes a row, which is a line of JSON.
    fn write(self, row: &[u8], out: &mut impl Write) -> anyhow::Result<()> {
        match self {
            RowFormat::Json => out.write_all(row)?,
            RowFormat::Text => {
                let entry: LogEntry = serde_json::from_slice(row)
                    .context("ringdnsd sent a row that cannot be read: use the ringctl of its version")?;
                writeln!(out, "{}", Printable(entry))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_json_or_as_text() {
        let row = br#"{"time_ms":1700000000123,"client":"192.0.2.7","name":"www.example.","type":"AAAA","class":"IN","protocol":"udp","outcome":"miss","tier":"upstream","rcode":"NXDOMAIN","answer_bytes":97,"service_ns":1234567,"upstream":"udp://192.0.2.1:53","upstream_us":1200,"list":null,"client_group":null,"client_name":null,"action":"resolve","rule":null,"ede":"","sample":1}
"#;
        let mut out = Vec::new();
        RowFormat::Json.write(row, &mut out).unwrap();
        assert_eq!(out, row);
        out.clear();
        RowFormat::Text.write(row, &mut out).unwrap();
        let expected = "2023-11-14T22:13:20.123Z 192.0.2.7 www.example. IN AAAA udp miss upstream NXDOMAIN 97 B \
                        1234.6 us udp://192.0.2.1:53 1.2 ms\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(RowFormat::Text.write(b"{}\n", &mut Vec::new()).is_err());
    }
}
