//! Routes of the API, the role that each needs, and the OpenAPI document, which is made from the
//! same handlers and types.

use super::{
    Service, audit, busiest, cache, caller, capture, config, console, doctor, dump, explain, guard, history,
    listing, logging, names, overrides, policy, profile, rows, views,
};
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use guard::{ApiError, Turns};
use ringdns_api::Role;
use std::sync::Arc;
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
    path::Operation,
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

type Routes = OpenApiRouter<Arc<Service>>;

/// Name of the way to present a token, in the document.
const SCHEME: &str = "token";

/// Errors that every request may get.
const ERRORS: [(&str, &str); 6] = [
    ("400", "A parameter, or the request itself, is refused"),
    ("401", "No token of the role that this needs, over TCP"),
    ("403", "The role of the token is not sufficient, or a page of another origin sent this"),
    ("413", "The request has a body, or one that is too large"),
    ("421", "The Host header names another host, over TCP"),
    ("503", "ringdnsd is busy, starting or stopping: try again"),
];

/// Returns all routes. `over_http`: those of a TCP address, where metrics and profiles may be open to
/// all clients.
pub(super) fn router(service: &Arc<Service>, over_http: bool) -> Router {
    let (router, document) = described(service, over_http);
    let routes = router.fallback(guard::not_found).method_not_allowed_fallback(guard::not_allowed);
    routes.layer(Extension(Document(document.into()))).with_state(service.clone())
}

/// Returns all routes and the document that describes them.
fn described(service: &Arc<Service>, over_http: bool) -> (Router<Arc<Service>>, OpenApi) {
    let control = &service.config.control;
    let (mut open, mut readers, mut operators) =
        (routes_of([routes!(views::healthz), routes!(views::readyz)]), readers(), operators());
    if over_http && control.console {
        open = console::FILES.iter().fold(open, |open, file| open.route(file.path, console::route(file)));
    }
    // They run on the threads that serve misses.
    let metrics = in_turns(routes_of([routes!(views::metrics)]));
    match over_http && control.open_metrics {
        true => open = open.merge(metrics),
        false => readers = readers.merge(metrics),
    }
    // These reveal much about the process, and cost it time.
    let profiles = routes_of([routes!(profile::heap), routes!(profile::cpu)]);
    match over_http && control.profiles_over_http {
        true => open = open.merge(profiles),
        false => operators = operators.merge(profiles),
    }
    let operators = of_role(operators, Role::Operate);
    let operators = operators.route_layer(from_fn_with_state(service.clone(), audit::record));
    let all = Routes::with_openapi(frame()).merge(open).merge(of_role(readers, Role::Read)).merge(operators);
    let (router, mut document) = all.split_for_parts();
    operations(&mut document).for_each(describe_errors);
    (router, document)
}

fn routes_of<const N: usize>(all: [utoipa_axum::router::UtoipaMethodRouter<Arc<Service>>; N]) -> Routes {
    all.into_iter().fold(Routes::new(), Routes::routes)
}

/// Returns the routes that show something.
fn readers() -> Routes {
    let costly = routes_of([
        routes!(views::status),
        routes!(views::stats),
        routes!(views::histogram),
        routes!(views::sweeps),
        routes!(busiest::ranking),
        routes!(history::history),
    ]);
    in_turns(costly).merge(routes_of([
        routes!(caller::show),
        routes!(cache::entry),
        routes!(listing::list),
        routes!(dump::dump),
        routes!(overrides::list),
        routes!(policy::lists),
        routes!(policy::test),
        routes!(policy::bans),
        routes!(policy::floods),
        routes!(names::of_address),
        routes!(config::show),
        routes!(config::diff),
        routes!(doctor::doctor),
        routes!(explain::explain),
        routes!(views::tap),
        routes!(rows::search),
        routes!(logging::show),
        routes!(openapi),
    ]))
}

/// Returns the routes that change something or show packets of clients, and the audit log.
fn operators() -> Routes {
    routes_of([
        routes!(cache::purge),
        routes!(dump::load),
        routes!(overrides::add),
        routes!(overrides::clear),
        routes!(overrides::pause),
        routes!(overrides::resume),
        routes!(policy::refresh),
        routes!(views::reload),
        routes!(logging::set),
        routes!(audit::list),
        routes!(capture::capture),
        routes!(capture::end),
    ])
}

/// Limits routes to callers of a role.
fn of_role(mut routes: Routes, role: Role) -> Routes {
    for operation in operations(routes.get_openapi_mut()) {
        operation.security = Some(vec![SecurityRequirement::new(SCHEME, [role.label()])]);
    }
    routes.route_layer(from_fn_with_state(role, guard::require))
}

/// Limits routes to one request at a time.
fn in_turns(routes: Routes) -> Routes {
    routes.route_layer(from_fn_with_state(Turns::default(), in_turn))
}

/// Answers a request when it is its turn.
async fn in_turn(State(turns): State<Turns>, request: Request, next: Next) -> Result<Response, ApiError> {
    let _turn = turns.take().await?;
    Ok(next.run(request).await)
}

/// Document without paths.
fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("ringdns")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Control API of ringdnsd. Over the Unix socket, every request is allowed; over TCP, a token has a role, \
             \"read\" or \"operate\", which includes the former.",
        ))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Token of a line of control.tokens_file, made by `ringctl token new`"))
        .build();
    let mut document = OpenApiBuilder::new().info(info).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(token));
    document
}

/// Returns all operations of a document.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(|item| item.get.iter_mut().chain(&mut item.post))
}

/// Adds the errors that every request may get.
fn describe_errors(operation: &mut Operation) {
    for (status, description) in ERRORS {
        let content = Content::new(Some(Ref::from_schema_name("Refused")));
        let response =
            ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.insert(status.to_owned(), response.into());
    }
}

/// Document that describes the routes.
#[derive(Clone)]
struct Document(Arc<OpenApi>);

/// Answers with this document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "openapi",
    responses((status = 200, description = "Answer", body = serde_json::Value)),
)]
async fn openapi(Extension(Document(document)): Extension<Document>) -> Result<Response, ApiError> {
    let text = document.to_json().map_err(ApiError::failed)?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Checks that the router has the paths of the document and no others.
    pub fn agree(service: &Arc<Service>) {
        for over_http in [false, true] {
            let (router, document) = described(service, over_http);
            let described: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
            let shown = format!("{router:?}");
            let quoted = shown.split('"').skip(1).step_by(2);
            // axum keeps the fallback under two paths of its own.
            let is_route =
                |text: &&str| text.len() > 1 && text.starts_with('/') && !text.contains("__private");
            let (console, routed): (BTreeSet<_>, BTreeSet<_>) =
                quoted.filter(is_route).map(str::to_owned).partition(|path| path.starts_with("/console/"));
            // The files of the console are no requests of the API: everything else is described.
            let files = console::FILES.iter().map(|file| file.path.to_owned()).filter(|path| path != "/");
            let expected: BTreeSet<_> =
                files.filter(|_| over_http && service.config.control.console).collect();
            assert_eq!(console, expected);
            assert_eq!(routed, described);
            assert!(described.len() > 25 && described.contains("/v1/openapi.json"), "{described:?}");
        }
    }
}
