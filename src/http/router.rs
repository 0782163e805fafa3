//! The router, from method and path to a route: one table, no state, no I/O.
//!
//! What needs a token has a type of its own, so that it cannot be served without one.

use super::Method;
use super::error::ApiError;

/// What anybody may ask for, with `GET` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the tables below say what each is
pub enum PublicRoute {
    About,
    Health,
    Ready,
    OpenApi,
    Docs,
}

/// What needs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ApiRoute {
    ListTasks,
    CreateTask,
    GetTask,
    UpdateTask,
    DeleteTask,
    CompleteTask,
}

/// A path as the specification writes it, and what each of its methods does. `{id}` stands for any one non-empty
/// segment. `HEAD` is served wherever `GET` is, and not listed.
pub type PathRoutes<R> = (&'static str, &'static [(Method, R)]);

/// The paths outside `/api`. A test holds both tables against `specs/api/openapi.json`.
pub const PUBLIC_ROUTES: &[PathRoutes<PublicRoute>] = &[
    ("/", &[(Method::Get, PublicRoute::About)]),
    ("/health", &[(Method::Get, PublicRoute::Health)]),
    ("/ready", &[(Method::Get, PublicRoute::Ready)]),
    ("/openapi.json", &[(Method::Get, PublicRoute::OpenApi)]),
    (DOCS, &[(Method::Get, PublicRoute::Docs)]),
];

/// The paths under `/api`.
#[rustfmt::skip] // one row a path
pub const API_ROUTES: &[PathRoutes<ApiRoute>] = &[
    ("/api/tasks", &[(Method::Get, ApiRoute::ListTasks), (Method::Post, ApiRoute::CreateTask)]),
    ("/api/tasks/{id}", &[
        (Method::Get, ApiRoute::GetTask), (Method::Put, ApiRoute::UpdateTask), (Method::Delete, ApiRoute::DeleteTask),
    ]),
    ("/api/tasks/{id}/complete", &[(Method::Patch, ApiRoute::CompleteTask)]),
];

/// Every path below this one belongs to the documentation page, and has its label.
const DOCS: &str = "/docs";
/// Stands for every other path: logs and metrics never show what a client made up.
pub const UNKNOWN: &str = "unknown";

/// The side of the API on which a path lies.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'p> {
    /// Outside `/api`.
    Public(Result<PublicRoute, ApiError>),
    /// Under `/api`: known or not, the path is only for clients with a token. With the text in place of `{id}`, empty
    /// where the pattern has none.
    Api(Result<(ApiRoute, &'p str), ApiError>),
}

/// Finds the route of a request, and the pattern of its path or [`UNKNOWN`]. One trailing slash is forgiven: a redirect
/// would break preflights.
pub fn match_route<'p>(method: &Method, path: &'p str) -> (&'static str, Target<'p>) {
    if is_below(path, "/api") {
        let (pattern, found) = find(API_ROUTES, method, path);
        return (pattern, Target::Api(found));
    }
    let (pattern, found) = find(PUBLIC_ROUTES, method, if is_below(path, DOCS) { DOCS } else { path });
    (pattern, Target::Public(found.map(|(route, _)| route)))
}

fn find<'p, R: Copy>(
    table: &[PathRoutes<R>],
    method: &Method,
    path: &'p str,
) -> (&'static str, Result<(R, &'p str), ApiError>) {
    let path = path.strip_suffix('/').unwrap_or(path);
    let matched = table.iter().find_map(|(pattern, methods)| Some((*pattern, *methods, match_path(pattern, path)?)));
    let Some((pattern, methods, id)) = matched else { return (UNKNOWN, Err(ApiError::RouteNotFound)) };
    let method = if *method == Method::Head { &Method::Get } else { method };
    let route = methods.iter().find(|(own, _)| own == method);
    (pattern, route.map(|(_, route)| (*route, id)).ok_or_else(|| ApiError::MethodNotAllowed(allowed(methods))))
}

