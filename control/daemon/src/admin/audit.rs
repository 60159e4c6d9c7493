//! Audit log: a line for each change that a known caller asks for, in the log under the target
//! `audit`, in memory for `GET /v1/audit`, and in the file of `control.audit_log`.

use super::{
    Service, SharedService,
    caller::Caller,
    capture,
    guard::{ApiError, Parameters, Reason},
};
use axum::{
    Json,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use ringdns_api::AuditRecord;
use ringdns_common::fault::Fault;
use serde::Deserialize;
use std::{
    collections::VecDeque,
    fs::{OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

/// Number of lines that are kept in memory.
const KEPT: usize = 256;
/// Most characters of a request's parameters that a line has.
const PARAMETERS_MAX: usize = 1_024;

/// Permissions of the file.
const MODE: u32 = 0o640;

/// Audit log.
#[derive(Debug, Default)]
pub struct AuditLog {
    file: Option<PathBuf>,
    last: Mutex<VecDeque<AuditRecord>>,
    /// Held while a line is written, so that lines are in the order of their ends.
    writing: Mutex<()>,
    fault: Fault,
}

impl AuditLog {
    /// Returns an audit log with a file, if there is to be one.
    pub fn new(file: Option<PathBuf>) -> Arc<Self> {
        Arc::new(AuditLog { file, ..AuditLog::default() })
    }

    /// Records a change. It may block.
    pub(super) fn write(&self, record: AuditRecord) {
        let AuditRecord { who, peer, what, parameters, status, error, .. } = &record;
        tracing::info!(target: "audit", who, peer, what, parameters, status, error, "change");
        if let Some(path) = &self.file {
            let _in_order = self.writing.lock();
            match append(path, &record) {
                Ok(()) => drop(self.fault.clear()),
                Err(error) if self.fault.set(&error) => {
                    tracing::error!(
                        "control.audit_log: {} cannot be written: {error}. Changes are in the log alone. Make room, or \
                         give ringdnsd's user access",
                        path.display()
                    );
                }
                Err(_) => {}
            }
        }
        let mut last = self.last.lock();
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(record);
    }

    /// Records what a signal did.
    pub(super) fn write_signal(&self, signal: &str, what: &str, error: Option<String>) {
        let status = if error.is_none() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        self.write(AuditRecord {
            time: now(),
            who: format!("signal:{signal}"),
            peer: None,
            what: what.into(),
            parameters: String::new(),
            status: status.as_u16(),
            error,
        });
    }
}

/// Appends a line of JSON to the file, which may have been renamed since the last one.
fn append(path: &Path, record: &AuditRecord) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    let opened = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let created = OpenOptions::new().append(true).create_new(true).mode(MODE).open(path);
            // Whatever the umask is, the group may read it.
            created.and_then(|file| file.set_permissions(Permissions::from_mode(MODE)).map(|()| file))
        }
        opened => opened,
    };
    opened?.write_all(&line)
}

fn now() -> String {
    Timestamp::now().to_string()
}

/// Change that is under way. Dropped without an answer, it is recorded as one whose client left.
struct Change {
    audit: Arc<AuditLog>,
    record: Option<AuditRecord>,
}

impl Drop for Change {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            let audit = self.audit.clone();
            spawn_blocking(move || audit.write(record));
        }
    }
}

/// Passes a request on, and records it with its result if it changes something or captures packets.
pub(super) async fn record(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    // A capture changes nothing, but it shows packets of clients.
    let changes =
        !matches!(*request.method(), Method::GET | Method::HEAD) || request.uri().path() == capture::PATH;
    let caller = request.extensions().get::<Caller>().filter(|caller| changes && caller.role().is_some());
    let Some(caller) = caller.cloned() else { return next.run(request).await };
    let Some(who) = caller.who().await else { return next.run(request).await };
    let peer = match caller {
        Caller::Holder { client, .. } => Some(client.to_string()),
        Caller::User(_) | Caller::Anyone => None,
    };
    let parameters = request.uri().query().unwrap_or_default();
    let record = AuditRecord {
        time: now(),
        who,
        peer,
        what: request.uri().path().to_owned(),
        parameters: parameters.chars().take(PARAMETERS_MAX).collect(),
        status: 0,
        error: None,
    };
    let mut change = Change { audit: service.audit.clone(), record: Some(record) };
    let response = next.run(request).await;
    if let Some(mut record) = change.record.take() {
        record.status = response.status().as_u16();
        record.error = response.extensions().get().map(|Reason(reason)| reason.to_string());
        // A panic in there is in the log.
        drop(spawn_blocking(move || change.audit.write(record)).await);
    }
    response
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Number of changes; absent: all that are kept.
    last: Option<usize>,
}

/// Answers with the last changes, the newest last.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "audit",
    params(AuditQuery),
    responses((status = 200, description = "Answer", body = Vec<AuditRecord>)),
)]
pub(super) async fn list(
    State(service): SharedService,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<Vec<AuditRecord>>, ApiError> {
    let kept = service.audit.last.lock();
    let skipped = kept.len().saturating_sub(query.last.unwrap_or(KEPT));
    Ok(Json(kept.iter().skip(skipped).cloned().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_go_to_the_file_of_that_name_and_the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = AuditLog::new(Some(path.clone()));
        let write = |count: usize| (0..count).for_each(|_| audit.write_signal("SIGHUP", "/v1/reload", None));
        write(2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        write(KEPT + 1);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<AuditRecord> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &*lines[0].who, lines[0].status), (KEPT + 1, "signal:SIGHUP", 200));
        assert_eq!(audit.last.lock().len(), KEPT);

        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        write(1);
        assert!(audit.fault.reason().is_some(), "it cannot be written");
        fs::remove_dir(&path).unwrap();
        write(1);
        assert!(audit.fault.reason().is_none() && path.exists());
    }
}
