//! What came of a write to kube-apiserver.

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Somebody else was faster: read again.
    Conflict,
    /// Refused or not answered, and why.
    Failed(String),
}

/// The outcome of a call that writes.
pub fn written(result: Result<(), kube::Error>) -> Written {
    match result {
        Ok(()) => Written::Done,
        Err(kube::Error::Api(status)) if status.code == 409 => Written::Conflict,
        Err(error) => Written::Failed(error.to_string()),
    }
}