/// The value of `Allow`.
pub fn allowed<R>(methods: &[(Method, R)]) -> String {
    let names = methods.iter().map(|(own, _)| if *own == Method::Get { "GET, HEAD" } else { own.as_str() });
    names.collect::<Vec<_>>().join(", ")
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The text in place of `{id}`, empty where the pattern has none; `None` when the path is another.
fn match_path<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    // By characters, which are found much faster than strings: several patterns are tried for each request.
    let Some((before, after)) = pattern.split_once('{') else {
        return (pattern.trim_end_matches('/') == path).then_some("");
    };
    let (_, after) = after.split_once('}')?;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_when_routed_gives_label_and_route() {
        use ApiRoute::*;
        use PublicRoute::*;
        let public = |route: PublicRoute| Ok((format!("{route:?}"), ""));
        let api = |route: ApiRoute, id| Ok((format!("{route:?}"), id));
        let not_allowed = |allow: &str| Err(ApiError::MethodNotAllowed(allow.to_owned()));
        let unknown = || (UNKNOWN, Err(ApiError::RouteNotFound));
        for (method, path, (label, found)) in [
            (Method::Get, "/", ("/", public(About))),
            (Method::Get, "", ("/", public(About))),
            (Method::Post, "/", ("/", not_allowed("GET, HEAD"))),
            (Method::Get, "/health", ("/health", public(Health))),
            (Method::Get, "/health/", ("/health", public(Health))),
            (Method::Options, "/health", ("/health", not_allowed("GET, HEAD"))),
            (Method::Head, "/ready", ("/ready", public(Ready))),
            (Method::Get, "/openapi.json/", ("/openapi.json", public(OpenApi))),
            (Method::Get, "/docs", ("/docs", public(Docs))),
            (Method::Get, "/docs/", ("/docs", public(Docs))),
            (Method::Get, "/docs/5.0.0/page.js", ("/docs", public(Docs))),
            (Method::Get, "/docsx", unknown()),
            (Method::Get, "//", unknown()),
            (Method::Get, "/Health", unknown()),
            (Method::Get, "health", unknown()),
            (Method::Get, "/unknown", unknown()),
            (Method::Get, "/api/tasks", ("/api/tasks", api(ListTasks, ""))),
            (Method::Head, "/api/tasks", ("/api/tasks", api(ListTasks, ""))),
            (Method::Get, "/api/tasks/", ("/api/tasks", api(ListTasks, ""))),
            (Method::Post, "/api/tasks/", ("/api/tasks", api(CreateTask, ""))),
            (Method::Patch, "/api/tasks", ("/api/tasks", not_allowed("GET, HEAD, POST"))),
            (Method::Get, "/api/tasks/7", ("/api/tasks/{id}", api(GetTask, "7"))),
            (Method::Head, "/api/tasks/7/", ("/api/tasks/{id}", api(GetTask, "7"))),
            (Method::Put, "/api/tasks/abc", ("/api/tasks/{id}", api(UpdateTask, "abc"))),
            (Method::Delete, "/api/tasks/-1", ("/api/tasks/{id}", api(DeleteTask, "-1"))),
            (Method::Post, "/api/tasks/7", ("/api/tasks/{id}", not_allowed("GET, HEAD, PUT, DELETE"))),
            (Method::Patch, "/api/tasks/7/complete", ("/api/tasks/{id}/complete", api(CompleteTask, "7"))),
            (Method::Patch, "/api/tasks/7/complete/", ("/api/tasks/{id}/complete", api(CompleteTask, "7"))),
            (Method::Get, "/api/tasks/7/complete", ("/api/tasks/{id}/complete", not_allowed("PATCH"))),
            (Method::Get, "/api/tasks//", unknown()),
            (Method::Get, "/api/tasks/7//", unknown()),
            (Method::Patch, "/api/tasks//complete", unknown()),
            (Method::Patch, "/api/tasks/7/8/complete", unknown()),
            (Method::Get, "/API/tasks", unknown()),
            (Method::Get, "/api", unknown()),
            (Method::Get, "/api/users/1/tasks", unknown()),
        ] {
            let (pattern, target) = match_route(&method, path);
            let target = match target {
                Target::Public(target) => target.map(|route| (format!("{route:?}"), "")),
                Target::Api(target) => target.map(|(route, id)| (format!("{route:?}"), id)),
            };
            assert_eq!((pattern, target), (label, found), "{method} {path}");
        }
    }

    #[test]
    fn path_when_below_api_requires_auth() {
        for path in ["/api", "/api/", "/api/tasks", "/api/tasks/1", "/api/none"] {
            assert!(matches!(match_route(&Method::Get, path).1, Target::Api(_)), "{path}");
        }
        for path in ["/", "/health", "/apix", "/openapi.json", ""] {
            assert!(matches!(match_route(&Method::Get, path).1, Target::Public(_)), "{path}");
        }
    }

    #[test]
    fn route_when_in_a_table_is_on_its_side() {
        assert!(PUBLIC_ROUTES.iter().all(|(pattern, _)| !is_below(pattern, "/api")));
        assert!(API_ROUTES.iter().all(|(pattern, _)| is_below(pattern, "/api")));
    }
}
