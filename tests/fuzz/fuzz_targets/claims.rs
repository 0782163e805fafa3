#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    todo_backend::auth::fuzz_tests::check_claims(input);
});
