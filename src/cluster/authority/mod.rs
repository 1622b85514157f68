//! When certificates are renewed and which authorities are trusted meanwhile: a function of what is stored, what the
//! APIService trusts, and the time. It knows no Kubernetes client and sees no key.
//!
//! Replicas share one Secret and one APIService and see both a little late. What holds at every moment: the
//! `caBundle` verifies the certificate that any replica serves. So an authority is trusted first, signs later, and is
//! forgotten when everything it signed has expired.

#[cfg(test)]
mod tests;

/// SHA-256 of a certificate.
pub type Fingerprint = [u8; 32];

/// Unix times, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validity {
    pub from_seconds: f64,
    pub until_seconds: f64,
}

impl Validity {
    /// Renewal is due after two thirds of the life.
    fn is_due(self, now_seconds: f64) -> bool {
        now_seconds >= self.from_seconds + (self.until_seconds - self.from_seconds) * 2.0 / 3.0
    }
}

/// A certificate authority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Authority {
    pub fingerprint: Fingerprint,
    pub validity: Validity,
}

/// A serving certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leaf {
    /// The known authority that signed it.
    pub issuer: Option<Fingerprint>,
    pub validity: Validity,
    /// Whether it names all host names it should.
    pub names_fit: bool,
}

/// What the Secret holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The first one signs, the others were before it.
    pub authorities: Vec<Authority>,
    /// Whether the key of the first one is there.
    pub can_sign: bool,
    /// The serving certificate, when its key is there too.
    pub leaf: Option<Leaf>,
}

/// Whom kube-apiserver trusts when it calls us.
#[derive(Clone, Debug, PartialEq)]
pub enum Trust {
    /// It does not call us: the APIService is absent or somebody else's.
    Nobody,
    /// It cannot be read.
    Unknown,
    /// The `caBundle`, and since when this replica has seen each authority in it.
    Bundle(Vec<(Authority, f64)>),
}

impl Trust {
    /// Whether this authority has been trusted for so long that every kube-apiserver knows it.
    fn is_settled(&self, authority: Fingerprint, lifetimes: Lifetimes, now_seconds: f64) -> bool {
        match self {
            Self::Nobody => true,
            Self::Unknown => false,
            Self::Bundle(trusted) => trusted
                .iter()
                .any(|(a, since)| a.fingerprint == authority && now_seconds >= since + lifetimes.settle_seconds()),
        }
    }
}

/// How long certificates live; everything else follows from the life of the serving certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lifetimes {
    pub leaf_seconds: f64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { leaf_seconds: 90.0 * 86_400.0 }
    }
}

impl Lifetimes {
    /// An authority signs for two thirds of its life and is needed for one leaf's life after that.
    pub fn authority_seconds(self) -> f64 {
        4.0 * self.leaf_seconds
    }

    /// By how much clocks may differ: certificates begin that much in the past.
    pub fn allowance_seconds(self) -> f64 {
        (self.leaf_seconds / 20.0).min(300.0)
    }

    /// Time until every kube-apiserver has heard of a new `caBundle`.
    pub fn settle_seconds(self) -> f64 {
        (self.leaf_seconds / 10.0).min(60.0)
    }

    /// Time after the birth of an authority during which what its predecessor signed may still be served.
    fn keep_seconds(self) -> f64 {
        self.leaf_seconds + 3.0 * self.allowance_seconds()
    }
}

/// A change of the Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new authority and at once a certificate by it: there is nothing that could be kept.
    Everything,
    /// A new authority, which does not sign yet.
    Authority,
    /// A new serving certificate by the first authority.
    Leaf,
    /// Authorities whose certificates have all expired go.
    Forget(Vec<Fingerprint>),
}

