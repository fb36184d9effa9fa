//! Runs `weir::fuzz::traceparent`, where the promises are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir::fuzz::traceparent(data));
