use super::auth::Password;
use super::error::Error;

/// The longest user name of any server: 80 characters of MariaDB, in UTF-8.
const MAX_USER: usize = 320;

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: Password,
}

impl Credentials {
    /// # Errors
    /// [`Error::Request`] for a user name that no login packet can carry: with
    /// a NUL in it, or over 320 bytes.
    pub fn new(user: impl Into<String>, password: Password) -> Result<Self, Error> {
        let user = user.into();
        if user.contains('\0') {
            return Err(Error::Request { what: "user name contains NUL" });
        }
        if user.len() > MAX_USER {
            return Err(Error::Request { what: "user name is over 320 bytes" });
        }
        Ok(Self { user, password })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> &Password {
        &self.password
    }
}
