//! The folder `manifests/`: what the verb prints for the quickstart, put together with kustomize.

use std::fs;
use std::path::{Path, PathBuf};

use poolwright::cluster::manifests::{Certificates, Follower, Format, Options, Part, Rendered, render, to_text};
use poolwright::policy::{Mode, Policy, load};
use serde_json::Value;

const UPDATE: &str = "POOLWRIGHT_UPDATE_EXPECTED";
const QUICKSTART: &str = "policies/quickstart.yaml";

fn compare(path: &str, found: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, found).unwrap();
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{path} differs from what is rendered; `make generated` writes it again");
}

/// The quickstart with both pools in mode act.
fn acting() -> String {
    let text = fs::read_to_string(QUICKSTART).unwrap();
    let body = &text[text.find("apiVersion:").unwrap()..];
    let acting = body.replace("acceleratorsPerReplica: 4", "acceleratorsPerReplica: 4, mode: act");
    format!("# policies/quickstart.yaml with its pools in mode act: what is published is followed.\n{acting}")
}

fn acting_policy() -> Policy {
    poolwright::policy::from_text("acting.yaml", &acting()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn text(rendered: &Rendered, how: &str) -> String {
    assert!(rendered.remarks.is_empty() && rendered.manifests.iter().all(|m| !m.held_back));
    let version = Options::default().kubernetes;
    format!(
        "# Printed by `poolwright manifests {how}` for Kubernetes {version}.\n{}",
        to_text(rendered, Format::Yaml).unwrap()
    )
}

#[test]
fn the_folder_holds_what_the_verb_prints() {
    let (advising, acting) = (load(Path::new(QUICKSTART)).unwrap(), acting_policy());
    assert!(acting.pools.iter().all(|p| p.mode == Mode::Act));
    let hpa = Options::default();
    let keda = Options { follower: Follower::Keda, ..Options::default() };
    let print = |policy: &Policy, options: &Options, part: Part, how: &str| {
        text(&render(policy, options, &[part]).unwrap(), how)
    };
    compare("manifests/base/daemon.yaml", &print(&advising, &hpa, Part::Daemon, "--part daemon"));
    compare("manifests/hpa/api.yaml", &print(&acting, &hpa, Part::Api, "--part api"));
    compare("manifests/hpa/pools.yaml", &print(&acting, &hpa, Part::Pools, "--part pools"));
    compare("manifests/keda/daemon.yaml", &print(&acting, &keda, Part::Daemon, "--for keda --part daemon"));
    compare("manifests/keda/pools.yaml", &print(&acting, &keda, Part::Pools, "--for keda --part pools"));
}

#[test]
fn components_hold_what_the_verb_prints() {
    let policy = acting_policy();
    let pick = |options: Options, kinds: &[&str], how: &str| {
        let mut rendered = render(&policy, &options, &[Part::Daemon]).unwrap();
        rendered.manifests.retain(|m| kinds.contains(&m.object["kind"].as_str().unwrap()));
        assert!(!rendered.manifests.is_empty());
        text(&rendered, how)
    };
    let monitored = Options { service_monitor: true, ..Options::default() };
    let monitor = pick(monitored, &["ServiceMonitor"], "--service-monitor");
    compare("manifests/components/service-monitor/service-monitor.yaml", &monitor);
    let issued = Options { certificates: Certificates::CertManager, ..Options::default() };
    let certificates = pick(issued, &["Issuer", "Certificate"], "--certificates cert-manager");
    compare("manifests/components/cert-manager/certificates.yaml", &certificates);
}

#[test]
fn the_policies_are_those_of_the_examples() {
    compare("manifests/base/policies/quickstart.yaml", &fs::read_to_string(QUICKSTART).unwrap());
    compare("manifests/hpa/policies/quickstart.yaml", &acting());
    compare("manifests/keda/policies/quickstart.yaml", &acting());
}

fn yaml(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The patches of the component turn the shipped Deployment into the one rendered for cert-manager.
#[test]
fn the_cert_manager_component_patches_what_is_there() {
    let kustomization = yaml(Path::new("manifests/components/cert-manager/kustomization.yaml")).remove(0);
    let of_deployment = |p: &&Value| p["target"]["kind"] == "Deployment";
    let patch = kustomization["patches"].as_array().unwrap().iter().find(of_deployment).unwrap();
    let operations: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
    let deployment = |certificates| {
        let options = Options { certificates, ..Options::default() };
        let rendered = render(&acting_policy(), &options, &[Part::Daemon]).unwrap();
        let found = rendered.manifests.into_iter().find(|m| m.object["kind"] == "Deployment");
        found.unwrap().object
    };
    let mut patched = deployment(Certificates::SelfMade);
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "test" => assert_eq!(patched.pointer(path), Some(&operation["value"]), "{path}"),
            "replace" => *patched.pointer_mut(path).unwrap() = operation["value"].clone(),
            "add" => {
                let list = path.strip_suffix("/-").expect("appended to a list");
                patched.pointer_mut(list).unwrap().as_array_mut().unwrap().push(operation["value"].clone());
            }
            other => panic!("untested operation {other}"),
        }
    }
    assert_eq!(patched, deployment(Certificates::CertManager));
}

#[test]
fn every_kustomization_names_files_that_exist() {
    let mut folders = vec![PathBuf::from("manifests")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        folders.extend(fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
        let file = folder.join("kustomization.yaml");
        if !file.exists() {
            continue;
        }
        seen += 1;
        let kustomization = yaml(&file).remove(0);
        let strings = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|r| r.as_str().unwrap().to_owned()).collect()
        };
        let generated = kustomization["configMapGenerator"].as_array().into_iter().flatten();
        let files = generated.flat_map(|g| strings(&g["files"]));
        for name in strings(&kustomization["resources"]).into_iter().chain(files) {
            assert!(folder.join(&name).exists(), "{}: {name}", file.display());
        }
    }
    assert_eq!(seen, 6, "the folder itself, base, hpa, keda and two components");
}
