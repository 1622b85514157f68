//! Waiting for what another process does: looking again until it is so, with a deadline far beyond what it
//! should take.

use std::time::{Duration, Instant};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Long enough for anything that happens at once or within one sync, on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// The first success of `look`; panics with its last error when there is none in time.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(why) if start.elapsed() > limit => panic!("{what}: not within {limit:?}: {why}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Wait until it is so; what is shown otherwise is the value that `look` gave last.
pub async fn until_equal<T: PartialEq + std::fmt::Debug>(what: &str, wanted: T, mut look: impl AsyncFnMut() -> T) {
    until(what, SOON, async || {
        let seen = look().await;
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?} instead of {wanted:?}")) }
    })
    .await;
}
