//! Busiest names, zones and clients.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RankingKind {
    /// Names that were asked for.
    Names,
    /// Clients that asked.
    Clients,
    /// Domains of the names: their last two labels, or three below a registry of a country.
    Zones,
    /// Names that were asked for and do not exist.
    Nxdomain,
}

impl RankingKind {
    /// All kinds.
    pub const ALL: [RankingKind; 4] =
        [RankingKind::Names, RankingKind::Clients, RankingKind::Zones, RankingKind::Nxdomain];

    /// Returns the name in the API.
    pub fn label(self) -> &'static str {
        match self {
            RankingKind::Names => "names",
            RankingKind::Clients => "clients",
            RankingKind::Zones => "zones",
            RankingKind::Nxdomain => "nxdomain",
        }
    }
}

/// Most frequent names, zones or clients of the last minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ranking {
    /// Kind.
    pub kind: RankingKind,
    /// Seconds that it covers: whole minutes, and the present one so far.
    pub seconds: u64,
    /// Queries that were counted; the sum of all keys, also of those that have no row.
    pub queries: u64,
    /// Keys, the most frequent first.
    pub rows: Vec<RankingRow>,
}

/// Key of a ranking, with its count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RankingRow {
    /// Name, zone, or address of a client in the form that `query_log.privacy` leaves.
    pub key: String,
    /// Queries.
    pub queries: u64,
    /// Least number of queries that the key can have among those counted.
    pub least: u64,
    /// Most queries that the key can have among those counted.
    pub most: u64,
    /// Part of the queries that were counted, from 0 to 1.
    pub share: f64,
}
