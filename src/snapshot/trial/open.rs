//! Stable's requests that are under way, by the slice of time in which they were assigned.
//!
//! Owns one worker's counts, in a ring: a slice that comes again begins at nothing, and what is older than
//! the ring is forgotten. Written by that worker alone. Must not know what a request is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a slice is: what came in one is not told apart.
pub(super) const SLICE: Duration = Duration::from_millis(4);

/// How many are kept.
pub(super) const SLICES: u64 = 4_096;

/// Number of a slice.
pub(super) type Slice = u64;

/// A cell has the number of its slice above these bits, and the count in them.
const BITS: u32 = 24;
const COUNT: u64 = (1 << BITS) - 1;

/// See the module.
#[derive(Debug)]
pub(super) struct Open(Box<[AtomicU64]>);

impl Default for Open {
    fn default() -> Self {
        Self((0..SLICES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Open {
    pub(super) fn begin(&self, slice: Slice) {
        let Some(cell) = self.cell(slice) else { return };
        let now = cell.load(Ordering::Relaxed);
        let count = if is_of(now, slice) { now & COUNT } else { 0 };
        if count < COUNT {
            cell.store(slice << BITS | (count + 1), Ordering::Relaxed);
        }
    }

    /// Whoever sees it ended sees the events that were counted before.
    pub(super) fn end(&self, slice: Slice) {
        let Some(cell) = self.cell(slice) else { return };
        let now = cell.load(Ordering::Relaxed);
        if is_of(now, slice) && now & COUNT > 0 {
            cell.store(now - 1, Ordering::Release);
        }
    }

    pub(super) fn count(&self, slice: Slice) -> u64 {
        let now = self
            .cell(slice)
            .map_or(0, |cell| cell.load(Ordering::Acquire));
        if is_of(now, slice) { now & COUNT } else { 0 }
    }

    fn cell(&self, slice: Slice) -> Option<&AtomicU64> {
        self.0.get((slice % SLICES) as usize)
    }
}

fn is_of(cell: u64, slice: Slice) -> bool {
    cell >> BITS == slice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_comes_again_begins_at_nothing() {
        let open = Open::default();
        open.begin(3);
        open.begin(3);
        open.end(3);
        assert_eq!((open.count(3), open.count(4)), (1, 0));
        open.begin(3 + SLICES);
        assert_eq!((open.count(3), open.count(3 + SLICES)), (0, 1));
        open.end(3);
        assert_eq!(open.count(3 + SLICES), 1, "forgotten");
        open.end(3 + SLICES);
        open.end(3 + SLICES);
        assert_eq!(open.count(3 + SLICES), 0);
    }
}
