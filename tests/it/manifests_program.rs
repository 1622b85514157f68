//! `poolwright manifests` as a program.

use std::fs;

use assert_cmd::Command;
use serde_json::Value;

use crate::fake_kube::FakeKube;

fn manifests(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("poolwright").unwrap();
    command.args(["manifests", "--policy", "policies/quickstart.yaml"]).args(arguments);
    let output = command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn kinds(yaml: &str) -> Vec<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.iter().map(|o| o["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn prints_the_daemon_with_its_policy_and_says_what_waits() {
    let (code, out, err) = manifests(&[]);
    assert_eq!(code, 0, "{err}");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&out).unwrap();
    let config = objects.iter().find(|o| o["kind"] == "ConfigMap").unwrap();
    let policy = fs::read_to_string("policies/quickstart.yaml").unwrap();
    assert_eq!(config["data"]["quickstart.yaml"], policy.as_str(), "the very text, so the fingerprint stays");
    assert!(
        !kinds(&out).contains(&"HorizontalPodAutoscaler".to_owned())
            && out.contains("#   kind: HorizontalPodAutoscaler")
    );
    assert!(err.contains("for Kubernetes 1.37") && err.contains("only advise"), "{err}");
    let (_, daemon, _) = manifests(&["--part", "daemon", "--kubernetes-version", "1.35"]);
    assert!(kinds(&daemon).contains(&"Deployment".to_owned()) && !daemon.contains("APIService\n"));
}

#[test]
fn refuses_what_it_cannot_render() {
    let (code, out, err) = manifests(&["--kubernetes-version", "35"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("is no version"), "{err}");
    let (code, out, err) = manifests(&["--own-namespace", "Not_A_Name"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.trim().lines().last().unwrap().starts_with("poolwright: `Not_A_Name` cannot be"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_said() {
    let kube = FakeKube::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
        kube.url
    );
    fs::write(&file, config).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let run = tokio::task::spawn_blocking(move || manifests(&["--kubeconfig", &path, "--part", "pools"]));
    let (code, _, err) = run.await.unwrap();
    assert_eq!(code, 0);
    assert!(err.contains("does not tell its version") && err.contains("for Kubernetes 1.37"), "{err}");
}

#[test]
fn profiles_travel_with_the_policy_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("figures")).unwrap();
    let text = fs::read_to_string("policies/quickstart.yaml").unwrap();
    let file = folder.path().join("policy.yaml");
    let run = |profile: &str| {
        fs::write(folder.path().join(profile), "{alpha: 7ms, beta: 20us, gamma: 50ns, kvTokens: 100000}").unwrap();
        let profiled = text.replace("min: 1", &format!("min: 1, performance: {{profile: {profile}}}"));
        fs::write(&file, profiled).unwrap();
        let mut command = Command::cargo_bin("poolwright").unwrap();
        let arguments = ["manifests", "--part", "daemon", "-o", "json", "--kubernetes", "off", "--policy"];
        command.args(arguments).arg(&file).output().unwrap()
    };
    let beside = run("h100.yaml");
    let list: Value = serde_json::from_slice(&beside.stdout).unwrap();
    let config = list["items"].as_array().unwrap().iter().find(|o| o["kind"] == "ConfigMap").unwrap();
    let names: Vec<&String> = config["data"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["h100.yaml", "policy.yaml"]);
    let below = run("figures/h100.yaml");
    let error = String::from_utf8(below.stderr).unwrap();
    assert_eq!((below.status.code(), below.stdout.len()), (Some(2), 0), "{error}");
    assert!(error.contains("`figures/h100.yaml`: a ConfigMap has no folders"), "{error}");
}
