//! How the daemon stands in its cluster, as it is shown: who owns the APIService, how the number reaches HPA, until
//! when the certificates hold. Whoever talks to the cluster fills it in.

use serde::Serialize;

/// Who answers the external metrics API of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Not read yet.
    #[default]
    Unknown,
    /// The APIService may not be read.
    Unreadable,
    /// There is none.
    Absent,
    /// This program's Service.
    Ours,
    Keda,
    PrometheusAdapter,
    Datadog,
    KubeMetricsAdapter,
    /// Another Service.
    Other,
}

impl Owner {
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Unreadable,
        Self::Absent,
        Self::Ours,
        Self::Keda,
        Self::PrometheusAdapter,
        Self::Datadog,
        Self::KubeMetricsAdapter,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
            Self::Absent => "absent",
            Self::Ours => "ours",
            Self::Keda => "keda",
            Self::PrometheusAdapter => "prometheus-adapter",
            Self::Datadog => "datadog",
            Self::KubeMetricsAdapter => "kube-metrics-adapter",
            Self::Other => "other",
        }
    }

    /// The owner behind a Service that is not ours, by its name.
    pub fn of_service(name: &str) -> Self {
        const KNOWN: [(&str, Owner); 5] = [
            ("keda", Owner::Keda),
            ("prometheus-adapter", Owner::PrometheusAdapter),
            ("custom-metrics-apiserver", Owner::PrometheusAdapter),
            ("datadog", Owner::Datadog),
            ("kube-metrics-adapter", Owner::KubeMetricsAdapter),
        ];
        KNOWN.iter().find(|(part, _)| name.contains(part)).map_or(Self::Other, |(_, owner)| *owner)
    }

    /// Whether the APIService is known to belong to somebody else.
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Keda | Self::PrometheusAdapter | Self::Datadog | Self::KubeMetricsAdapter | Self::Other)
    }
}

/// By which way the number reaches those who scale. Nothing here ever writes a replica count itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coexistence {
    /// Not known yet.
    #[default]
    Unknown,
    /// KEDA asks us; the external metrics API is not ours.
    ExternalScaler,
    /// HPA asks us through our APIService.
    Owner,
    /// The same, and what is not ours is passed on to another metrics server.
    OwnerWithUpstream,
    /// Another metrics server reads our numbers from Prometheus.
    Exporter,
}

impl Coexistence {
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::ExternalScaler, Self::Owner, Self::OwnerWithUpstream, Self::Exporter];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::ExternalScaler => "external-scaler",
            Self::Owner => "owner",
            Self::OwnerWithUpstream => "owner-with-upstream",
            Self::Exporter => "exporter",
        }
    }

    /// The way that is open with this owner of the APIService.
    pub fn of(owner: Owner, upstream: bool, keda_listens: bool) -> Self {
        match owner {
            Owner::Unknown | Owner::Unreadable => Self::Unknown,
            Owner::Ours if upstream => Self::OwnerWithUpstream,
            Owner::Ours => Self::Owner,
            Owner::Keda => Self::ExternalScaler,
            _ if keda_listens => Self::ExternalScaler,
            _ => Self::Exporter,
        }
    }
}

/// The daemon's standing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterStatus {
    pub mode: Coexistence,
    pub api_service: ApiServiceStatus,
    /// The self-made certificates, where they are used.
    pub certificate: Option<CertificateStatus>,
    /// Address of the metrics server that what is not ours is passed on to.
    pub upstream: Option<String>,
}

/// The APIService `v1beta1.external.metrics.k8s.io`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ApiServiceStatus {
    pub owner: Owner,
    /// `namespace/name` of the Service it points to.
    pub service: Option<String>,
    /// What kube-apiserver says of it.
    pub available: Option<bool>,
    /// What this means and, where something is to be done, what.
    pub message: String,
    /// Whether the message asks for somebody's attention.
    pub warning: bool,
    /// When it was last read, Unix time.
    pub checked_at_seconds: Option<f64>,
}

/// The self-made certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CertificateStatus {
    /// `namespace/name` of the Secret that holds them.
    pub secret: String,
    /// End of the certificate that is served, Unix time.
    pub expires_at_seconds: Option<f64>,
    /// End of the authority that signs, Unix time.
    pub authority_expires_at_seconds: Option<f64>,
    /// Authorities trusted at the moment: two while one follows the other.
    pub authorities: usize,
    /// What keeps the certificates from being renewed or trusted.
    pub error: Option<String>,
}
