//! Gives free memory back to the system.
//!
//! Owns how the allocator is reminded of it. Must not know who uses memory.

use std::hint::black_box;
use std::time::Duration;

/// How often. The allocator itself waits a second before it gives back what has become free.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// More than the allocator shares a page for: the page goes when the block does.
const BLOCK: usize = 1 << 20;

/// mimalloc looks for what it may give back, of all threads, only when a page becomes free: without this
/// a process that has become idle would keep what it had under load. The block is never touched.
pub(super) fn give_back() {
    drop(black_box(Vec::<u8>::with_capacity(BLOCK)));
}
