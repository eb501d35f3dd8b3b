//! A secret text, such as a password: wiped from memory when its last holder lets it go, and never printed.
//!
//! Clones share one copy, so there is one place to wipe. What is computed of it is the business of whoever computes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroizing;

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_compared_but_not_printed() {
        let secret = Secret::from("hush");
        assert_eq!((&*secret, secret.clone() == Secret::from("hush")), ("hush", true));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
