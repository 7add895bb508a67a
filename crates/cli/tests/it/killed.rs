//! `onetag` killed at any instant, and interrupted while a step does not want to end: nothing stays, the next command works.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onetag_testkit::folder::program;
use onetag_testkit::host::{HostState, control_groups, descendants, processes_mentioning, still_running};
use onetag_testkit::{Running, require};

use crate::support::{World, local_name, native_and_foreign, said};

const LIMIT: Duration = Duration::from_secs(120);

/// How often it is killed: 10 times, and 200 in a long run.
fn rounds() -> u64 {
    std::env::var("ONETAG_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10)
}

/// The next of a row of numbers that look random.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn killed_at_any_instant_as_root() {
    killed(&require!(ok World::root()));
}

#[test]
fn killed_at_any_instant_as_an_ordinary_user() {
    killed(&require!(ok World::ordinary()));
}

fn killed(world: &World) {
    let (native, foreign) = native_and_foreign();
    require!(ok world.push_base(&[native, foreign]));
    require!(ok world.runs_foreign());
    let mark = format!("{}", 700_000_000 + std::process::id());
    let steps = format!(
        "RUN echo one > /one\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/new/t \
         (setsid sleep {mark} &) ; echo two > /c/two; sleep 0.05\nRUN echo three > /three\n\
         RUN trap '' TERM INT HUP; setsid sleep {mark} & sleep {mark}\n"
    );
    let contexts = [native, foreign].map(|platform| {
        let name = local_name(platform);
        world.context(&name, &format!("FROM {name}\n{steps}"), &[])
    });
    let after = world.context("after", &format!("FROM {}\nRUN echo built-again\n", local_name(native)), &[]);
    let before = HostState::capture(&world.onetag.root());
    let mut state = u64::from(std::process::id()) | 1 << 40;
    for round in 0..rounds() {
        let line = match round % 4 {
            0 => format!("build --no-cache --progress plain {}", contexts[0]),
            1 => format!("build --no-cache --progress plain --platform {foreign} {}", contexts[1]),
            2 => format!("build --no-cache --progress plain --network none --load -t killed:1 {}", contexts[0]),
            _ => format!("run --rm --pids-limit 50 {} sleep {mark}", local_name(native)),
        };
        let running = world.onetag.start(line.split_whitespace());
        let number = running.id();
        std::thread::sleep(Duration::from_millis(next(&mut state) % 700));
        let started = descendants(number);
        running.signal("KILL");
        running.finish(LIMIT);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let groups = control_groups(&format!("onetag-{number}-"));
            let left = (processes_mentioning(Path::new(&mark)), still_running(&started), groups);
            if left.0.is_empty() && left.1.is_empty() {
                if left.2.is_empty() {
                    break;
                }
                // One that was made for a process that never came goes with the next that is made.
                world.onetag.ok(&format!("run --rm --pids-limit 50 {} true", local_name(native)));
            }
            assert!(Instant::now() < deadline, "round {round} of {line}: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        before.assert_unchanged();
        let again = world.onetag.ok(&format!("build --no-cache --progress plain --network none {after}"));
        assert_eq!(said(&again, "built-again"), 1, "{again}");
    }
    // Everything that was left can be deleted, by a command and by hand.
    world.onetag.ok("prune --all --force");
    let left: Vec<PathBuf> = ["tmp", "layers/steps"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(world.onetag.root().join(folder)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let removed = std::fs::remove_dir_all(world.onetag.root());
    assert!(removed.is_ok(), "{removed:?}");
    std::fs::create_dir(world.onetag.root()).unwrap();
    world.onetag.user().own(&world.onetag.root());
}

#[test]
fn a_stubborn_step_is_interrupted_within_two_seconds() {
    let world = World::any();
    require!(ok world.runs_foreign());
    let (native, foreign) = native_and_foreign();
    require!(ok world.push_base(&[native, foreign]));
    let mark = format!("{}", 710_000_000 + std::process::id());
    let before = HostState::capture(&world.onetag.root());
    for platform in [native, foreign] {
        let base = local_name(platform);
        let lines = format!(
            "FROM {base}\nRUN trap '' TERM INT HUP QUIT; (setsid sh -c \"trap '' TERM INT HUP; sleep {mark}\" &); \
             while :; do sleep {mark}; done\n"
        );
        let context = world.context(&base, &lines, &[]);
        let line = format!("build --progress plain --platform {platform} {context}");
        let running = world.onetag.start(line.split_whitespace());
        let started = Instant::now();
        let sleeping = || processes_mentioning(Path::new(&mark)).iter().any(|(_, line)| line.starts_with("sleep "));
        while !sleeping()
            && !processes_mentioning(Path::new(&mark)).iter().any(|(_, line)| line.contains("sleep "))
            && started.elapsed() < LIMIT
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        let below = descendants(running.id());
        let asked = Instant::now();
        running.signal("INT");
        let finished = running.finish(LIMIT).code(130);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}\n{finished}", asked.elapsed());
        let left = (processes_mentioning(Path::new(&mark)), still_running(&below));
        assert!(left.0.is_empty() && left.1.is_empty(), "{left:?}");
        before.assert_unchanged();
    }
}

/// The group's limit is the builder's, as a container's or a service's is.
#[test]
fn a_step_that_runs_out_of_memory_is_told_so() {
    let world = require!(ok World::root());
    let (native, _) = native_and_foreign();
    require!(ok world.push_base(&[native]));
    let (group, file) = require!(ok memory_group());
    std::fs::write(group.0.join(file), (300_u64 << 20).to_string()).unwrap();
    // Where swap is accounted for there is none; elsewhere the file is missing.
    let _ = std::fs::write(group.0.join("memory.memsw.limit_in_bytes"), (300_u64 << 20).to_string());
    let _ = std::fs::write(group.0.join("memory.swap.max"), "0");
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let context = world.context("hungry", &format!("FROM {}\nRUN {script}\n", local_name(native)), &[]);
    let shell = require!(some program("sh"), "no shell");
    let mut command = world.onetag.program(shell);
    command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&group.0).arg(world.onetag.binary());
    command.args(["build", "--progress", "plain", "--network", "none", &context]);
    let finished = Running::start(&mut command).finish(LIMIT);
    finished.code(1).says("cannot allocate memory").says("RUN x=0123456789abcdef");
}

/// A control group that goes with the test.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A group for a memory limit beside this process's, and the file of the limit.
fn memory_group() -> Result<(Group, &'static str), String> {
    let name = format!("onetag-test-hungry-{}", std::process::id());
    for (root, file) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
        let folder = Path::new(root).join(&name);
        if std::fs::create_dir(&folder).is_err() {
            continue;
        }
        let group = Group(folder);
        if group.0.join(file).exists() {
            return Ok((group, file));
        }
    }
    Err("no control group for memory can be made here".to_owned())
}
