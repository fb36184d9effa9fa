//! Runs `weir::fuzz::fields`, where the promises are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir::fuzz::fields(data));
