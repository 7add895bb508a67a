//! The conformance corpus: 259 small builds, each with the result that BuildKit gives.

use std::path::{Path, PathBuf};
use std::process::Command;

use onetag_testkit::folder::{program, repository};
use onetag_testkit::require;

use crate::support::World;

/// Builds the whole corpus in a world and prints what differs.
fn build_corpus(world: &World, python: &Path) {
    let corpus = world.onetag.work().join("corpus");
    let copied = Command::new("cp").arg("-a").arg(repository().join("tests/corpus")).arg(&corpus).status();
    assert!(copied.is_ok_and(|status| status.success()), "the corpus is copied to where every user may read it");
    world.onetag.user().own_tree(&corpus);
    let runner = corpus.join("run.py");
    let registry = format!("localhost:{}", world.registry.address().port());
    let push = format!("{} push-bases --registry {registry}", runner.display());
    world.onetag.run_program(python, &push).success();
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let builder = format!(
        "{} build --platform {{platforms}} -f {{dockerfile}} {{flags}} --output type=oci,dest={{output}} {{context}}",
        world.onetag.binary().display()
    );
    let mut command = world.onetag.program(python);
    command.arg(&runner).arg("--cases").arg(corpus.join("cases"));
    command.args(["--registry", &registry, "--jobs", &jobs.to_string(), "--builder", &builder]);
    let output = command.output().expect("the runner starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("259 passed, 0 failed"), "{text}");
}

/// A Python that the world's user may run: the first on the tests' own path may lie where only they can.
fn python(world: &World) -> Result<PathBuf, String> {
    let candidates =
        program("python3").into_iter().chain(["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from));
    let runs =
        |python: &PathBuf| world.onetag.program(python).arg("--version").output().is_ok_and(|out| out.status.success());
    candidates.into_iter().find(runs).ok_or_else(|| "no python3 that this user may run".to_owned())
}

/// The recorded results are those of such a machine; its steps of other platforms are emulated.
fn is_recorded_machine() -> bool {
    std::env::consts::ARCH == "x86_64"
}

#[test]
fn the_corpus_builds_as_root() {
    require!(is_recorded_machine(), "the corpus was recorded on linux/amd64");
    let world = require!(ok World::root());
    let python = require!(ok python(&world));
    require!(ok world.runs_foreign());
    build_corpus(&world, &python);
}

#[test]
fn the_corpus_builds_as_an_ordinary_user() {
    require!(is_recorded_machine(), "the corpus was recorded on linux/amd64");
    let world = require!(ok World::ordinary());
    let python = require!(ok python(&world));
    require!(ok world.runs_foreign());
    build_corpus(&world, &python);
}