/// The next change of the Secret, if one is due. `None` for `stored`: there is no Secret.
pub fn next(stored: Option<&Stored>, trust: &Trust, lifetimes: Lifetimes, now_seconds: f64) -> Option<Change> {
    let Some(stored) = stored else { return Some(Change::Everything) };
    let known = |issuer: Fingerprint| stored.authorities.iter().any(|a| a.fingerprint == issuer);
    let leaf = stored.leaf.filter(|l| now_seconds < l.validity.until_seconds && l.issuer.is_some_and(known));
    let signing = stored.authorities.first().filter(|a| stored.can_sign && now_seconds < a.validity.until_seconds);
    let Some(first) = signing.filter(|a| !a.validity.is_due(now_seconds)) else {
        return Some(if leaf.is_some() { Change::Authority } else { Change::Everything });
    };
    let Some(leaf) = leaf else { return Some(Change::Leaf) };
    let due = if leaf.issuer == Some(first.fingerprint) {
        !leaf.names_fit || leaf.validity.is_due(now_seconds)
    } else {
        // An untrusted certificate fails as surely as an expired one: the old one goes first.
        let ends = leaf.validity.until_seconds - now_seconds <= lifetimes.settle_seconds();
        ends || trust.is_settled(first.fingerprint, lifetimes, now_seconds)
    };
    if due {
        return Some(Change::Leaf);
    }
    let gone = |a: &&Authority| Some(a.fingerprint) != leaf.issuer && is_over(a, first, lifetimes, now_seconds);
    let forgotten: Vec<Fingerprint> = stored.authorities.iter().skip(1).filter(gone).map(|a| a.fingerprint).collect();
    (!forgotten.is_empty()).then_some(Change::Forget(forgotten))
}

/// Whether nothing that `old` signed can be served any more, now that `first` signs.
fn is_over(old: &Authority, first: &Authority, lifetimes: Lifetimes, now_seconds: f64) -> bool {
    now_seconds >= old.validity.until_seconds
        || now_seconds >= first.validity.from_seconds + lifetimes.keep_seconds()
            && old.validity.from_seconds <= first.validity.from_seconds
}

/// What the `caBundle` should hold: what is stored, and what it holds already until all that may have been signed by
/// it is over. So a Secret that was lost, or a change from other certificates, does not cut anybody off.
pub fn wanted_bundle(
    stored: &Stored,
    current: &[Authority],
    lifetimes: Lifetimes,
    now_seconds: f64,
) -> Vec<Fingerprint> {
    let Some(first) = stored.authorities.first() else { return Vec::new() };
    let mut wanted = vec![first.fingerprint];
    let issuer = stored.leaf.and_then(|l| l.issuer);
    for authority in stored.authorities.iter().skip(1).chain(current) {
        let needed = Some(authority.fingerprint) == issuer || !is_over(authority, first, lifetimes, now_seconds);
        if needed && !wanted.contains(&authority.fingerprint) {
            wanted.push(authority.fingerprint);
        }
    }
    wanted
}

/// Whether a replica that serves `served`, or nothing yet, may serve `stored` from now on.
pub fn may_serve(stored: &Leaf, served: Option<&Leaf>, trust: &Trust, lifetimes: Lifetimes, now_seconds: f64) -> bool {
    let Some(issuer) = stored.issuer else { return false };
    let settled = trust.is_settled(issuer, lifetimes, now_seconds);
    let Some(served) = served else {
        let Trust::Bundle(trusted) = trust else { return true };
        let others = trusted.iter().any(|(a, _)| a.fingerprint != issuer);
        let contained = trusted.iter().any(|(a, _)| a.fingerprint == issuer);
        let since = stored.validity.from_seconds + lifetimes.allowance_seconds();
        // Nobody was ever trusted but this one; or it was issued so long ago that it must be trusted by now. Else
        // other replicas answer meanwhile.
        return !others || settled || contained && now_seconds >= since + 2.0 * lifetimes.settle_seconds();
    };
    served.issuer == Some(issuer)
        || settled
        || served.validity.until_seconds - now_seconds <= lifetimes.settle_seconds() / 2.0
}
