//! Dump and load of the host cache, in background threads of their own.

use super::{
    Service, SharedService,
    guard::{ApiError, Turns},
    streamed::{LINES, background, pieces, respond, stream},
};
use axum::{
    body::{Body, HttpBody},
    extract::State,
    http::StatusCode,
    response::Response,
};
use hyper::body::Bytes;
use ringdns_api::{Loaded, Refused};
use ringdns_common::backroom::Backroom;
use ringdns_resolver::snapshot::{self, Load, LoadOutcomes};
use std::{future::poll_fn, io, pin::pin, sync::LazyLock, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep, timeout},
};

/// Most bytes of a dump: it is in memory while it is loaded.
const DUMP_BYTES_MAX: u64 = 256 << 20;
/// Time within which the next piece of a dump must arrive.
const PIECE_TIME: Duration = Duration::from_secs(15);
/// Time between two lines about the progress of a load.
const PROGRESS: Duration = Duration::from_millis(250);

/// Dumps, one at a time. A slow reader holds up other readers, but no load.
static DUMPS: LazyLock<Turns> = LazyLock::new(Turns::default);
/// Loads, one at a time.
static LOADS: LazyLock<Turns> = LazyLock::new(Turns::default);

/// Dumps the entries of the host cache that may outlive this process, those in most demand first if
/// there is no room for all, in the format of the snapshot.
#[utoipa::path(
    get,
    path = "/v1/cache/dump",
    operation_id = "cache_dump",
    responses((status = 200, description = "Dump", body = Vec<u8>, content_type = "application/octet-stream")),
)]
pub(super) async fn dump(State(service): SharedService) -> Result<Response, ApiError> {
    let resolver = service.resolver.clone();
    let write = move |out: &mut _| snapshot::write(&resolver, DUMP_BYTES_MAX, out).map(drop);
    stream(&DUMPS, "application/octet-stream", write).await
}

/// Loads a dump into the host cache. Each entry is judged like an answer of an upstream, and is as old
/// as it was. A dump that is damaged, of other upstreams or from the future changes nothing. Lines of JSON
/// tell how far it is; the last one is `complete`.
#[utoipa::path(
    post,
    path = "/v1/cache/load",
    operation_id = "cache_load",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Progress, a line each", body = Loaded, content_type = "application/x-ndjson"),
        (status = 408, description = "The rest of the dump does not arrive", body = Refused),
    ),
)]
pub(super) async fn load(State(service): SharedService, body: Body) -> Result<Response, ApiError> {
    let turn = LOADS.take().await?;
    let bytes = whole(body, most(&service)).await?;
    let (backroom, resolver) = (background()?, service.resolver.clone());
    let begun = backroom.have(move || Load::begin(resolver, bytes)).await;
    let begun = begun.ok_or_else(|| ApiError::failed("the thread that loads has panicked: see the log"))?;
    let load = begun.map_err(|refused| ApiError::bad(format!("the dump is refused: {refused}")))?;
    let (progress, lines) = pieces();
    // A load runs to its end even if the client hangs up.
    tokio::spawn(advance(backroom, load, progress, turn));
    Ok(respond(LINES, lines))
}

/// Returns the most bytes of a dump that is loaded.
fn most(service: &Service) -> u64 {
    DUMP_BYTES_MAX.min(service.resolver.host().bytes().1)
}

/// Loads all entries of a dump, and tells how far it is.
async fn advance(
    backroom: Backroom,
    mut load: Load,
    progress: mpsc::Sender<io::Result<Bytes>>,
    turn: OwnedSemaphorePermit,
) {
    let mut told = Instant::now();
    loop {
        let Some((more, back)) = backroom.have(move || (load.advance(), load)).await else {
            let error = io::Error::other("the thread that loads has panicked");
            // The client may be gone, as below.
            let _ = progress.send(Err(error)).await;
            return;
        };
        load = back;
        if !more {
            break;
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let _ = progress.try_send(line(&load, false));
        }
        sleep(snapshot::PAUSE).await;
    }
    drop(turn);
    let LoadOutcomes { loaded, too_old, known, unfit, purged, .. } = load.outcomes;
    tracing::info!(loaded, too_old, known, unfit, purged, "dump loaded");
    let _ = progress.send(line(&load, true)).await;
}

/// Returns a line about the progress of a load.
fn line(load: &Load, complete: bool) -> io::Result<Bytes> {
    let LoadOutcomes { loaded, too_old, known, unfit, purged, first_unfit } = load.outcomes;
    let first_unfit = first_unfit.map(|at| at as u64);
    let entries = load.entries();
    let loaded = Loaded { complete, entries, loaded, too_old, known, unfit, purged, first_unfit };
    let mut line = serde_json::to_vec(&loaded)?;
    line.push(b'\n');
    Ok(line.into())
}

/// Reads a body of at most `most` bytes.
async fn whole(body: Body, most: u64) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let reason = format!(
            "a dump may have {most} bytes, which is cache.host_bytes or {DUMP_BYTES_MAX}, whichever is less"
        );
        ApiError(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    let announced = HttpBody::size_hint(&body).lower();
    if announced > most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    let mut body = pin!(body);
    loop {
        let frame = timeout(PIECE_TIME, poll_fn(|task| body.as_mut().poll_frame(task))).await;
        let late = |_| ApiError(StatusCode::REQUEST_TIMEOUT, "the rest of the dump does not arrive".into());
        let Some(frame) = frame.map_err(late)? else { return Ok(bytes) };
        let piece = frame.map_err(ApiError::bad)?.into_data().unwrap_or_default();
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
}
