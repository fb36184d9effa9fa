//! A proxy process, backends and a raw client. Everything has a deadline.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod http2;
pub(crate) mod proxy;

use std::time::{Duration, Instant};

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Asks until the answer is there.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "never came: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
