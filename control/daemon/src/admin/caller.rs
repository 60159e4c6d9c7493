//! Callers of the API: who asks, and which role that gives.
//!
//! Whoever can open the Unix socket may do everything. Over TCP, a caller has the role of the token
//! that it presents (`Authorization: Bearer`); there are no cookies, so that no page of another
//! origin can act for a user.

use super::guard::ApiError;
use crate::tokens::Tokens;
use axum::{
    Extension, Json,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
};
use nix::unistd::{Uid, User};
use ringdns_api::{CallerView, Role};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{task::spawn_blocking, time::Instant};

/// Other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// The Unix socket, opened by a process of this user, if the kernel tells.
    Socket {
        /// User of the process.
        uid: Option<u32>,
    },
    /// A TCP address.
    Http {
        /// Address of the client.
        client: SocketAddr,
        /// Address of this host that the client connected to.
        local: Option<IpAddr>,
    },
}

impl Peer {
    /// Returns the address that counts the client's connections.
    pub(super) fn address(self) -> IpAddr {
        match self {
            Peer::Socket { .. } => Ipv4Addr::LOCALHOST.into(),
            Peer::Http { client, .. } => client.ip(),
        }
    }
}

/// Caller of a request.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A user of the Unix socket.
    User(Option<u32>),
    /// The holder of a token.
    Holder {
        /// Name of the token.
        token: Arc<str>,
        /// Role of the token.
        role: Role,
        /// Address of the client.
        client: SocketAddr,
    },
    /// A client without a token.
    Anyone,
}

impl Caller {
    /// Returns the caller of a request, or the refusal of its token.
    pub(super) fn of(peer: Peer, headers: &HeaderMap, tokens: &Tokens) -> Result<Self, ApiError> {
        let client = match peer {
            Peer::Socket { uid } => return Ok(Caller::User(uid)),
            Peer::Http { client, .. } => client,
        };
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let Some(first) = given.next() else { return Ok(Caller::Anyone) };
        let refused = |reason: &str| ApiError(StatusCode::UNAUTHORIZED, reason.into());
        if given.next().is_some() {
            return Err(refused("give one Authorization header alone"));
        }
        let Some(token) = bearer(first.as_bytes()) else {
            return Err(refused("the Authorization header is not \"Bearer\" and a token (RFC 6750)"));
        };
        let found = tokens.find(token);
        let (token, role) = found.ok_or_else(|| {
            refused("this token is in no line of control.tokens_file: make one with `ringctl token new`")
        })?;
        Ok(Caller::Holder { token, role, client })
    }

    /// Returns the role of the caller; `None`: it may read what is open to all.
    pub(super) fn role(&self) -> Option<Role> {
        match self {
            Caller::User(_) => Some(Role::Operate),
            Caller::Holder { role, .. } => Some(*role),
            Caller::Anyone => None,
        }
    }

    /// Returns the caller's name, as in the audit log; `None`: it has none.
    pub(super) async fn who(&self) -> Option<String> {
        match self {
            Caller::Holder { token, .. } => Some(format!("token:{token}")),
            Caller::User(uid) => {
                let uid = *uid;
                Some(spawn_blocking(move || user(uid)).await.unwrap_or_default())
            }
            Caller::Anyone => None,
        }
    }

    /// Refuses a caller that does not have a role.
    pub(super) fn require(&self, needed: Role) -> Result<(), ApiError> {
        match self.role() {
            Some(role) if role >= needed => Ok(()),
            Some(role) => {
                let (role, needed) = (role.label(), needed.label());
                let reason = format!(
                    "this token has the role {role}, and the request needs {needed}: use another token"
                );
                Err(ApiError(StatusCode::FORBIDDEN, reason))
            }
            None => {
                let reason = format!(
                    "this needs a token of the role {}: send \"Authorization: Bearer\" and a token of \
                     control.tokens_file, or use control.socket",
                    needed.label()
                );
                Err(ApiError(StatusCode::UNAUTHORIZED, reason))
            }
        }
    }
}

