//! Runs `weir::fuzz::access_log`, where the promises are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir::fuzz::access_log(data));
