//! Runs `weir::fuzz::proxy_protocol`, where the promises are.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir::fuzz::proxy_protocol(data));
