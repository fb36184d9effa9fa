//! Settings that most rules leave at their default: a pointer where nothing is set.
//!
//! Must not know what the settings are.

use std::ops::Deref;

/// Settings with a default that all who set nothing share.
pub(crate) trait Sparse: Sized + 'static {
    /// As it is where nothing is set.
    fn unset() -> &'static Self;

    /// Whether nothing is set.
    fn is_unset(&self) -> bool;
}

/// Reads as the settings.
#[derive(Debug)]
pub(crate) struct Maybe<T>(Option<Box<T>>);

impl<T: Sparse> From<T> for Maybe<T> {
    fn from(settings: T) -> Self {
        Self((!settings.is_unset()).then(|| Box::new(settings)))
    }
}

impl<T: Sparse> Deref for Maybe<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(settings) => settings,
            None => T::unset(),
        }
    }
}
