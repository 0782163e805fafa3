#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    tiny_http::fuzz_tests::check_chunked_body(input);
});
