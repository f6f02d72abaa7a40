//! The libFuzzer entry point of the target `option_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| galera_probe_fuzz::option_file::check(bytes));
