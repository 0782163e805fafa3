#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    todo_backend::fuzz_tests::check_database_url(input);
});
