//! Whether KEDA finds the scaler that its ScaledObjects name. Pure.

use super::{Area, ClusterFacts, Lookup, Report, ScalerAddress, Severity, what};

pub(super) fn judge(facts: &ClusterFacts, policy_path: &str, report: &mut Report) {
    if facts.keda_installed {
        report.checked.push(format!("KEDA ({} scaler addresses)", facts.addresses.len()));
    }
    for ScalerAddress { object, address, service } in &facts.addresses {
        let Some((namespace, name, port)) = service else { continue };
        let message = match facts.services.get(&(namespace.clone(), name.clone())) {
            Some(Lookup::Absent) => {
                format!("asks {address}, but there is no Service {namespace}/{name}: it gets no number")
            }
            Some(Lookup::Found(ports)) if !ports.contains(port) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                format!("asks {address}, but Service {namespace}/{name} has the ports {}", ports.join(", "))
            }
            _ => continue,
        };
        let action = format!(
            "correct `scalerAddress` in its trigger, or apply the daemon's Service: `poolwright manifests --policy \
             {policy_path} --for keda --part daemon | kubectl apply -f -`"
        );
        report.add(
            Area::Keda,
            Severity::Error,
            "scaler-address",
            format!("ScaledObject {object}"),
            what(message, action),
        );
    }
}

/// Namespace, name and port of the Service that an address inside the cluster names.
pub(super) fn service_of(address: &str, namespace: &str) -> Option<(String, String, i32)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let parts: Vec<&str> = host.split('.').collect();
    let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_name = |text: &str| text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().all(of_name);
    match parts.as_slice() {
        [name] if is_name(name) => Some((namespace.to_owned(), (*name).to_owned(), port)),
        [name, namespace] | [name, namespace, "svc", ..] if is_name(name) => {
            Some(((*namespace).to_owned(), (*name).to_owned(), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::service_of;

    #[test]
    fn addresses_inside_the_cluster_name_a_service() {
        let found = |namespace: &str, name: &str, port| Some((namespace.to_owned(), name.to_owned(), port));
        for (address, service) in [
            ("poolwright-keda.poolwright-system.svc:9443", found("poolwright-system", "poolwright-keda", 9443)),
            ("a.b.svc.cluster.local:1", found("b", "a", 1)),
            ("a.b:1", found("b", "a", 1)),
            ("a:1", found("here", "a", 1)),
            ("scaler.example.com:443", None),
            ("10.0.0.1:443", None),
            ("[::1]:443", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(service_of(address, "here"), service, "{address}");
        }
    }
}
