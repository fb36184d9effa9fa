//! Maps of fields that are done with, for the next message of this thread: their room is allocated once.
//!
//! Must not know whose fields they held.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that are kept.
const MOST: usize = 64;
/// Fields that a kept one has room for.
const LARGEST: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for so many fields.
pub(crate) fn take(fields: usize) -> HeaderMap {
    match SPARE.with_borrow_mut(Vec::pop) {
        Some(map) if map.capacity() >= fields => map,
        _ => HeaderMap::with_capacity(fields),
    }
}

/// Keeps a map that is not needed any more.
pub(crate) fn give(mut map: HeaderMap) {
    if (1..=LARGEST).contains(&map.capacity()) {
        map.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST {
                spare.push(map);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_empty() {
        let mut map = take(3);
        map.insert("a", "1".parse().unwrap());
        map.append("a", "2".parse().unwrap());
        let room = map.capacity();
        give(map);
        let map = take(1);
        assert!(map.is_empty() && map.capacity() == room);
        assert!(take(LARGEST + 1).capacity() > LARGEST);
        for _ in 0..2 * MOST {
            give(HeaderMap::with_capacity(4));
            give(HeaderMap::with_capacity(10 * LARGEST));
        }
        assert!(SPARE.with_borrow(Vec::len) <= MOST);
        assert!(take(1).capacity() <= LARGEST);
    }
}
