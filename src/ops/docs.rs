//! `/docs`: the API's description as a page for people, written from `openapi.json` when it is first asked for.
//!
//! The page is text and one style sheet. It loads and runs nothing, and its Content-Security-Policy says so, so that no
//! text of the description could make it.

use std::fmt::Write;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::http::Response;

/// The description of the API for programs.
pub const OPENAPI_JSON: &[u8] = include_bytes!("../../specs/api/openapi.json");

/// What is at this path.
pub fn response(path: &str) -> Option<Response> {
    let page = Response::new(200, "text/html; charset=utf-8", page().as_bytes());
    matches!(path, "/docs" | "/docs/").then(|| page.with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY))
}

const STYLE: &str = include_str!("docs.css");
/// Lets a browser apply [`STYLE`] by its SHA-256 and do nothing else. `tests/docs.sh` computes the sum.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-Wj+92jyhcXH98n5sb1zjLMW2PEJ6M71prH5zQHzIXH0='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub fn page() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let document = serde_json::from_str(include_str!("../../specs/api/openapi.json"))
            .expect("it is compiled in, and a test reads it");
        Page { document: &document, html: String::new() }.write()
    });
    &PAGE
}

struct Page<'d> {
    document: &'d Value,
    html: String,
}

impl<'d> Page<'d> {
    fn write(mut self) -> String {
        let info = &self.document["info"];
        let title = escape(text(&info["title"]));
        self.add(&format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             <h1>{title} {}</h1>\n<p>{}</p>\n<p>{}</p>\n<p>For programs: <a href=\"/openapi.json\">openapi.json</a>. \
             <code>HEAD</code> is served wherever <code>GET</code> is, without the body.</p>\n",
            escape(text(&info["version"])),
            prose(&info["summary"]),
            prose(&info["description"]),
        ));
        self.contents();
        for tag in items(&self.document["tags"]) {
            let name = text(&tag["name"]);
            self.add(&format!("<h2>{}</h2>\n<p>{}</p>\n", escape(name), prose(&tag["description"])));
            for (path, method, item, operation) in self.operations(name) {
                self.operation(path, method, item, operation);
            }
        }
        self.add("<h2>Errors</h2>\n");
        for (name, response) in members(&self.document["components"]["responses"]) {
            if is_error(response) {
                self.add(&format!(
                    "<h3 id=\"{}\">{}</h3>\n<p>{}</p>\n",
                    escape(name),
                    escape(name),
                    prose(&response["description"])
                ));
                self.headers(response);
                self.contents_of(response, false);
            }
        }
        self.html
    }

    fn add(&mut self, html: &str) {
        self.html.push_str(html);
    }

    /// What a value is that may only refer to another; and the last part of the reference.
    fn resolve(&self, value: &'d Value) -> (&'d Value, Option<&'d str>) {
        let Some(reference) = value["$ref"].as_str() else { return (value, None) };
        let target = reference.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer));
        (target.expect("a test follows every reference"), reference.rsplit('/').next())
    }

    /// Path, method, the path's item and the operation, of each that has this tag.
    fn operations(&self, tag: &str) -> Vec<(&'d str, &'d str, &'d Value, &'d Value)> {
        let paths = members(&self.document["paths"]);
        let all = paths.flat_map(|(path, item)| {
            members(item).map(move |(method, operation)| (path, method, item, operation))
        });
        all.filter(|(_, method, _, operation)| *method != "head" && operation["tags"][0] == tag).collect()
    }

    fn contents(&mut self) {
        self.add("<nav><ul>\n");
        for tag in items(&self.document["tags"]) {
            for (path, method, _, operation) in self.operations(text(&tag["name"])) {
                self.add(&format!(
                    "<li><a href=\"#{}\">{}</a> {}</li>\n",
                    escape(text(&operation["operationId"])),
                    call(method, path),
                    prose(&operation["summary"]),
                ));
            }
        }
        self.add("<li><a href=\"#BadRequest\">Errors</a></li>\n</ul></nav>\n");
    }

    fn operation(&mut self, path: &str, method: &str, item: &'d Value, operation: &'d Value) {
        self.add(&format!(
            "<h3 id=\"{}\">{}</h3>\n<p>{}. {}</p>\n",
            escape(text(&operation["operationId"])),
            call(method, path),
            prose(&operation["summary"]),
            prose(&operation["description"]),
        ));
        let parameters: Vec<_> = items(&item["parameters"]).chain(items(&operation["parameters"])).collect();
        if !parameters.is_empty() {
            self.add("<h4>Parameters</h4>\n<table>\n");
            for parameter in parameters {
                let (parameter, _) = self.resolve(parameter);
                let name = format!("{} ({})", text(&parameter["name"]), text(&parameter["in"]));
                let kind = self.kind(&parameter["schema"]);
                self.row(&escape(&name), &format!("{kind}. {}", prose(&parameter["description"])));
            }
            self.add("</table>\n");
        }
        if let Some(body) = operation.get("requestBody") {
            self.add(&format!("<h4>Body</h4>\n<p>{}</p>\n", prose(&body["description"])));
            self.contents_of(body, true);
        }
        self.responses(operation);
    }

    /// What comes when it succeeds in full, the errors by reference.
    fn responses(&mut self, operation: &'d Value) {
        let mut errors = String::new();
        for (status, response) in members(&operation["responses"]) {
            let (response, name) = self.resolve(response);
            if status >= "400" {
                let name = escape(name.expect("errors are described once for all operations"));
                let _ = write!(errors, "<a href=\"#{name}\">{status}</a> ");
                continue;
            }
            self.add(&format!("<h4>{status}</h4>\n<p>{}</p>\n", prose(&response["description"])));
            self.headers(response);
            self.contents_of(response, true);
        }
        self.add(&format!("<h4>Errors</h4>\n<p>{errors}</p>\n"));
    }

    fn headers(&mut self, response: &'d Value) {
        self.add("<table>\n");
        for (name, header) in members(&response["headers"]) {
            let (header, _) = self.resolve(header);
            self.row(&format!("<code>{}</code>", escape(name)), &prose(&header["description"]));
        }
        self.add("</table>\n");
    }

    /// The members of a body, where `with_schema`, and its examples.
    fn contents_of(&mut self, holder: &'d Value, with_schema: bool) {
        for (_, content) in members(&holder["content"]) {
            let (schema, _) = self.resolve(&content["schema"]);
            if with_schema && schema.get("properties").is_some() {
                self.properties(schema);
            }
            for (name, example) in members(&content["examples"]) {
                let value = &example["value"];
                let shown = value.as_str().map_or_else(|| format!("{value:#}"), str::to_owned);
                self.add(&format!(
                    "<details><summary>Example: {}</summary><pre>{}</pre></details>\n",
                    escape(name),
                    escape(&shown),
                ));
            }
        }
    }

    fn properties(&mut self, schema: &'d Value) {
        self.add("<table>\n");
        for (name, property) in members(&schema["properties"]) {
            let required = items(&schema["required"]).any(|required| required == name);
            let (target, _) = self.resolve(property);
            let kind = self.kind(property);
            let required = if required { ", always there" } else { "" };
            self.row(
                &format!("<code>{}</code>", escape(name)),
                &format!("{kind}{required}. {}", prose(&target["description"])),
            );
        }
        self.add("</table>\n");
    }

    /// The type of a schema, and its bounds, in words.
    fn kind(&self, schema: &'d Value) -> String {
        let (schema, _) = self.resolve(schema);
        let mut kind = match &schema["type"] {
            Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" or "),
            one => text(one).to_owned(),
        };
        for (member, words) in [
            ("format", ""),
            ("minimum", "at least "),
            ("maximum", "at most "),
            ("minLength", "from "),
            ("maxLength", "up to "),
            ("default", "default "),
        ] {
            if let Some(value) = schema.get(member) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let unit = if member.ends_with("Length") { " characters" } else { "" };
                let _ = write!(kind, ", {words}{value}{unit}");
            }
        }
        escape(&kind)
    }

    fn row(&mut self, name: &str, html: &str) {
        self.add(&format!("<tr><td>{name}</td><td>{html}</td></tr>\n"));
    }
}

