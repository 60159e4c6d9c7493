//! `ringctl top names`, `clients`, `zones` and `nxdomain`: the busiest of the last minutes.

use super::screen::Content;
use crate::row::{Row, RowKind, push, table};
use crate::table::Table;
use clap::ValueEnum;
use crossterm::event::KeyCode;
use ratatui::{Frame, layout::Rect, style::Style};
use ringdns_api::{Ranking, RankingKind, RankingRow};
use ringdns_common::units::counted;
use tokio::time::Instant;

/// Kind of a ranking, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ranked {
    /// Names that were asked for.
    Names,
    /// Clients that asked.
    Clients,
    /// Domains of the names.
    Zones,
    /// Names that were asked for and do not exist.
    Nxdomain,
}

impl From<Ranked> for RankingKind {
    fn from(ranked: Ranked) -> Self {
        match ranked {
            Ranked::Names => RankingKind::Names,
            Ranked::Clients => RankingKind::Clients,
            Ranked::Zones => RankingKind::Zones,
            Ranked::Nxdomain => RankingKind::Nxdomain,
        }
    }
}

/// Live ranking.
#[derive(Default)]
pub struct LiveRanking(pub Option<Ranking>);

impl Content for LiveRanking {
    type Sample = Ranking;

    const KEYS: &'static str = "";

    const HELP: &'static str = "q, Esc     end
up, down   scroll by a line
PgUp, PgDn scroll by a page
Home, End  first, last line
?          this help

QUERIES   queries of the last minutes, as counted
LEAST, MOST  bounds of the true count among the queries that were counted
SHARE     part of all queries that were counted
A worker that has much to do counts a sample, of a thousand queries a second:
a share s is then told to within some sqrt(s / sampled).
Clients and names that the query log leaves out are not counted.";

    fn update(&mut self, _: Instant, ranking: Ranking) {
        self.0 = Some(ranking);
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn press(&mut self, _: KeyCode) -> bool {
        false
    }

    fn rows(&self, width: usize) -> Vec<Row> {
        self.0.as_ref().map(|ranking| rows(ranking, width)).unwrap_or_default()
    }

    fn draw_below(&self, _: &mut Frame<'_>, _: Rect, _: Style) {}
}

/// Returns the rows of a ranking, none of which is wider than `width` if that is at least 40.
pub fn rows(ranking: &Ranking, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let (head, subject) = match ranking.kind {
        RankingKind::Names => ("NAME", "queries by name"),
        RankingKind::Clients => ("CLIENT", "queries by client"),
        RankingKind::Zones => ("ZONE", "queries by zone"),
        RankingKind::Nxdomain => ("NAME", "queries for names that do not exist"),
    };
    let (minutes, seconds) = (ranking.seconds / 60, ranking.seconds % 60);
    let queries = counted(ranking.queries, "query", "queries");
    let title = format!("{subject}, last {minutes} min {seconds} s: {queries} counted");
    push(&mut rows, RowKind::Head, &title, width);
    let row = |RankingRow { key, queries, least, most, share }: &RankingRow| {
        let per_second = *queries as f64 / ranking.seconds.max(1) as f64;
        let numbers = [queries, least, most].map(ToString::to_string);
        let rates = [format!("{per_second:.1}"), format!("{:.1}%", share * 100.0)];
        [key.clone()].into_iter().chain(rates).chain(numbers).collect()
    };
    let heads = [head, "PER-SEC", "SHARE", "QUERIES", "LEAST", "MOST"];
    table(&mut rows, Table::new(&heads, 1).rows(ranking.rows.iter().map(row)), width);
    rows
}
