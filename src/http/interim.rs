//! Informational answers (RFC 9110, 15.2) between who gets them from an endpoint and who can write them to
//! the client.
//!
//! Owns that nobody is told who cannot write them. Must not know either of them.

use std::cell::{Cell, RefCell};
use std::mem;

use http::Response;

/// Is told of each informational answer of an endpoint; `None` where they end.
pub(crate) type Inform<'a> = Option<&'a dyn Fn(Response<()>)>;

/// Most of them that are told for one request. Hints come once or twice, signs of life every few seconds; more are
/// of no use to a client, but no fault.
pub(super) const MOST: usize = 100;

/// Most bytes of them that wait for their client. One that it does not take is soon of no use.
pub(super) const BYTES: usize = 64 * 1024;

/// Those of one connection of a client. Whoever serves it takes, each time that a request was polled, what
/// that has brought: requests that share a connection need no place of their own.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    wanted: Cell<bool>,
    come: RefCell<Vec<Response<()>>>,
}

impl Interims {
    /// Whether they can be written to the client.
    pub(super) fn want(&self, wanted: bool) {
        self.wanted.set(wanted);
    }

    /// See [`Interims::want`].
    pub(crate) fn are_wanted(&self) -> bool {
        self.wanted.get()
    }

    /// One more.
    pub(crate) fn put(&self, interim: Response<()>) {
        if self.wanted.get() {
            self.come.borrow_mut().push(interim);
        }
    }

    /// Whether there is something to take.
    #[inline]
    pub(super) fn have_come(&self) -> bool {
        !self.come.borrow().is_empty()
    }

    /// What has come.
    #[cold]
    pub(super) fn take(&self) -> Vec<Response<()>> {
        mem::take(&mut self.come.borrow_mut())
    }
}
