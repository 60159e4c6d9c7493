//! Captures of packets, as pcapng.

use super::{
    Service, SharedService,
    filter::FilterQuery,
    guard::{ApiError, Parameters},
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use ringdns_api::{CaptureEnd, Refused};
use ringdns_capture::{CaptureError, Filter, Request};
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// Path of captures. Each is in the audit log, though it changes nothing.
pub(super) const PATH: &str = "/v1/capture";

/// Most packets of a capture.
const PACKETS_MAX: u64 = 10_000_000;
/// Longest capture in seconds.
const SECONDS_MAX: u64 = 3_600;
/// Most exchanges of which one is captured.
const SAMPLE_MAX: u32 = 1_000_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptureQuery {
    /// Number of packets after which the capture ends.
    #[serde(default = "CaptureQuery::packets")]
    #[param(minimum = 1, maximum = 10_000_000)]
    packets: u64,
    /// Time in seconds after which the capture ends.
    #[serde(default = "CaptureQuery::seconds")]
    #[param(minimum = 1, maximum = 3_600)]
    seconds: u64,
    /// Whether only queries that are dropped are captured.
    #[serde(default)]
    dropped: bool,
    /// One exchange in this many is captured, at random.
    #[serde(default = "CaptureQuery::sample")]
    #[param(minimum = 1, maximum = 1_000_000)]
    sample: u32,
    // Whatever is no field of either struct is refused.
    #[serde(flatten)]
    #[param(ignore)]
    filter: FilterQuery,
}

impl CaptureQuery {
    fn packets() -> u64 {
        1_000_000
    }

    fn seconds() -> u64 {
        600
    }

    fn sample() -> u32 {
        1
    }

    /// Returns the packets to be captured.
    fn request(&self) -> Result<Request, ApiError> {
        let within = |name: &str, value: u64, most: u64| match value {
            0 => Err(ApiError::bad(format!("{name}=0 captures nothing: give a number from 1 to {most}"))),
            _ if value > most => {
                Err(ApiError::bad(format!("{name}={value} is too much: give at most {most}")))
            }
            _ => Ok(()),
        };
        within("packets", self.packets, PACKETS_MAX)?;
        within("seconds", self.seconds, SECONDS_MAX)?;
        within("sample", self.sample.into(), SAMPLE_MAX.into())?;
        let filter = Filter { exchanges: self.filter.filter()?, dropped: self.dropped };
        if filter.dropped && filter.exchanges.needs_answer() {
            return Err(ApiError::bad(
                "dropped=true is for queries without an answer, outcome= and rcode= for answers: give one of the two",
            ));
        }
        Ok(Request {
            filter,
            sample: self.sample,
            packets: self.packets,
            time: Duration::from_secs(self.seconds),
            description: self.description(),
        })
    }

    /// Returns the parameters for the comment of the file.
    fn description(&self) -> String {
        let CaptureQuery { packets, seconds, dropped, sample, filter } = self;
        format!("packets={packets} seconds={seconds} sample={sample} dropped={dropped}{filter}")
    }
}

/// Streams the packets that workers receive and send from now on as pcapng, with what became of each. They
/// show what clients ask for and get, so the role operate is needed, and the audit log has each capture.
/// There is one at a time.
#[utoipa::path(
    get,
    path = "/v1/capture",
    operation_id = "capture",
    params(CaptureQuery, FilterQuery),
    responses(
        (status = 200, description = "Answer", body = Vec<u8>, content_type = "application/x-pcapng"),
        (status = 409, description = "Another capture is under way", body = Refused),
    ),
)]
pub(super) async fn capture(
    State(service): SharedService,
    Parameters(query): Parameters<CaptureQuery>,
) -> Result<Response, ApiError> {
    let request = query.request()?;
    let Service { captures, links, clock, .. } = &*service;
    let file = captures.begin(links, *clock, request).map_err(|error| match error {
        CaptureError::Busy => ApiError(StatusCode::CONFLICT, error.to_string()),
        CaptureError::Thread(_) => ApiError::failed(error),
    })?;
    Ok(([(CONTENT_TYPE, "application/x-pcapng")], Body::from_stream(file)).into_response())
}

/// Ends the capture under way: its reader gets the rest and the counters.
#[utoipa::path(
    post,
    path = "/v1/capture/end",
    operation_id = "end_capture",
    responses((status = 200, description = "Answer", body = CaptureEnd)),
)]
pub(super) async fn end(State(service): SharedService) -> Json<CaptureEnd> {
    Json(CaptureEnd { ended: service.captures.end() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query() -> CaptureQuery {
        let (packets, seconds, sample) =
            (CaptureQuery::packets(), CaptureQuery::seconds(), CaptureQuery::sample());
        CaptureQuery { packets, seconds, dropped: false, sample, filter: FilterQuery::default() }
    }

    #[test]
    fn captures_have_bounds_and_refusals_name_the_parameter() {
        assert!(query().request().is_ok());
        let of = |client: Option<&str>, outcome: Option<&str>| FilterQuery {
            client: client.map(str::to_owned),
            outcome: outcome.map(str::to_owned),
            ..FilterQuery::default()
        };
        for (wrong, named) in [
            (CaptureQuery { packets: 0, ..query() }, "packets=0"),
            (CaptureQuery { packets: PACKETS_MAX + 1, ..query() }, "packets=10000001"),
            (CaptureQuery { seconds: 0, ..query() }, "seconds=0"),
            (CaptureQuery { seconds: SECONDS_MAX + 1, ..query() }, "seconds=3601"),
            (CaptureQuery { sample: 0, ..query() }, "sample=0"),
            (CaptureQuery { sample: SAMPLE_MAX + 1, ..query() }, "sample=1000001"),
            (CaptureQuery { filter: of(Some("10.0.0.1/8"), None), ..query() }, "client=\"10.0.0.1/8\""),
            (CaptureQuery { filter: of(None, Some("hit")), dropped: true, ..query() }, "dropped=true"),
        ] {
            let ApiError(status, reason) = wrong.request().unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(reason.contains(named), "{reason}");
        }
    }
}
