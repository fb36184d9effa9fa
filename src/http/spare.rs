//! Heads of messages that are done with, for the next message of this thread: their room, and that of their
//! fields, is allocated once.
//!
//! Must not know whose heads they were.

use std::cell::RefCell;
use std::mem;
use std::thread::LocalKey;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use super::shelf::Shelf;

/// Fields that a kept one has room for.
const LARGEST: usize = 64;

type Kept<T> = RefCell<Shelf<Box<T>>>;

thread_local! {
    static REQUESTS: Kept<request::Parts> = const { RefCell::new(Shelf::new()) };
    static ANSWERS: Kept<response::Parts> = const { RefCell::new(Shelf::new()) };
}

/// Lets go of heads that this thread has not needed lately.
pub(crate) fn sweep() {
    REQUESTS.with_borrow_mut(Shelf::sweep);
    ANSWERS.with_borrow_mut(Shelf::sweep);
}

/// The head of a request of HTTP/1.1 without fields, with room for so many.
pub(crate) fn take_head(fields: usize) -> Box<request::Parts> {
    let kept = REQUESTS.with_borrow_mut(Shelf::take);
    let mut head = kept.unwrap_or_else(|| Box::new(bare_head()));
    head.version = Version::HTTP_11;
    head.headers.reserve(fields);
    head
}

/// The head of an answer of HTTP/1.1, 200, without fields, with room for so many.
pub(crate) fn take_answer(fields: usize) -> Box<response::Parts> {
    let kept = ANSWERS.with_borrow_mut(Shelf::take);
    let mut head = kept.unwrap_or_else(|| Box::new(bare_answer()));
    (head.status, head.version) = (StatusCode::OK, Version::HTTP_11);
    head.headers.reserve(fields);
    head
}

/// Keeps a head that is not needed any more. What it was read from is let go.
pub(crate) fn give_head(mut head: Box<request::Parts>) {
    (head.method, head.uri) = (Method::GET, Uri::default());
    head.extensions.clear();
    if is_small(&head.headers) {
        head.headers.clear();
        keep(&REQUESTS, head);
    }
}

/// Keeps the head of an answer likewise.
pub(crate) fn give_answer(mut head: Box<response::Parts>) {
    head.extensions.clear();
    if is_small(&head.headers) {
        head.headers.clear();
        keep(&ANSWERS, head);
    }
}

/// Values of the same name have room of their own, which no capacity tells.
fn is_small(fields: &HeaderMap) -> bool {
    fields.capacity() <= LARGEST && fields.len() <= LARGEST
}

/// Puts the head of another engine into a box.
pub(super) fn box_head(head: request::Parts) -> Box<request::Parts> {
    boxed(&REQUESTS, head)
}

/// Puts the head of an answer into a box likewise.
pub(super) fn box_answer(head: response::Parts) -> Box<response::Parts> {
    boxed(&ANSWERS, head)
}

/// Takes the head of a request out of its box, for another engine.
pub(super) fn unbox_head(boxed: &mut request::Parts) -> request::Parts {
    mem::replace(boxed, bare_head())
}

/// Takes the head of an answer out of its box, for another engine.
pub(super) fn unbox_answer(mut boxed: Box<response::Parts>) -> response::Parts {
    let head = mem::replace(&mut *boxed, bare_answer());
    keep(&ANSWERS, boxed);
    head
}

fn bare_head() -> request::Parts {
    Request::new(()).into_parts().0
}

fn bare_answer() -> response::Parts {
    Response::new(()).into_parts().0
}

fn boxed<T>(kept: &'static LocalKey<Kept<T>>, head: T) -> Box<T> {
    match kept.with_borrow_mut(Shelf::take) {
        None => Box::new(head),
        Some(mut room) => {
            *room = head;
            room
        }
    }
}

fn keep<T>(kept: &'static LocalKey<Kept<T>>, head: Box<T>) {
    kept.with_borrow_mut(|kept| kept.put(head));
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::SET_COOKIE;

    use super::*;

    #[test]
    fn what_is_given_is_taken_empty() {
        let mut head = take_head(3);
        head.headers.insert("a", "1".parse().unwrap());
        head.headers.append("a", "2".parse().unwrap());
        head.extensions.insert(1);
        (head.uri, head.version) = (Uri::from_static("/a"), Version::HTTP_2);
        head.method = Method::DELETE;
        let room = head.headers.capacity();
        give_head(head);
        let head = take_head(1);
        assert!(head.headers.is_empty() && head.extensions.is_empty());
        assert!(head.headers.capacity() == room && head.uri == "/");
        assert_eq!((head.version, head.method), (Version::HTTP_11, Method::GET));

        let mut answer = take_answer(3);
        answer.headers.insert("a", "1".parse().unwrap());
        answer.extensions.insert(1);
        (answer.status, answer.version) = (StatusCode::NOT_FOUND, Version::HTTP_2);
        give_answer(answer);
        let answer = take_answer(1);
        assert!(answer.headers.is_empty() && answer.extensions.is_empty());
        assert_eq!(
            (answer.status, answer.version),
            (StatusCode::OK, Version::HTTP_11)
        );
    }

    #[test]
    fn no_large_ones_are_kept() {
        let mut same = take_answer(0);
        for _ in 0..=LARGEST {
            let value = HeaderValue::from_static("a");
            same.headers.append(SET_COOKIE, value);
        }
        give_answer(same);
        assert_eq!(ANSWERS.with_borrow(Shelf::len), 0);
        assert!(take_answer(LARGEST + 1).headers.capacity() > LARGEST);
        for room in [4, 10 * LARGEST] {
            let mut head = Box::new(Response::new(()).into_parts().0);
            head.headers.reserve(room);
            give_answer(head);
        }
        assert_eq!(ANSWERS.with_borrow(Shelf::len), 1);
        assert!(take_answer(1).headers.capacity() <= LARGEST);
    }
}
