//! What is promised of any bytes, as functions that panic when it does not hold.
//!
//! Owns the promises that a fuzzer tries to break: a target in `fuzz/fuzz_targets` calls each function,
//! and the test below calls all of them with every file of `fuzz/corpus`, on any toolchain. Must not have
//! logic that the proxy uses. Inputs are lines of text where that is possible, so that the files of the
//! corpus can be read and written by people.
//!
//! What fuzzing finds becomes a file of the corpus and a test beside the code that was wrong.

#![expect(clippy::panic, reason = "a broken promise has to stop the fuzzer")]

mod access_log;
mod configuration;
mod fields;
mod head;
mod keys;
mod lines;
mod proxy_protocol;
mod request;
mod split;
mod traceparent;

pub use self::access_log::access_log;
pub use self::configuration::configuration;
pub use self::fields::fields;
pub use self::head::head;
pub use self::keys::keys;
pub use self::proxy_protocol::proxy_protocol;
pub use self::request::request;
pub use self::split::split;
pub use self::traceparent::traceparent;

/// What a fuzzer calls.
pub type Target = fn(&[u8]);

/// Every target, by its name in `fuzz/`.
pub const TARGETS: [(&str, Target); 9] = [
    ("access_log", access_log),
    ("configuration", configuration),
    ("fields", fields),
    ("head", head),
    ("keys", keys),
    ("proxy_protocol", proxy_protocol),
    ("request", request),
    ("split", split),
    ("traceparent", traceparent),
];

#[cfg(test)]
mod tests;
