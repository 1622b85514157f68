//! `poolwright manifests`: what to apply to a cluster, as text. Asks a cluster for nothing but its version.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::kubernetes::KubernetesArgs;
use super::{Exit, load_policy};
use crate::cluster::manifests::{
    Certificates, Follower, Format, KedaVersion, KubernetesVersion, MetricsFrom, Options, Part, StateVolume, render,
    to_text,
};

/// Longest wait for the cluster's version.
const VERSION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct ManifestsArgs {
    /// Policy file or folder.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    /// Who follows the published number.
    #[arg(long = "for", value_name = "WHO", default_value = "hpa")]
    follower: For,
    /// What to print.
    #[arg(long, value_name = "PART", value_delimiter = ',', default_value = "all")]
    part: Vec<Which>,
    /// Version the objects are for, e.g. 1.34. [default: that of the cluster, else the newest known]
    #[arg(long, value_name = "1.MINOR")]
    kubernetes_version: Option<KubernetesVersion>,
    /// Version of KEDA, e.g. 2.17.
    #[arg(long, value_name = "2.MINOR", default_value_t = KedaVersion::NEWEST)]
    keda_version: KedaVersion,
    /// Image of the daemon.
    #[arg(long, value_name = "IMAGE", default_value_t = Options::default_image())]
    image: String,
    /// Let the daemon read this Prometheus instead of the model servers' pods.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// Where the external metrics API's certificate comes from.
    #[arg(long, value_name = "FROM", default_value = "self-made")]
    certificates: CertificatesFrom,
    /// Take the external metrics API from the metrics server at this address, https://NAME.NAMESPACE.svc, and pass on
    /// to it what is not poolwright's.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Let KEDA call without TLS; only the NetworkPolicy keeps others out.
    #[arg(long)]
    keda_plaintext: bool,
    /// Namespace of KEDA's operator.
    #[arg(long, value_name = "NAME", default_value = "keda")]
    keda_namespace: String,
    /// Namespace of the Prometheus that reads poolwright's metrics.
    #[arg(long, value_name = "NAME", default_value = "monitoring")]
    monitoring_namespace: String,
    /// Print a ServiceMonitor of the Prometheus operator too.
    #[arg(long)]
    service_monitor: bool,
    /// Keep the state in the pod instead of on a volume: a restart then forgets.
    #[arg(long)]
    ephemeral_state: bool,
    /// Print so.
    #[arg(short, long, default_value = "yaml")]
    output: Output,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum For {
    /// HorizontalPodAutoscaler.
    Hpa,
    /// KEDA through the gRPC scaler (`external-push`).
    Keda,
    /// KEDA through the JSON endpoint (`metrics-api`) with a bearer token.
    MetricsApi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Everything.
    All,
    /// The daemon and what it may read.
    Daemon,
    /// The registration of the external metrics API.
    Api,
    /// An HPA or ScaledObject for every pool.
    Pools,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CertificatesFrom {
    /// The daemon makes an authority and keeps it in a Secret.
    SelfMade,
    /// cert-manager.
    CertManager,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Documents for kubectl; pools that only advise are comments.
    Yaml,
    /// One List, without the pools that only advise.
    Json,
}

pub async fn run(args: ManifestsArgs) -> Result<Exit> {
    let policy = match load_policy(&args.policy) {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    if args.upstream.is_some() && (args.follower != For::Hpa || args.certificates != CertificatesFrom::SelfMade) {
        eprintln!(
            "poolwright: --upstream takes the external metrics API for HPA with a certificate of poolwright's own; leave \
             --for and --certificates out"
        );
        return Ok(Exit::Usage);
    }
    let policy_files = crate::policy::files(&args.policy).map_err(anyhow::Error::msg)?;
    let options = Options {
        follower: match args.follower {
            For::Hpa => Follower::Hpa,
            For::Keda => Follower::Keda,
            For::MetricsApi => Follower::MetricsApi,
        },
        kubernetes: version(&args).await,
        keda: args.keda_version,
        identity: args.kubernetes.identity(),
        image: args.image.clone(),
        metrics: args.prometheus.clone().map_or(MetricsFrom::Pods, MetricsFrom::Prometheus),
        certificates: match args.certificates {
            CertificatesFrom::SelfMade => Certificates::SelfMade,
            CertificatesFrom::CertManager => Certificates::CertManager,
        },
        upstream: args.upstream.clone(),
        keda_tls: !args.keda_plaintext,
        keda_namespace: args.keda_namespace.clone(),
        monitoring_namespace: args.monitoring_namespace.clone(),
        service_monitor: args.service_monitor,
        state: if args.ephemeral_state { StateVolume::Empty } else { StateVolume::Claim },
        policy_files,
    };
    let rendered = match render(&policy, &options, &parts(&args.part)) {
        Ok(rendered) => rendered,
        Err(error) => {
            eprintln!("poolwright: {error}");
            return Ok(Exit::Usage);
        }
    };
    for remark in &rendered.remarks {
        eprintln!("poolwright: {remark}");
    }
    let held_back = rendered.manifests.iter().filter(|m| m.held_back).count();
    if held_back > 0 {
        let how = if args.output == Output::Yaml { "printed as comments" } else { "left out" };
        eprintln!("poolwright: {held_back} objects are {how}, since their pools only advise (`mode: act` publishes)");
    }
    let format = if args.output == Output::Yaml { Format::Yaml } else { Format::Json };
    std::io::stdout().lock().write_all(to_text(&rendered, format)?.as_bytes())?;
    Ok(Exit::Done)
}

fn parts(which: &[Which]) -> Vec<Part> {
    let wants = |one| which.contains(&Which::All) || which.contains(&one);
    let pairs = [(Which::Daemon, Part::Daemon), (Which::Api, Part::Api), (Which::Pools, Part::Pools)];
    pairs.into_iter().filter(|(which, _)| wants(*which)).map(|(_, part)| part).collect()
}

/// What was said, else what the cluster says, else the newest one.
async fn version(args: &ManifestsArgs) -> KubernetesVersion {
    if let Some(version) = args.kubernetes_version {
        return version;
    }
    let newest = KubernetesVersion::NEWEST;
    match ask(&args.kubernetes).await {
        Ok(Some(version)) => {
            if version > newest {
                eprintln!("poolwright: Kubernetes {version} is newer than the {newest} these objects were tested with");
            }
            version
        }
        Ok(None) => {
            eprintln!("poolwright: for Kubernetes {newest}; --kubernetes-version or --kubernetes on says otherwise");
            newest
        }
        Err(error) => {
            eprintln!("poolwright: the cluster does not tell its version ({error:#}); for Kubernetes {newest}");
            newest
        }
    }
}

async fn ask(kubernetes: &KubernetesArgs) -> Result<Option<KubernetesVersion>> {
    let Some(client) = kubernetes.client().await? else { return Ok(None) };
    let info = tokio::time::timeout(VERSION_TIMEOUT, client.apiserver_version()).await??;
    Ok(Some(format!("{}.{}", info.major, info.minor).parse()?))
}
