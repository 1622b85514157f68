//! Any `Accept` header: a list is answered in a known encoding or refused with 406.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for path in ["/apis", "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/poolwright_desired_replicas"] {
        let Some(answer) = poolwright_fuzz::ask(path.as_bytes(), Some(data)) else { continue };
        answer.check();
        assert!([200, 406].contains(&answer.status.as_u16()), "{}", answer.status);
    }
});
