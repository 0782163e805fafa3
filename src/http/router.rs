//! From method and path to an endpoint: two tables, no state, no I/O.
//!
//! What needs an identity has a table and a type of its own, so that it cannot be served without one.

use crate::http::Method;
use crate::http::error::Error;

/// What anybody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the table below says what each is
pub enum Public {
    About,
    Health,
    Ready,
    OpenApi,
    Docs,
}

/// What only somebody with an identity may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Private {
    ListTasks,
    CreateTask,
    GetTask,
    UpdateTask,
    DeleteTask,
    CompleteTask,
}

/// A path, and what each of its methods does.
pub struct Route<E: 'static> {
    /// The path as the specification writes it; `{id}` stands for any one non-empty segment.
    pub path: &'static str,
    /// The value of `Allow` in a 405.
    pub allow: &'static str,
    /// `HEAD` is served wherever `GET` is and not listed.
    pub endpoints: &'static [(Method, E)],
}

/// The paths outside `/api`. A test holds both tables against `specs/api/openapi.json`.
pub const PUBLIC: [Route<Public>; 5] = [
    Route { path: "/", allow: "GET, HEAD", endpoints: &[(Method::Get, Public::About)] },
    Route { path: "/health", allow: "GET, HEAD", endpoints: &[(Method::Get, Public::Health)] },
    Route { path: "/ready", allow: "GET, HEAD", endpoints: &[(Method::Get, Public::Ready)] },
    Route { path: "/openapi.json", allow: "GET, HEAD", endpoints: &[(Method::Get, Public::OpenApi)] },
    Route { path: "/docs", allow: "GET, HEAD", endpoints: &[(Method::Get, Public::Docs)] },
];

/// The paths under `/api`.
pub const PRIVATE: [Route<Private>; 3] = [
    Route {
        path: "/api/tasks",
        allow: "GET, HEAD, POST",
        endpoints: &[(Method::Get, Private::ListTasks), (Method::Post, Private::CreateTask)],
    },
    Route {
        path: "/api/tasks/{id}",
        allow: "GET, HEAD, PUT, DELETE",
        endpoints: &[
            (Method::Get, Private::GetTask),
            (Method::Put, Private::UpdateTask),
            (Method::Delete, Private::DeleteTask),
        ],
    },
    Route {
        path: "/api/tasks/{id}/complete",
        allow: "PATCH",
        endpoints: &[(Method::Patch, Private::CompleteTask)],
    },
];

/// How many [`label`]s there are.
pub const LABELS: usize = PUBLIC.len() + PRIVATE.len() + 1;

/// The paths of both tables, by [`label`]. The last stands for every path that is none of them: logs and metrics never
/// show what a stranger made up.
pub const PATHS: [&str; LABELS] = {
    let mut paths = ["unknown"; LABELS];
    let mut index = 0;
    while index < LABELS - 1 {
        paths[index] =
            if index < PUBLIC.len() { PUBLIC[index].path } else { PRIVATE[index - PUBLIC.len()].path };
        index += 1;
    }
    paths
};

/// Which of [`PATHS`] this is.
pub fn label(path: &str) -> usize {
    let path = path.strip_suffix('/').unwrap_or(path);
    PATHS[..LABELS - 1].iter().position(|own| match_path(own, path).is_some()).unwrap_or(LABELS - 1)
}

/// An endpoint, and the text that stood for `{id}` in the path (empty where the path has none).
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'p, E> {
    /// What is asked for.
    pub endpoint: E,
    /// The `{id}` as it was sent.
    pub id: &'p str,
}

/// Whether a path, known or not, is only for people who show a token.
pub fn needs_identity(path: &str) -> bool {
    path.strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Finds the endpoint of a request. One trailing slash is forgiven: a redirect would break preflights.
///
/// # Errors
/// [`Error::UnknownPath`], or [`Error::MethodNotAllowed`] where the path has other methods.
pub fn find<'p, E: Copy>(routes: &[Route<E>], method: &Method, path: &'p str) -> Result<Match<'p, E>, Error> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (route, id) = routes
        .iter()
        .find_map(|route| Some((route, match_path(route.path, path)?)))
        .ok_or(Error::UnknownPath)?;
    let method = if *method == Method::Head { &Method::Get } else { method };
    match route.endpoints.iter().find(|(own, _)| own == method) {
        Some((_, endpoint)) => Ok(Match { endpoint: *endpoint, id }),
        None => Err(Error::MethodNotAllowed(route.allow)),
    }
}

