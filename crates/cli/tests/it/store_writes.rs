//! In which order the store writes, and what is left of a command that is killed at any of its writes. Both are seen
//! with strace, which also kills.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onetag_testkit::folder::program;
use onetag_testkit::{Running, require};

use crate::support::World;

/// Calls that change what the store has.
const CHANGES: &str = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,\
                       pwrite64,ftruncate,copy_file_range";
const LIMIT: Duration = Duration::from_secs(120);

/// Whether processes can be traced here.
fn tracer() -> Result<PathBuf, String> {
    let strace = program("strace").ok_or("strace is not installed")?;
    let output = Command::new(&strace).args(["-qq", "-o", "/dev/null", "true"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(strace),
        Ok(output) => Err(format!("tracing is denied: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug)]
enum Event {
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// What a command synced and renamed, in order: a sync counts when it has returned, a renaming when it begins.
fn events(world: &World, strace: &Path, line: &str) -> Vec<Event> {
    let log = world.onetag.work().join("calls");
    let mut command = world.onetag.program(strace);
    command.args(["-f", "-y", "-qq", "-s", "4096", "-o"]).arg(&log);
    command.args(["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"]);
    command.arg(world.onetag.binary()).args(line.split_whitespace());
    Running::start(&mut command).finish(LIMIT).success();
    let text = std::fs::read_to_string(&log).expect("the log");
    let mut unfinished = std::collections::HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let (process, call) = line.split_once(' ').expect("a process and a call");
        let call = call.trim_start();
        let synced = |call: &str| {
            let path = call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).expect("a descriptor").0;
            Event::Synced(PathBuf::from(path))
        };
        if call.starts_with("fsync(") || call.starts_with("fdatasync(") {
            match call.contains("<unfinished") {
                true => drop(unfinished.insert(process.to_owned(), call.to_owned())),
                false => events.push(synced(call)),
            }
        } else if call.starts_with("<... f") && call.contains("sync resumed") {
            events.push(synced(&unfinished.remove(process).expect("it began")));
        } else if call.starts_with("rename") {
            let mut names = call.split('"').skip(1).step_by(2).map(PathBuf::from);
            let (from, to) = (names.next().expect("a name"), names.next().expect("a name"));
            events.push(Event::Renamed(from, to));
        }
    }
    events
}

/// Asserts that all blobs and their folder were synced before the name that means them, and the name, too.
fn is_durable(root: &Path, events: &[Event], blobs_at_least: usize) {
    let (mut synced, mut blobs) = (HashSet::new(), 0);
    let mut unsynced: Option<&Path> = None;
    let mut is_named = false;
    let index = root.join("index.json");
    for event in events {
        match event {
            Event::Synced(path) => {
                if path.ends_with("blobs/sha256") {
                    unsynced = None;
                }
                synced.insert(path.clone());
            }
            Event::Renamed(from, to) if to.parent().is_some_and(|folder| folder.ends_with("blobs/sha256")) => {
                assert!(synced.contains(from), "{} got its name before its content was synced", to.display());
                unsynced = Some(to);
                blobs += 1;
            }
            Event::Renamed(from, to) if *to == index => {
                assert!(synced.contains(from), "the names were not synced before they counted");
                assert_eq!(unsynced, None, "a name came before the folder of the blobs was synced");
                is_named = true;
                synced.remove(root);
            }
            Event::Renamed(..) => {}
        }
    }
    assert!(is_named && blobs >= blobs_at_least, "{blobs} blobs, named: {is_named}: {events:#?}");
    assert!(synced.contains(root), "the name itself was not synced");
}

#[test]
fn content_and_its_folder_are_synced_before_the_name() {
    let strace = require!(ok tracer());
    // the helpers that make the namespace of an ordinary user do not work while they are traced
    let world = require!(ok World::root());
    let onetag = &world.onetag;
    let (name, _) = world.push_tiny("app:1", &["linux/amd64", "linux/arm64"]);
    is_durable(&onetag.root(), &events(&world, &strace, &format!("pull --all-platforms {name}")), 7);
    onetag.ok(&format!("save -o app.tar {name}"));
    onetag.ok("prune --all --force");
    is_durable(&onetag.root(), &events(&world, &strace, "load -i app.tar"), 7);
    let context = world.context("built", "FROM scratch\nCOPY f /\n", &[("f", "a file")]);
    let line = format!("build --platform linux/amd64,linux/arm64 --load -t built:1 {context}");
    is_durable(&onetag.root(), &events(&world, &strace, &line), 6);
}

/// The changes that a command makes: each call by its name and its number among those of that name in its thread.
fn changes(world: &World, strace: &Path, line: &str) -> Vec<(String, usize)> {
    let log = world.onetag.work().join("calls");
    let mut command = world.onetag.program(strace);
    command.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &format!("trace={CHANGES}")]);
    command.arg(world.onetag.binary()).args(line.split_whitespace());
    Running::start(&mut command).finish(LIMIT).success();
    let text = std::fs::read_to_string(&log).expect("the log");
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in text.lines() {
        let (process, call) = line.split_once(' ').expect("a process and a call");
        if let Some((name, _)) = call.trim_start().split_once('(').filter(|(name, _)| !name.starts_with('<')) {
            *counts.entry((name.to_owned(), process.to_owned())).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((name, _), count) in counts {
        let known = most.entry(name).or_default();
        *known = count.max(*known);
    }
    most.into_iter().flat_map(|(name, count)| (1..=count).map(move |number| (name.clone(), number))).collect()
}

/// Kills a command at every `stride`th of its changes, each time in the same store. Gives how many changes there are.
fn killed_at_each(world: &World, strace: &Path, line: &str, stride: usize, check: &dyn Fn(&str)) -> usize {
    let (root, kept) = (world.onetag.root(), world.onetag.work().join("kept"));
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
    };
    copy(&root, &kept);
    let changes = changes(world, strace, line);
    for (call, number) in changes.iter().skip(std::process::id() as usize % stride).step_by(stride) {
        copy(&kept, &root);
        let what = format!("{line}, killed at {call} {number}");
        let mut command = world.onetag.program(strace);
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CHANGES}")]);
        command.arg("-e").arg(format!("inject={call}:signal=SIGKILL:when={number}"));
        command.arg(world.onetag.binary()).args(line.split_whitespace());
        Running::start(&mut command).finish(LIMIT);
        check(&what);
        let found = world.onetag.line("fsck");
        assert!(found.status.success(), "{what}\n{found}");
        // the next command works, and the same one does what it should
        world.onetag.ok("tag kept:1 next:1");
        let again = world.onetag.line(line);
        let is_done = again.stderr.contains("no such image") || again.stderr.contains("is not here");
        assert!(again.status.success() || is_done, "{what}\n{again}");
        world.onetag.ok("image prune --force");
        let left = std::fs::read_dir(root.join("tmp")).expect("a store").count();
        assert_eq!(left, 0, "{what}");
        world.onetag.ok("fsck");
    }
    copy(&kept, &root);
    changes.len()
}

#[test]
fn a_command_killed_at_any_write_loses_nothing() {
    let strace = require!(ok tracer());
    let world = require!(ok World::root());
    let onetag = &world.onetag;
    let (kept, multi) = world.push_tiny("kept:1", &["linux/amd64", "linux/arm64"]);
    let (other, _) = world.push_tiny("other:1", &["linux/amd64", "linux/arm64"]);
    onetag.ok(&format!("pull --all-platforms {kept}"));
    onetag.ok(&format!("tag {kept} kept:1"));
    onetag.ok(&format!("pull --platform linux/amd64 {other}"));
    onetag.ok(&format!("tag {other} other:1"));
    onetag.ok(&format!("rmi {other}"));
    onetag.ok("save -o kept.tar kept:1");
    let is_kept = |what: &str| {
        let raw = onetag.ok("imagetools inspect --raw store:kept:1");
        assert_eq!(raw.stdout, multi.index.bytes(), "{what}");
        let saved = onetag.ok("save -o now.tar kept:1");
        assert!(!saved.stderr.contains("not in the archive"), "{what}\n{saved}");
    };
    let has = |name: &str| onetag.line(&format!("image inspect --platform linux/amd64 {name}")).status.success();
    // few writes: every one of them
    let tagging = killed_at_each(&world, &strace, "tag other:1 new:1", 1, &|what| {
        is_kept(what);
        assert!(has("other:1"), "{what}");
    });
    let removing = killed_at_each(&world, &strace, "rmi other:1", 1, &|what| is_kept(what));
    let line = format!("rmi --platform linux/amd64 --force {kept}");
    let reducing = killed_at_each(&world, &strace, &line, 1, &|what| {
        let raw = onetag.ok("imagetools inspect --raw store:kept:1");
        assert_eq!(raw.stdout, multi.index.bytes(), "{what}");
        onetag.ok("image inspect --platform linux/arm64 kept:1");
    });
    // many: every so many in every run of the tests, others in the next, all with ONETAG_TEST_EXHAUSTIVE
    let stride = if std::env::var_os("ONETAG_TEST_EXHAUSTIVE").is_some() { 1 } else { 11 };
    let unneeded = world.context("unneeded", "FROM scratch\nCOPY f /\n", &[("f", "a file")]);
    onetag.ok(&format!("build --load -t unneeded:1 {unneeded}"));
    onetag.ok("rmi unneeded:1");
    let pruning = killed_at_each(&world, &strace, "prune --force", stride, &|what| {
        is_kept(what);
        assert!(has("other:1"), "{what}");
    });
    let line = format!("pull --platform linux/arm64 {other}");
    let pulling = killed_at_each(&world, &strace, &line, stride, &|what| {
        is_kept(what);
        assert!(has("other:1"), "{what}");
    });
    let loading = killed_at_each(&world, &strace, "load -i kept.tar", stride, &|what| is_kept(what));
    let line = format!("build --load -t built:1 {unneeded}");
    let building = killed_at_each(&world, &strace, &line, stride, &|what| is_kept(what));
    let counts = [tagging, removing, reducing, pruning, pulling, loading, building];
    assert!(counts.iter().all(|count| *count > 3), "changes made: {counts:?}");
}
