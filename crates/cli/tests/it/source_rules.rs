//! What holds of the source text: where `unsafe` is, what libraries never do, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

use onetag_testkit::folder::repository;
use onetag_testkit::host::files_below;

/// Beyond this a file is two things.
const LINES_MAX: usize = 800;

/// Libraries do none of this; `cli` does it for them.
const NOT_IN_LIBRARIES: [&str; 8] =
    ["println!", "print!(", "eprintln!", "eprint!(", "env::var", "env::home_dir", "process::exit", "dbg!"];

/// The first thing in the test programs of the sandbox, compiled for them alone.
const STARTS_TESTS: &str = "sandbox/src/sys/start.rs";

fn sources(folder: &str) -> Vec<PathBuf> {
    files_below(&repository().join(folder), &|path| path.extension().is_some_and(|extension| extension == "rs"))
}

fn crates() -> Vec<String> {
    let entries = fs::read_dir(repository().join("crates")).expect("the crates");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The text before the unit tests, comments aside.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn unsafe_is_forbidden_outside_the_sandbox() {
    for name in crates().iter().filter(|name| *name != "sandbox") {
        let folder = repository().join("crates").join(name).join("src");
        let root = [folder.join("lib.rs"), folder.join("main.rs")].into_iter().find(|path| path.exists());
        let text = fs::read_to_string(root.expect("lib.rs or main.rs")).expect("a source file");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe code");
    }
}

/// The compiler holds it: the sandbox denies it, with one exception.
#[test]
fn one_module_is_excepted_from_that() {
    let root = repository().join("crates/sandbox/src/lib.rs");
    let text = fs::read_to_string(&root).expect("a source file");
    assert!(text.contains("#![deny(unsafe_code)]") && text.contains("#[allow(unsafe_code)]\nmod sys;"));
    let exceptions = |path: &Path| code(path).matches("allow(unsafe_code").count();
    let all = crates().into_iter().flat_map(|name| sources(&format!("crates/{name}/src")));
    let found: Vec<_> = all.filter(|path| exceptions(path) > 0).collect();
    assert_eq!(found, std::slice::from_ref(&root));
    assert_eq!(exceptions(&root), 1);
}

#[test]
fn libraries_neither_print_nor_read_the_environment_nor_exit() {
    let mut wrong = Vec::new();
    for name in crates().iter().filter(|name| !["cli", "testkit"].contains(&name.as_str())) {
        for path in sources(&format!("crates/{name}/src")) {
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests")
                || path.components().any(|part| part.as_os_str() == "tests")
                || path.ends_with(STARTS_TESTS);
            let text = if is_test { String::new() } else { code(&path) };
            for pattern in NOT_IN_LIBRARIES.iter().filter(|pattern| text.contains(**pattern)) {
                wrong.push(format!("{}: {pattern}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    for path in sources("crates") {
        let lines = fs::read_to_string(&path).expect("a source file").lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_integration_test_is_forgotten() {
    for name in crates() {
        let folder = repository().join("crates").join(&name).join("tests");
        let Ok(main) = fs::read_to_string(folder.join("it/main.rs")) else { continue };
        for entry in fs::read_dir(folder.join("it")).expect("a folder").flatten() {
            let path = entry.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_module = path.extension().is_some_and(|extension| extension == "rs") || path.join("mod.rs").exists();
            if is_module && stem != "main" {
                assert!(main.contains(&format!("mod {stem};")), "{} is in no module list", path.display());
            }
        }
    }
}
