//! Any text as a policy file: it is loaded or refused with lines, and the parser ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(errors) = poolwright::policy::from_text("fuzz.yaml", text) {
        assert!(!errors.to_string().is_empty());
    }
});
