//! Any path and query: the API answers, never redirects and never fails.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path: Vec<u8> = if data.starts_with(b"/") { data.to_vec() } else { [b"/", data].concat() };
    if let Some(answer) = poolwright_fuzz::ask(&path, None) {
        answer.check();
    }
});
