//! Limits of processes and memory.

use std::sync::{Mutex, PoisonError};

use onetag_sandbox::{Error, ExitStatus, Limits};
use onetag_testkit::require;

use crate::support::{Ran, Room, mode, run};

/// One at a time: each looks at what is left in the hierarchies.
static ALONE: Mutex<()> = Mutex::new(());

/// Groups of ours that are left in the hierarchies.
fn groups_left() -> Vec<std::path::PathBuf> {
    let own = format!("onetag-{}-", std::process::id());
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controller, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let folder = std::path::Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/'));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found.extend(
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).map(|entry| entry.path()),
        );
    }
    found
}

fn limited(room: &Room, script: &str, limits: Limits) -> Result<Ran, Error> {
    let mut spec = room.spec(script);
    spec.limits = limits;
    run(&spec)
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let room = require!(ok Room::new());
    let limits = Limits { pids: Some(60), ..Limits::default() };
    let script = "bomb() { bomb | bomb & }; bomb 2>/dev/null; busybox sleep 0.5; echo over";
    let ran = match limited(&room, script, limits) {
        Err(error @ Error::Denied { .. }) => {
            if mode().is_empty() {
                require!(false, "{error}");
            }
            return;
        }
        result => result.unwrap(),
    };
    // The shell may not get a process of its own any more; all that counts is that it ends, and that nothing is left.
    assert!(ran.stdout.len() < 100, "{ran:?}");
    assert_eq!(groups_left(), Vec::<std::path::PathBuf>::new());
    assert_eq!(room.run("echo fine").success(), "fine\n");
}

#[test]
fn running_out_of_memory_is_told_apart() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let room = require!(ok Room::new());
    let limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    match limited(&room, script, limits) {
        Err(error @ Error::Denied { .. }) => {
            assert!(error.hint().is_some());
            if mode().is_empty() {
                require!(false, "{error}");
            }
        }
        result => {
            let ran = result.unwrap();
            assert_eq!(ran.status, ExitStatus::OutOfMemory, "{ran:?}");
            assert_eq!(ran.status.exit_code(), 137);
        }
    }
    assert_eq!(groups_left(), Vec::<std::path::PathBuf>::new());
    assert_eq!(room.run("kill -9 $$").status, ExitStatus::Signal(9));
}
