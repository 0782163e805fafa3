//! Findings of `--check`.

/// One thing that was inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was inspected: `database`, `TLS`, `server`, `pooler`, `table`, `insert`, …
    pub name: &'static str,
    /// Whether the service works with it as it is.
    pub ok: bool,
    /// What was found. Holds no secret.
    pub message: String,
    /// What to do; empty where nothing need be done.
    pub hint: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, ok: true, message: message.into(), hint: String::new() }
    }

    pub(super) fn note(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..Self::ok(name, message) }
    }

    pub(super) fn fail(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { ok: false, ..Self::note(name, message, hint) }
    }
}
