//! The identity of a request's user, from a verified token.

/// The longest user id, in characters.
pub const MAX_USER_ID_CHARS: usize = 255;

/// The id of a user whose token was verified.
///
/// There is no other way to make one, so no query, path or body can name a user:
///
/// ```compile_fail
/// let forged = todo_backend::auth::UserId("somebody".to_owned());
/// ```
/// ```compile_fail
/// let forged: todo_backend::auth::UserId = "somebody".to_owned().into();
/// ```
/// ```compile_fail
/// let forged: todo_backend::auth::UserId = serde_json::from_str("\"somebody\"").unwrap();
/// ```
/// ```compile_fail
/// let forged = todo_backend::auth::UserId::default();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(pub(super) String);

impl UserId {
    /// The id as Better Auth made it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user of a unit test.
    #[cfg(test)]
    pub(crate) fn of_test(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// The user of a verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The owner of the tasks.
    pub user: UserId,
    /// The e-mail address, if the token has one. Never an identity.
    pub email: Option<String>,
}
