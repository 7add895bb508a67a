//! curl against this server: resumed downloads, HTTP/2.

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

#[test]
fn http_2_is_spoken_where_the_client_does() {
    if !available(&["curl"]) {
        return;
    }
    let (registry, folder) = protected();
    let address = format!("https://{}/v2/", registry.host());
    let asked = ["-sf", "--http2", "--cacert", "certs/ca.crt", "-u", "ann:hunter2", "-w", "%{http_version}", &address];
    assert_eq!(succeed(folder.path(), "curl", &asked), "{}2");
}
