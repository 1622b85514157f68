//! Who this daemon is in the cluster.

/// Names of the daemon's own objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace the daemon runs in.
    pub namespace: String,
    /// Its Service, which the APIService and the names in its certificates point to.
    pub service: String,
}

impl Identity {
    /// File with the namespace of the pod.
    const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

    /// These names; a missing namespace is that of the pod, else `poolwright-system`.
    pub fn new(namespace: Option<String>, service: String) -> Self {
        let of_pod = || std::fs::read_to_string(Self::NAMESPACE_FILE).ok().map(|n| n.trim().to_owned());
        let namespace = namespace.or_else(of_pod).filter(|n| !n.is_empty());
        Self { namespace: namespace.unwrap_or_else(|| "poolwright-system".to_owned()), service }
    }

    /// DNS names of the Service, the one the aggregator verifies first.
    pub fn dns_names(&self) -> Vec<String> {
        let Self { namespace, service } = self;
        let short = format!("{service}.{namespace}.svc");
        vec![short.clone(), format!("{short}.cluster.local"), format!("{service}.{namespace}"), service.clone()]
    }
}
