//! Which namespaces a caller may ask for. The namespace in a message proves nothing, so a client certificate can
//! be limited: each URI name `poolwright://namespace/NAME` in it allows one namespace, and a certificate without
//! such a name allows all. A certificate that cannot be understood allows none.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Start of every URI that is meant for us.
const SCHEME: &str = "poolwright:";

const NAMESPACE: &str = "poolwright://namespace/";

/// Whether the holder of this certificate may ask for this namespace.
pub(super) fn permits(certificate_der: &[u8], namespace: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate_der) else { return false };
    let names = match certificate.subject_alternative_name() {
        Err(_) => return false,
        Ok(None) => return true,
        Ok(Some(extension)) => &extension.value.general_names,
    };
    let mut limited = false;
    for name in names {
        match name {
            GeneralName::URI(uri) if is_ours(uri) => {
                if uri.strip_prefix(NAMESPACE) == Some(namespace) {
                    return true;
                }
                limited = true;
            }
            // A name that cannot be read may have been a limit.
            GeneralName::Invalid(..) => limited = true,
            _ => {}
        }
    }
    !limited
}

/// A name with our scheme in other letters or of another form is still meant as a limit.
fn is_ours(uri: &str) -> bool {
    uri.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn a_certificate_without_our_names_allows_all() {
        assert!(permits(&certificate(vec![]), "a"));
        let others = vec![SanType::DnsName("keda-operator".try_into().unwrap()), uri("spiffe://cluster/ns/keda/sa/op")];
        assert!(permits(&certificate(others), "a"));
    }

    #[test]
    fn our_names_limit_to_what_they_name_exactly() {
        let two = certificate(vec![uri("poolwright://namespace/a"), uri("poolwright://namespace/b")]);
        assert!(permits(&two, "a") && permits(&two, "b"));
        for other in ["c", "", "a/", "A", "aa", "a/b"] {
            assert!(!permits(&two, other), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_understood_allows_nothing() {
        for strange in ["poolwright://namespace/", "POOLWRIGHT://namespace/a", "poolwright:a", "poolwright://pool/a"] {
            assert!(!permits(&certificate(vec![uri(strange)]), "a"), "{strange}");
        }
        assert!(!permits(b"no certificate", "a"));
        assert!(!permits(&[], "a"));
    }
}
