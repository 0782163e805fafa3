//! `/docs`: Swagger UI over `openapi.json`, from the binary alone (`specs/api/service.md`).
//!
//! `build.rs` writes the table of its files. The page can reach this server and no other, and no text of the document
//! can become a script.

use crate::http::Response;
use crate::http::error::ApiError;
use crate::http::preconditions::Preconditions;

/// The API's description, as `GET /openapi.json` serves it.
pub const OPENAPI_JSON: &[u8] = include_bytes!("../../specs/api/openapi.json");

/// What the page may do. Swagger UI's style sheet and its components have pictures in `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of `/docs`, with what its response says of it.
struct Asset {
    /// The value of `Content-Type`.
    content_type: &'static str,
    /// The value of `ETag`, with its quotes.
    etag: &'static str,
    /// The body.
    body: &'static [u8],
    /// Whether `body` is compressed.
    is_gzip: bool,
    /// Whether its path names its version, so that a client may keep it for good.
    is_immutable: bool,
    /// The value of `Content-Security-Policy`.
    csp: Option<&'static str>,
}

/// The files by path.
static ASSETS: &[(&str, Asset)] = include!(concat!(env!("OUT_DIR"), "/docs.rs"));

/// The file at `path`, which begins with `/docs`. The page is at `/docs` and `/docs/`, each with URLs that hold there.
fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|(own, _)| *own == path).map(|(_, asset)| asset)
}

/// The response to `GET path` of a client that sent these two headers.
///
/// # Errors
/// [`ApiError::RouteNotFound`], or [`ApiError::NotAcceptable`] for a compressed file where gzip is not accepted.
pub fn response(path: &str, accept_encoding: Option<&str>, if_none_match: Option<&str>) -> Result<Response, ApiError> {
    let asset = find(path).ok_or(ApiError::RouteNotFound)?;
    if asset.is_gzip && !accepts_gzip(accept_encoding) {
        return Err(ApiError::NotAcceptable);
    }
    // An invalid `If-None-Match` does not matter here: the client gets the file.
    let preconditions = Preconditions::parse(None, if_none_match).unwrap_or_default();
    let response = match preconditions.fails_if_none_match(asset.etag.trim_matches('"')) {
        true => Response::empty(304),
        false => Response::new(200, asset.content_type, asset.body),
    };
    let headers = [
        Some(("ETag", asset.etag)),
        asset.is_gzip.then_some(("Content-Encoding", "gzip")),
        asset.is_gzip.then_some(("Vary", "Accept-Encoding")),
        asset.is_immutable.then_some(("Cache-Control", "public, max-age=31536000, immutable")),
        asset.csp.map(|policy| ("Content-Security-Policy", policy)),
    ];
    Ok(headers.into_iter().flatten().fold(response, |response, (name, value)| response.with_header(name, value)))
}

/// Whether a client that sends this `Accept-Encoding` can read gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let Some(accepted) = accept_encoding else { return true };
    let weight_of = |coding: &str| {
        let mut items = accepted.split(',').map(|item| item.split_once(';').unwrap_or((item, "q=1")));
        let (_, weight) = items.find(|(own, _)| own.trim().eq_ignore_ascii_case(coding))?;
        weight.trim().strip_prefix("q=")?.parse::<f32>().ok()
    };
    weight_of("gzip").or_else(|| weight_of("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_only_files_that_are_there() {
        for (path, folder) in [("/docs", "/"), ("/docs/", "/docs/")] {
            let page = str::from_utf8(find(path).unwrap().body).unwrap();
            let links = page.split(r#"href=""#).skip(1).chain(page.split(r#"src=""#).skip(1));
            let links: Vec<_> = links.map(|rest| rest.split('"').next().unwrap()).collect();
            assert_eq!(links.len(), 4, "{page}");
            for link in links {
                assert!(find(&format!("{folder}{}", link.trim_start_matches("./"))).is_some(), "{path}: {link}");
            }
        }
        for path in ["", "/", "/docs/none", "/docs/init.js/", "/Docs", "docs"] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn compressed_file_when_gzip_is_not_accepted_is_406() {
        let (path, _) = ASSETS.iter().find(|(path, _)| path.ends_with("bundle.js")).unwrap();
        for accepted in ["gzip", "gzip, deflate, br", "br;q=1, GZIP; q=0.5", "*", "identity;q=0, *;q=0.1"] {
            let response = response(path, Some(accepted), None).unwrap();
            assert_eq!((response.status(), response.header("Content-Encoding")), (200, Some("gzip")), "{accepted}");
        }
        for refused in ["", "identity", "br", "gzip;q=0", "gzip;q=0.0, *", "*;q=0"] {
            assert_eq!(response(path, Some(refused), None).err(), Some(ApiError::NotAcceptable), "{refused}");
        }
        assert!(response(path, None, None).is_ok());
        assert!(response("/docs", Some("identity"), None).is_ok());
    }

    #[test]
    fn file_when_the_client_has_it_is_304() {
        let etag = find("/docs").unwrap().etag;
        let weak = format!("\"a\", W/{etag}");
        let status = |tags: Option<&str>| response("/docs", None, tags).unwrap().status();
        for tags in [etag, &weak, "*"] {
            assert_eq!(status(Some(tags)), 304, "{tags}");
        }
        for tags in [None, Some(""), Some("\"a\""), Some(etag.trim_matches('"'))] {
            assert_eq!(status(tags), 200, "{tags:?}");
        }
    }
}
