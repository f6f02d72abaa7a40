//! The libFuzzer entry point of the target `probe`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| galera_probe_fuzz::probe::check(bytes));