fn is_error(response: &Value) -> bool {
    let schema = response["content"]["application/json"]["schema"]["$ref"].as_str();
    schema.is_some_and(|schema| schema.ends_with("Error"))
}

fn call(method: &str, path: &str) -> String {
    let method = method.to_ascii_uppercase();
    format!("<span class=\"method\">{}</span> <code>{}</code>", escape(&method), escape(path))
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flat_map(Map::iter);
    members.map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text of the description: what stands between backquotes is code.
fn prose(value: &Value) -> String {
    let parts = escape(text(value));
    let parts = parts.split('`').enumerate();
    parts.map(|(n, part)| if n % 2 == 0 { part.to_owned() } else { format!("<code>{part}</code>") }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_every_error() {
        let document: Value = serde_json::from_str(include_str!("../../specs/api/openapi.json")).unwrap();
        let page = page();
        for (path, item) in members(&document["paths"]) {
            for (method, operation) in members(item) {
                let shown = page.contains(&format!("<h3 id=\"{}\">", text(&operation["operationId"])));
                assert_eq!(shown, method != "head" && method != "parameters", "{method} {path}");
            }
        }
        for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "a link to {link}, which is not there");
        }
        for code in items(&document["components"]["schemas"]["Error"]["properties"]["error_code"]["enum"]) {
            assert!(page.contains(&format!("&quot;{}&quot;", text(code))), "no example of {code}");
        }
    }

    #[test]
    fn no_text_of_the_description_becomes_markup() {
        assert_eq!(prose(&Value::from("`<a>` & \"b\"")), "<code>&lt;a&gt;</code> &amp; &quot;b&quot;");
        assert!(!page().contains("<script"));
    }
}
