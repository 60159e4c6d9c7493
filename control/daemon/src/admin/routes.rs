//! Routes of the API, and the role that each needs.

use super::{Service, audit, cache, explain, guard, logging, names, overrides, policy, profile, views};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use guard::{ApiError, Turns};
use ringdns_api::Role;
use std::sync::Arc;

/// Returns all routes. `over_http`: those of a TCP address, where metrics and profiles may be open to
/// all clients.
pub(super) fn routes(service: &Arc<Service>, over_http: bool) -> Router {
    let control = &service.config.control;
    let (metrics_are_open, profiles_are_open) =
        (over_http && control.open_metrics, over_http && control.profiles_over_http);
    let (mut open, mut readers, mut operators) = (open(), readers(), operators());
    // They run on the threads that serve misses.
    let metrics = in_turns(Router::new().route("/metrics", get(views::metrics)));
    match metrics_are_open {
        true => open = open.merge(metrics),
        false => readers = readers.merge(metrics),
    }
    match profiles_are_open {
        true => open = open.merge(profiles()),
        false => operators = operators.merge(profiles()),
    }
    let routes = open.merge(of_role(readers, Role::Read)).merge(
        of_role(operators, Role::Operate).route_layer(from_fn_with_state(service.clone(), audit::record)),
    );
    let routes = routes.fallback(guard::not_found).method_not_allowed_fallback(guard::not_allowed);
    routes.with_state(service.clone())
}

/// Returns the routes that every client may ask for.
fn open() -> Router<Arc<Service>> {
    Router::new().route("/healthz", get(views::healthz)).route("/readyz", get(views::readyz))
}

/// Returns the routes that show something.
fn readers() -> Router<Arc<Service>> {
    let costly = Router::new()
        .route("/v1/status", get(views::status))
        .route("/v1/stats", get(views::stats))
        .route("/v1/histogram", get(views::histogram))
        .route("/v1/sweeps", get(views::sweeps));
    in_turns(costly)
        .route("/v1/cache/entry", get(cache::entry))
        .route("/v1/policy/overrides", get(overrides::list))
        .route("/v1/policy/lists", get(policy::lists))
        .route("/v1/policy/test", get(policy::test))
        .route("/v1/policy/bans", get(policy::bans))
        .route("/v1/policy/floods", get(policy::floods))
        .route("/v1/names", get(names::of_address))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/log/tap", get(views::tap))
        .route("/v1/logging", get(logging::show))
}

/// Returns the routes that change something, and the audit log.
fn operators() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/cache/purge", post(cache::purge))
        .route("/v1/policy/override", post(overrides::add))
        .route("/v1/policy/clear", post(overrides::clear))
        .route("/v1/policy/pause", post(overrides::pause))
        .route("/v1/policy/resume", post(overrides::resume))
        .route("/v1/policy/refresh", post(policy::refresh))
        .route("/v1/reload", post(views::reload))
        .route("/v1/logging", post(logging::set))
        .route("/v1/audit", get(audit::list))
}

/// Returns the routes of profiles. These reveal much about the process, and cost it time.
fn profiles() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/debug/pprof/heap", get(profile::heap))
        .route("/v1/debug/pprof/profile", get(profile::cpu))
}

/// Limits routes to callers of a role.
fn of_role(routes: Router<Arc<Service>>, role: Role) -> Router<Arc<Service>> {
    routes.route_layer(from_fn_with_state(role, guard::require))
}

/// Limits routes to one request at a time.
fn in_turns(routes: Router<Arc<Service>>) -> Router<Arc<Service>> {
    routes.route_layer(from_fn_with_state(Turns::default(), in_turn))
}

/// Answers a request when it is its turn.
async fn in_turn(State(turns): State<Turns>, request: Request, next: Next) -> Result<Response, ApiError> {
    let _turn = turns.take().await?;
    Ok(next.run(request).await)
}
