//! Runs `weir::fuzz::request`, where the promises are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir::fuzz::request(data));
