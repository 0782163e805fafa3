//! The router, from method and path to a route: one table, no state, no I/O.
//!
//! What needs a token has a type of its own, so that it cannot be served without one.

use super::Method;
use super::error::ApiError;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Anybody may ask for it.
    Public(PublicRoute),
    /// Needs a token.
    Api(ApiRoute),
}

/// What anybody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the table below says what each is
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

/// A path, and what each of its methods does.
pub struct PathRoutes {
    /// The path as the specification writes it. `{id}` stands for any one non-empty segment.
    pub pattern: &'static str,
    /// The value of `Allow` in a 405.
    pub allow: &'static str,
    /// `HEAD` is served wherever `GET` is, and not listed.
    pub methods: &'static [(Method, Route)],
}

const fn read_only(pattern: &'static str, methods: &'static [(Method, Route)]) -> PathRoutes {
    PathRoutes { pattern, allow: "GET, HEAD", methods }
}

/// All paths. A test holds them against `specs/api/openapi.json`.
pub const ROUTES: &[PathRoutes] = &[
    read_only("/", &[(Method::Get, Route::Public(PublicRoute::About))]),
    read_only("/health", &[(Method::Get, Route::Public(PublicRoute::Health))]),
    read_only("/ready", &[(Method::Get, Route::Public(PublicRoute::Ready))]),
    read_only("/openapi.json", &[(Method::Get, Route::Public(PublicRoute::OpenApi))]),
    read_only(DOCS, &[(Method::Get, Route::Public(PublicRoute::Docs))]),
    PathRoutes {
        pattern: "/api/tasks",
        allow: "GET, HEAD, POST",
        methods: &[(Method::Get, Route::Api(ApiRoute::ListTasks)), (Method::Post, Route::Api(ApiRoute::CreateTask))],
    },
    PathRoutes {
        pattern: "/api/tasks/{id}",
        allow: "GET, HEAD, PUT, DELETE",
        methods: &[
            (Method::Get, Route::Api(ApiRoute::GetTask)),
            (Method::Put, Route::Api(ApiRoute::UpdateTask)),
            (Method::Delete, Route::Api(ApiRoute::DeleteTask)),
        ],
    },
    PathRoutes {
        pattern: "/api/tasks/{id}/complete",
        allow: "PATCH",
        methods: &[(Method::Patch, Route::Api(ApiRoute::CompleteTask))],
    },
];

/// Every path below this one belongs to the documentation page, and has its label.
const DOCS: &str = "/docs";
/// Stands for every other path: logs and metrics never show what a client made up.
pub const UNKNOWN: &str = "unknown";

/// What was found for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'p> {
    /// The pattern of the path, or [`UNKNOWN`].
    pub label: &'static str,
    /// The route, or why there is none.
    pub target: Target<'p>,
}

/// The side of the API on which a path lies.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'p> {
    /// Outside `/api`.
    Public(Result<PublicRoute, ApiError>),
    /// Under `/api`: known or not, the path is only for clients with a token. With the text in place of `{id}`, empty
    /// where the pattern has none.
    Api(Result<(ApiRoute, &'p str), ApiError>),
}

/// Finds the route of a request. One trailing slash is forgiven: a redirect would break preflights.
pub fn match_route<'p>(method: &Method, path: &'p str) -> Match<'p> {
    let (label, found) = find(method, path);
    let target = if is_below(path, "/api") {
        Target::Api(found.and_then(|(route, id)| match route {
            Route::Api(route) => Ok((route, id)),
            Route::Public(_) => Err(ApiError::RouteNotFound),
        }))
    } else {
        Target::Public(found.and_then(|(route, _)| match route {
            Route::Public(route) => Ok(route),
            Route::Api(_) => Err(ApiError::RouteNotFound),
        }))
    };
    Match { label, target }
}

fn find<'p>(method: &Method, path: &'p str) -> (&'static str, Result<(Route, &'p str), ApiError>) {
    let path = if is_below(path, DOCS) { DOCS } else { path.strip_suffix('/').unwrap_or(path) };
    let matched = ROUTES.iter().find_map(|routes| Some((routes, match_path(routes.pattern, path)?)));
    let Some((PathRoutes { pattern, allow, methods }, id)) = matched else {
        return (UNKNOWN, Err(ApiError::RouteNotFound));
    };
    let method = if *method == Method::Head { &Method::Get } else { method };
    let route = methods.iter().find(|(own, _)| own == method);
    (pattern, route.map(|(_, route)| (*route, id)).ok_or(ApiError::MethodNotAllowed(allow)))
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
        let public = |route| Ok((Route::Public(route), ""));
        let api = |route, id| Ok((Route::Api(route), id));
        let not_allowed = |allow| Err(ApiError::MethodNotAllowed(allow));
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
            assert_eq!(find(&method, path), (label, found), "{method} {path}");
        }
    }

    #[test]
    fn path_when_below_api_requires_auth() {
        for path in ["/api", "/api/", "/api/tasks", "/api/tasks/1", "/api/none"] {
            assert!(matches!(match_route(&Method::Get, path).target, Target::Api(_)), "{path}");
        }
        for path in ["/", "/health", "/apix", "/openapi.json", ""] {
            assert!(matches!(match_route(&Method::Get, path).target, Target::Public(_)), "{path}");
        }
    }

    #[test]
    fn route_when_in_the_table_is_on_its_side_and_allowed() {
        for PathRoutes { pattern, allow, methods } in ROUTES {
            let mut names = Vec::new();
            for (method, route) in *methods {
                assert_eq!(matches!(route, Route::Api(_)), is_below(pattern, "/api"), "{pattern}");
                names.push(if *method == Method::Get { "GET, HEAD".to_owned() } else { method.to_string() });
            }
            assert_eq!(*allow, names.join(", "), "{pattern}");
        }
    }
}
