//! The user name and password of the account that logs in.

use super::auth::Password;
use super::error::Error;

/// A user name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: Password,
}

/// The longest user name of any server, in bytes: 80 characters on MariaDB, in UTF-8.
const MAX_USER: usize = 320;

impl Credentials {
    /// Creates the credentials of an account.
    ///
    /// # Errors
    /// [`Error::Request`] if the user name contains NUL or is longer than 320 bytes.
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