/// The text in place of `{id}` (empty where the pattern has none), or `None` when the path is another.
fn match_path<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    // By characters, which are found much faster than texts: several patterns are tried for each request.
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

    type Row<E> = (Method, &'static str, Result<(E, &'static str), Error>);

    fn check<E: Copy + PartialEq + std::fmt::Debug>(routes: &[Route<E>], table: &[Row<E>]) {
        for (method, path, expected) in table {
            let found = find(routes, method, path).map(|found| (found.endpoint, found.id));
            assert_eq!(found, *expected, "{method} {path}");
        }
    }

    #[test]
    fn every_public_method_and_path_has_its_answer() {
        use Public::*;
        let read_only = || Err(Error::MethodNotAllowed("GET, HEAD"));
        check(
            &PUBLIC,
            &[
                (Method::Get, "/", Ok((About, ""))),
                (Method::Get, "", Ok((About, ""))),
                (Method::Post, "/", read_only()),
                (Method::Get, "/health", Ok((Health, ""))),
                (Method::Options, "/health", read_only()),
                (Method::Head, "/ready", Ok((Ready, ""))),
                (Method::Get, "/openapi.json/", Ok((OpenApi, ""))),
                (Method::Get, "/docs", Ok((Docs, ""))),
                (Method::Get, "//", Err(Error::UnknownPath)),
                (Method::Get, "/Health", Err(Error::UnknownPath)),
                (Method::Get, "health", Err(Error::UnknownPath)),
            ],
        );
    }

    #[test]
    fn every_private_method_and_path_has_its_answer() {
        use Private::*;
        let not_allowed = |allow| Err(Error::MethodNotAllowed(allow));
        check(
            &PRIVATE,
            &[
                (Method::Get, "/api/tasks", Ok((ListTasks, ""))),
                (Method::Head, "/api/tasks", Ok((ListTasks, ""))),
                (Method::Get, "/api/tasks/", Ok((ListTasks, ""))),
                (Method::Post, "/api/tasks/", Ok((CreateTask, ""))),
                (Method::Patch, "/api/tasks", not_allowed("GET, HEAD, POST")),
                (Method::Get, "/api/tasks/7", Ok((GetTask, "7"))),
                (Method::Head, "/api/tasks/7/", Ok((GetTask, "7"))),
                (Method::Put, "/api/tasks/abc", Ok((UpdateTask, "abc"))),
                (Method::Delete, "/api/tasks/-1", Ok((DeleteTask, "-1"))),
                (Method::Post, "/api/tasks/7", not_allowed("GET, HEAD, PUT, DELETE")),
                (Method::Patch, "/api/tasks/7/complete", Ok((CompleteTask, "7"))),
                (Method::Patch, "/api/tasks/7/complete/", Ok((CompleteTask, "7"))),
                (Method::Get, "/api/tasks/7/complete", not_allowed("PATCH")),
                (Method::Get, "/api/tasks//", Err(Error::UnknownPath)),
                (Method::Get, "/api/tasks/7//", Err(Error::UnknownPath)),
                (Method::Patch, "/api/tasks//complete", Err(Error::UnknownPath)),
                (Method::Patch, "/api/tasks/7/8/complete", Err(Error::UnknownPath)),
                (Method::Get, "/API/tasks", Err(Error::UnknownPath)),
                (Method::Get, "/api", Err(Error::UnknownPath)),
                (Method::Get, "/api/users/1/tasks", Err(Error::UnknownPath)),
            ],
        );
    }

    #[test]
    fn every_path_has_a_label_that_no_stranger_makes_up() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/health/", "/health"),
            ("/api/tasks", "/api/tasks"),
            ("/api/tasks/7", "/api/tasks/{id}"),
            ("/api/tasks/secret", "/api/tasks/{id}"),
            ("/api/tasks/7/complete", "/api/tasks/{id}/complete"),
            ("/api/tasks/7/8", "unknown"),
            ("/api", "unknown"),
            ("/unknown", "unknown"),
            ("//", "unknown"),
        ] {
            assert_eq!(PATHS[label(path)], expected, "{path}");
        }
    }

    #[test]
    fn whatever_lies_under_api_needs_an_identity() {
        for path in ["/api", "/api/", "/api/tasks", "/api/tasks/1", "/api/none"] {
            assert!(needs_identity(path), "{path}");
        }
        for path in ["/", "/health", "/apix", "/openapi.json", ""] {
            assert!(!needs_identity(path), "{path}");
        }
    }

    #[test]
    fn each_table_has_its_side_and_allow_names_each_method() {
        fn allow<E>(route: &Route<E>) -> String {
            let methods = route.endpoints.iter().map(|(method, _)| match method {
                Method::Get => "GET, HEAD".to_owned(),
                other => other.to_string(),
            });
            methods.collect::<Vec<_>>().join(", ")
        }
        for route in &PUBLIC {
            assert!(!needs_identity(route.path), "{}", route.path);
            assert_eq!(route.allow, allow(route), "{}", route.path);
        }
        for route in &PRIVATE {
            assert!(needs_identity(route.path), "{}", route.path);
            assert_eq!(route.allow, allow(route), "{}", route.path);
        }
    }
}
