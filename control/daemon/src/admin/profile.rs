//! Profiles of memory and CPU time in pprof's format (gzip over protobuf), for `go tool pprof` and
//! similar tools.
//!
//! Profiles contain the names of functions, so that reading one takes neither the binary nor its
//! symbols.

use super::guard::{ApiError, Parameters, Turns};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use jemalloc_pprof::{PROF_CTL, StackProfile, WeightedStack};
use mappings::MAPPINGS;
use pprof::{ProfilerGuardBuilder, UnresolvedReport};
use ringdns_api::Refused;
use serde::Deserialize;
use std::{collections::HashMap, ffi::c_void, sync::LazyLock, time::Duration};
use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
    time::sleep,
};
use utoipa::IntoParams;

/// Samples per second of CPU time, over all threads. 99 avoids lockstep with periodic work.
const FREQUENCY: u32 = 99;
/// Longest duration of a CPU profile, in seconds.
const LONGEST: u32 = 300;
/// Name of the function that takes samples. The frame above it is the kernel's, and the next one is
/// the interrupted function.
const SAMPLER: &str = "perf_signal_handler";

/// Lock of the CPU profiler: a process has only one profiling timer.
static SAMPLING: Mutex<()> = Mutex::const_new(());

/// Answers with a profile of the memory in use, by allocating function.
#[utoipa::path(
    get,
    path = "/v1/debug/pprof/heap",
    operation_id = "heap_profile",
    responses(
        (status = 200, description = "Answer", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 501, description = "This build cannot do it", body = Refused),
    ),
)]
pub async fn heap() -> Result<Response, ApiError> {
    let Some(control) = PROF_CTL.as_ref() else {
        let reason = "jemalloc was started without profiling: build with .cargo/config.toml of the source, or set \
                      _RJEM_MALLOC_CONF=prof:true in the environment of ringdnsd";
        return Err(ApiError(StatusCode::NOT_IMPLEMENTED, reason.into()));
    };
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let profile = spawn_blocking(move || {
        let _turn = turn;
        control.blocking_lock().dump_pprof()
    });
    Ok(attachment("heap.pprof", profile.await.map_err(ApiError::failed)?.map_err(ApiError::failed)?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpan {
    /// Duration in seconds, in the parameter that `go tool pprof` sends.
    #[serde(default = "ProfileSpan::usual")]
    #[param(minimum = 1, maximum = 300)]
    seconds: u32,
}

impl ProfileSpan {
    fn usual() -> u32 {
        30
    }
}

/// Answers with a profile of the CPU time used from now on, by function, in workers and control
/// plane.
#[utoipa::path(
    get,
    path = "/v1/debug/pprof/profile",
    operation_id = "cpu_profile",
    params(ProfileSpan),
    responses(
        (status = 200, description = "Answer", body = Vec<u8>, content_type = "application/octet-stream"),
    ),
)]
pub async fn cpu(Parameters(ProfileSpan { seconds }): Parameters<ProfileSpan>) -> Result<Response, ApiError> {
    if !(1..=LONGEST).contains(&seconds) {
        return Err(ApiError::bad(format!("seconds={seconds} is out of range: give 1 to {LONGEST}")));
    }
    let busy = || ApiError::busy("another profile is being taken: try again when it ends");
    let _one_at_a_time = SAMPLING.try_lock().map_err(|_| busy())?;
    prepare().await;
    let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY as i32).build();
    let guard = guard.map_err(ApiError::failed)?;
    sleep(Duration::from_secs(seconds.into())).await;
    let report = guard.report().build_unresolved().map_err(ApiError::failed)?;
    drop(guard);
    let encoded = spawn_blocking(move || encode(&report)).await.map_err(ApiError::failed)?;
    Ok(attachment("cpu.pprof", encoded))
}

/// Does the allocations of a first backtrace in advance. Otherwise the first sample would do them
/// in a signal handler, where nothing may be allocated.
async fn prepare() {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_init(async || drop(spawn_blocking(backtrace::Backtrace::new_unresolved).await)).await;
}

fn encode(report: &UnresolvedReport) -> Vec<u8> {
    let mut profile = StackProfile::default();
    MAPPINGS.iter().flatten().for_each(|mapping| profile.push_mapping(mapping.clone()));
    let mut known = HashMap::new();
    let nanos = 1_000_000_000 / i64::from(FREQUENCY);
    for (sample, count) in &report.data {
        // A null may follow the outermost frame.
        let frames = sample.frames.iter().map(|frame| frame.ip() as usize);
        let mut addrs: Vec<usize> = frames.filter(|ip| *ip > 0).collect();
        let sampler = addrs.iter().position(|ip| *known.entry(*ip).or_insert_with(|| is_sampler(*ip)));
        if let Some(sampler) = sampler {
            addrs.drain(..(sampler + 2).min(addrs.len()));
        }
        // StackProfile wants the outermost frame first.
        addrs.reverse();
        let weight = (*count as i64).saturating_mul(nanos) as f64;
        let thread = String::from_utf8_lossy(&sample.thread_name[..sample.thread_name_length]);
        profile.push_stack(WeightedStack { addrs, weight }, Some(&*thread));
    }
    profile.to_pprof(("cpu", "nanoseconds"), ("cpu", "nanoseconds"), Some("thread".into()))
}

fn is_sampler(ip: usize) -> bool {
    let mut found = false;
    backtrace::resolve((ip - 1) as *mut c_void, |symbol| {
        found |= symbol.name().is_some_and(|name| name.as_bytes() == SAMPLER.as_bytes());
    });
    found
}

fn attachment(name: &str, bytes: Vec<u8>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, bytes).into_response()
}