/// Answers with the caller's name and role, so that a page can show what its token is good for.
#[utoipa::path(
    get,
    path = "/v1/caller",
    operation_id = "caller",
    responses((status = 200, description = "Answer", body = CallerView)),
)]
pub(super) async fn show(Extension(caller): Extension<Caller>) -> Result<Json<CallerView>, ApiError> {
    let (who, role) = (caller.who().await, caller.role());
    let view = who.zip(role).map(|(who, role)| CallerView { who, role });
    view.map(Json).ok_or_else(|| ApiError::failed("a caller with a role has no name"))
}

/// Returns the name of a user, or the number if there is none.
fn user(uid: Option<u32>) -> String {
    let Some(uid) = uid else { return "uid:unknown".into() };
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("user:{}", user.name),
        _ => format!("uid:{uid}"),
    }
}

/// Returns the token of an Authorization header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Least time between two lines of the log about refused callers.
const QUIET: Duration = Duration::from_secs(10);

/// Refusals that the log has yet to tell.
#[derive(Debug, Default)]
pub(super) struct Refusals(parking_lot::Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Refusals {
    /// Counts the refusal of a client. Returns the number of refusals to tell of, if it is time.
    pub(super) fn count(&self) -> Option<u64> {
        let mut untold = self.0.lock();
        untold.count += 1;
        let now = Instant::now();
        if untold.told.is_some_and(|told| now - told < QUIET) {
            return None;
        }
        untold.told = Some(now);
        Some(std::mem::take(&mut untold.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::digest::{SHA256, digest};
    use ringdns_config::tokens::Token;

    const CLIENT: Peer = Peer::Http {
        client: SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9)),
        local: None,
    };

    fn token(name: &str, role: Role, text: &str) -> Token {
        let hash = digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap();
        Token { name: name.into(), role, hash }
    }

    #[test]
    fn a_token_gives_its_role_and_no_other() {
        let tokens = Tokens::default();
        tokens.set(vec![token("grafana", Role::Read, "abc"), token("ops", Role::Operate, "xyz")]);
        let caller = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, value.parse().unwrap());
            Caller::of(CLIENT, &headers, &tokens)
        };
        let reader = caller("Bearer abc").unwrap();
        assert!(matches!(&reader, Caller::Holder { token, .. } if &**token == "grafana"));
        assert!(reader.require(Role::Read).is_ok());
        assert_eq!(reader.require(Role::Operate).unwrap_err().0, StatusCode::FORBIDDEN);
        assert!(caller("bearer  xyz ").unwrap().require(Role::Operate).is_ok());
        for wrong in ["Bearer abd", "Bearer ab", "Bearer abcabc", "Bearer ", "Bearer", "Basic abc", "abc", ""]
        {
            assert_eq!(caller(wrong).unwrap_err().0, StatusCode::UNAUTHORIZED, "{wrong:?}");
        }
        let anyone = Caller::of(CLIENT, &HeaderMap::new(), &tokens).unwrap();
        assert_eq!(anyone.require(Role::Read).unwrap_err().0, StatusCode::UNAUTHORIZED);
        let user = Caller::of(Peer::Socket { uid: Some(0) }, &HeaderMap::new(), &tokens).unwrap();
        assert!(user.require(Role::Operate).is_ok());

        tokens.set(Vec::new());
        assert_eq!(caller("Bearer abc").unwrap_err().0, StatusCode::UNAUTHORIZED, "it was withdrawn");
    }

    #[test]
    fn users_have_names_where_these_are_known() {
        assert_eq!(user(Some(0)), "user:root");
        assert_eq!(user(Some(4_000_000_000)), "uid:4000000000");
        assert_eq!(user(None), "uid:unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_fill_no_log() {
        let refusals = Refusals::default();
        assert_eq!(refusals.count(), Some(1));
        assert!((0..1000).all(|_| refusals.count().is_none()));
        tokio::time::advance(QUIET).await;
        assert_eq!(refusals.count(), Some(1001));
    }
}
