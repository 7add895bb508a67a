//! How processes end, and that nothing stays.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onetag_sandbox::ExitStatus;
use onetag_testkit::host::{HostState, control_groups, descendants, processes_mentioning, still_running};
use onetag_testkit::require;

use crate::support::{Room, finish, sandbox, search_path};

#[test]
fn killing_ends_a_stubborn_process_and_its_children() {
    let room = require!(ok Room::new());
    for init in [true, false] {
        let marker = format!("{}", 200_000 + std::process::id() + u32::from(init));
        let mut spec = room.spec(&format!(
            "trap '' TERM INT HUP; echo ready; busybox setsid busybox sleep {marker} & busybox sleep {marker}"
        ));
        spec.init = init;
        let process = sandbox().spawn(&spec).unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut process.stdout.as_ref().unwrap(), &mut ready).unwrap();
        process.signal(15).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| process.wait().unwrap());
            process.kill();
            assert_eq!(waiting.join().unwrap(), ExitStatus::Signal(9));
        });
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert!(processes_mentioning(Path::new(&marker)).is_empty());
        process.kill();
        assert_eq!(process.wait().unwrap(), ExitStatus::Signal(9));
    }
}

#[test]
fn signals_reach_the_process() {
    let room = require!(ok Room::new());
    for init in [true, false] {
        let mut spec = room.spec("trap 'echo caught; exit 5' TERM; echo ready; while :; do busybox sleep 0.02; done");
        spec.init = init;
        let mut process = sandbox().spawn(&spec).unwrap();
        let mut output = process.stdout.take().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut output, &mut ready).unwrap();
        process.signal(15).unwrap();
        process.stdout = Some(output);
        let ran = finish(process).unwrap();
        assert_eq!((ran.status, ran.stdout.as_str()), (ExitStatus::Code(5), "caught\n"));
    }
}

#[test]
fn dropping_a_process_ends_it() {
    let room = require!(ok Room::new());
    let marker = format!("{}", 300_000 + std::process::id());
    drop(sandbox().spawn(&room.spec(&format!("busybox sleep {marker}"))).unwrap());
    assert!(processes_mentioning(Path::new(&marker)).is_empty());
}

#[test]
fn a_process_outlives_the_thread_that_started_it() {
    let room = require!(ok Room::new());
    let spec = room.spec("busybox sleep 0.3; echo done");
    let process = std::thread::spawn(move || sandbox().spawn(&spec).unwrap()).join().unwrap();
    assert_eq!(finish(process).unwrap().success(), "done\n");
}

const VICTIM: &str = "ONETAG_TEST_VICTIM";

/// Not a test of its own: what the next one starts and kills.
#[test]
fn victim() {
    let Ok(marker) = std::env::var(VICTIM) else { return };
    let Ok(room) = Room::new() else { return };
    let sandbox = sandbox();
    let network = onetag_sandbox::Network::start(&search_path());
    std::thread::scope(|scope| {
        for init in [true, false] {
            let (sandbox, mut spec) = (
                sandbox.clone(),
                room.spec(&format!("busybox setsid busybox sleep {marker} & busybox sleep {marker}")),
            );
            spec.init = init;
            spec.rootfs = onetag_sandbox::RootFs::Directory(room.base().to_owned());
            // With a control group where one is to be had, and with a network of its own.
            spec.limits.pids = Some(100);
            if let Ok(network) = &network {
                spec.network = onetag_sandbox::NetworkMode::Shared(network.clone());
            }
            scope.spawn(move || {
                loop {
                    let Ok(process) = sandbox.spawn(&spec) else { continue };
                    std::thread::sleep(Duration::from_millis(30));
                    process.kill();
                    let _ = process.wait();
                }
            });
        }
    });
}

/// Runs something in a control group, where one is to be had.
fn limited(room: &Room) {
    let mut spec = room.spec("true");
    spec.limits.pids = Some(100);
    if let Ok(process) = sandbox().spawn(&spec) {
        let _ = process.wait();
    }
}

#[test]
fn a_killed_starter_leaves_nothing() {
    let room = require!(ok Room::new());
    let rounds: u64 = std::env::var("ONETAG_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    // What the killed were using is ordinary folders, which go with this one.
    let folder = tempfile::tempdir().unwrap();
    let host = HostState::capture(folder.path());
    for round in 0..rounds {
        let marker = format!("{}{round:03}", 4_000_000 + std::process::id());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ending::victim"])
            .env(VICTIM, &marker)
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(100 + 37 * (round % 10)));
        let (number, started) = (child.id(), descendants(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let groups = || control_groups(&format!("onetag-{number}-"));
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = (processes_mentioning(Path::new(&marker)), still_running(&started), groups());
            if left.0.is_empty() && left.1.is_empty() {
                // One that was made for a process that never came goes with the next that is made.
                if !left.2.is_empty() {
                    limited(&room);
                }
                if groups().is_empty() {
                    break;
                }
            }
            assert!(Instant::now() < deadline, "round {round}: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    host.assert_unchanged();
}
