//! Any text as a label selector: it is parsed or refused, and evaluating it is safe.
#![no_main]

use libfuzzer_sys::fuzz_target;
use poolwright::serve::Selector;

fuzz_target!(|text: &str| {
    match Selector::parse(text) {
        Ok(selector) => {
            let labels = [("a", "1"), ("b", "x"), ("in", "in"), ("p.io/k", "")];
            let matches = || selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v));
            assert_eq!(matches(), matches());
            // Two more names that a selector may have only one way to read.
            let trimmed = Selector::parse(text.trim_matches([' ', '\t', '\r', '\n']));
            assert_eq!(trimmed.as_ref(), Ok(&selector));
        }
        Err(error) => assert!(error.to_string().len() < 2000, "messages stay short"),
    }
});
