//! The file that users install: one static file of bounded size.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use onetag_testkit::require;

/// The largest release binary in bytes.
const SIZE_MAX: u64 = 30 << 20;

/// What `make release` made.
fn release() -> Option<PathBuf> {
    std::env::var_os("ONETAG_RELEASE").map(PathBuf::from).filter(|path| path.exists())
}

#[test]
fn the_release_binary_is_one_static_file() {
    let binary = require!(some release(), "no release binary: make release, then ONETAG_RELEASE=target/onetag");
    let size = fs::metadata(&binary).expect("a file").len();
    assert!(size <= SIZE_MAX, "{size} bytes");
    // Statically linked programs have no interpreter, and `ldd` says so on its standard error.
    let listed = Command::new("ldd").arg(&binary).output().expect("ldd");
    let said = format!("{}{}", String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
    let version = Command::new(&binary).arg("version").env_clear().output().expect("it starts");
    assert!(version.status.success() && !version.stdout.is_empty());
}
