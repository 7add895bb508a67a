//! Other programs against this server: skopeo, podman, buildah and umoci, with TLS and a password.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::TestRegistry;
use crate::tls::{data, protected};

/// Whether a program is there; where everything is required, its absence is a failure.
fn available(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            assert!(std::env::var_os("ONETAG_REQUIRE").is_none(), "{program} is not installed");
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// Runs a program in a folder that stands for everything it keeps.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let certificates = folder.join("certs");
    if !certificates.exists() {
        std::fs::create_dir_all(&certificates).expect("folder");
        std::fs::copy(data("ca.pem"), certificates.join("ca.crt")).expect("copied");
    }
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("REGISTRY_AUTH_FILE", folder.join("auth.json"))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn succeed(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = run(folder, program, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An OCI layout `image:v1` with one layer.
fn make_image(folder: &Path) {
    succeed(folder, "umoci", &["init", "--layout", "image"]);
    succeed(folder, "umoci", &["new", "--image", "image:v1"]);
    std::fs::write(folder.join("hello"), "hello\n").expect("written");
    succeed(folder, "umoci", &["insert", "--rootless", "--image", "image:v1", "hello", "/hello"]);
}

#[test]
fn skopeo_copies_both_ways_over_tls_with_a_password() {
    if !available(&["skopeo", "umoci"]) {
        return;
    }
    let (registry, folder) = protected();
    let folder = folder.path();
    make_image(folder);
    let remote = |rest: &str| format!("docker://{}/{rest}", registry.host());
    let refused = run(folder, "skopeo", &["inspect", "--cert-dir", "certs", &remote("team/app:v1")]);
    assert!(!refused.status.success());
    let login = ["login", "--cert-dir", "certs", "-u", "ann", "-p", "hunter2", &registry.host()];
    succeed(folder, "skopeo", &login);
    for (format, tag) in [("oci", "v1"), ("v2s2", "docker")] {
        let target = remote(&format!("team/app:{tag}"));
        succeed(folder, "skopeo", &["copy", "--dest-cert-dir", "certs", "--format", format, "oci:image:v1", &target]);
        succeed(folder, "skopeo", &["copy", "--src-cert-dir", "certs", &target, &format!("dir:{tag}")]);
        assert!(folder.join(tag).join("manifest.json").is_file());
    }
    let tags = succeed(folder, "skopeo", &["list-tags", "--cert-dir", "certs", &remote("team/app")]);
    assert!(tags.contains("\"docker\"") && tags.contains("\"v1\""), "{tags}");
    let from = remote("team/app:v1");
    let both = ["--src-cert-dir", "certs", "--dest-cert-dir", "certs"];
    succeed(folder, "skopeo", &[&["copy"], &both[..], &[&from, &remote("other/app:v1")]].concat());
    succeed(folder, "skopeo", &["delete", "--cert-dir", "certs", &remote("team/app:docker")]);
    let gone = run(folder, "skopeo", &["inspect", "--cert-dir", "certs", &remote("team/app:docker")]);
    assert!(!gone.status.success());
}

#[test]
fn podman_and_buildah_push_and_pull() {
    if !available(&["podman", "buildah", "skopeo", "umoci"]) {
        return;
    }
    let (registry, folder) = protected();
    let folder = folder.path();
    make_image(folder);
    let login = ["login", "--cert-dir", "certs", "-u", "ann", "-p", "hunter2", &registry.host()];
    succeed(folder, "skopeo", &login);
    let image = format!("{}/pod/app:v1", registry.host());
    let own = ["--root", "storage", "--runroot", "run", "--storage-driver", "vfs"];
    let podman = |arguments: &[&str]| succeed(folder, "podman", &[&own[..], arguments].concat());
    succeed(folder, "skopeo", &["copy", "--dest-cert-dir", "certs", "oci:image:v1", &format!("docker://{image}")]);
    podman(&["pull", "--cert-dir", "certs", &image]);
    let second = format!("{}/pod/second:v1", registry.host());
    podman(&["tag", &image, &second]);
    podman(&["push", "--cert-dir", "certs", &second]);
    podman(&["manifest", "create", "list"]);
    podman(&["manifest", "add", "--cert-dir", "certs", "list", &format!("docker://{second}")]);
    let list = format!("docker://{}/pod/list:v1", registry.host());
    podman(&["manifest", "push", "--all", "--cert-dir", "certs", "list", &list]);
    let raw = succeed(folder, "skopeo", &["inspect", "--raw", "--cert-dir", "certs", &list]);
    assert!(raw.contains("\"manifests\""), "{raw}");
    let third = format!("docker://{}/build/app:v1", registry.host());
    succeed(folder, "buildah", &[&own[..], &["push", "--cert-dir", "certs", &second, &third]].concat());
    succeed(folder, "skopeo", &["copy", "--src-cert-dir", "certs", &third, "oci:back:v1"]);
    succeed(folder, "umoci", &["stat", "--image", "back:v1"]);
    succeed(folder, "podman", &[&own[..], &["rmi", "-a", "-f"]].concat());
}

#[test]
fn curl_resumes_a_download() {
    if !available(&["curl"]) {
        return;
    }
    let registry = TestRegistry::start();
    let folder = tempfile::tempdir().expect("folder");
    let blob = crate::support::noise(500_000, 6);
    let descriptor = crate::support::describe(&blob, "application/octet-stream");
    crate::support::client().push_blob(&registry.reference("a"), &descriptor, &blob, &[]).expect("pushed");
    std::fs::write(folder.path().join("part"), &blob[..200_000]).expect("written");
    let address = format!("http://{}/v2/a/blobs/{}", registry.host(), descriptor.digest);
    succeed(folder.path(), "curl", &["-sfC", "-", "-o", "part", &address]);
    assert_eq!(std::fs::read(folder.path().join("part")).expect("read"), blob);
}
