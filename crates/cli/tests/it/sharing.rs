//! Two builds at once, as two processes over one store: steps in flight, caches, and a builder that is killed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use onetag_testkit::{Finished, Running, require};

use crate::support::{World, said};

const LIMIT: Duration = Duration::from_secs(120);

/// Starts a build of a context with plain progress.
fn start(world: &World, context: &str, more: &[&str]) -> Running {
    let mut arguments = vec!["build", "--progress", "plain", "--network", "none"];
    arguments.extend(more);
    arguments.push(context);
    world.onetag.start(arguments)
}

/// Waits until a condition holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn claims(root: &Path) -> usize {
    std::fs::read_dir(root.join("locks/work")).map_or(0, Iterator::count)
}

fn native_base(world: &World) -> Result<String, String> {
    let (native, _) = crate::support::native_and_foreign();
    world.push_base(&[native])
}

#[test]
fn a_step_in_flight_is_waited_for_and_taken() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let dockerfile = format!("FROM {base}\nRUN echo ran-here; sleep 2; echo data > /x\nRUN echo then-this\n");
    let context = world.context("flight", &dockerfile, &[]);
    let first = start(&world, &context, &[]);
    until("the first step", || claims(&world.onetag.root()) > 0);
    let second = start(&world, &context, &[]);
    let (first, second) = (first.finish(LIMIT).success(), second.finish(LIMIT).success());
    assert_eq!((said(&first, "ran-here"), said(&second, "ran-here")), (1, 0), "{first}{second}");
    assert_eq!(said(&first, "then-this") + said(&second, "then-this"), 1, "{first}{second}");
    assert!(second.stderr.contains("waiting for another build that runs this step"), "{second}");
    assert_eq!(claims(&world.onetag.root()), 0);
}

#[test]
fn a_step_whose_builder_was_killed_is_run_by_who_waited() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let context = world.context("killed", &format!("FROM {base}\nRUN echo ran-here; sleep 3; echo data > /x\n"), &[]);
    let first = start(&world, &context, &[]);
    until("the first step", || claims(&world.onetag.root()) > 0);
    let mut second = start(&world, &context, &[]);
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.is_running());
    first.signal("KILL");
    let killed = first.finish(LIMIT);
    assert!(!killed.status.success());
    let second = second.finish(LIMIT).success();
    assert_eq!(said(&second, "ran-here"), 1, "{second}");
    let third = start(&world, &context, &[]).finish(LIMIT).success();
    assert_eq!(said(&third, "ran-here"), 0, "{third}");
}

/// Whatever a killed builder left, the next build gives what a build in an empty store gives.
#[test]
fn a_builder_killed_midway_leaves_nothing_wrong() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let copies: String = (0..6)
        .map(|number| format!("COPY f{number} /f{number}\nRUN cat /f{number} > /r{number} && echo {number} >> /all\n"))
        .collect();
    let files: Vec<(String, String)> = (0..6).map(|number| (format!("f{number}"), format!("{number}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect();
    let context = world.context("midway", &format!("FROM {base}\n{copies}"), &files);
    let app = world.reference("midway:latest");
    let output = format!("type=registry,name={app}");
    let digest = |no_cache: bool| {
        let mut command = world.onetag.command(["build", "--progress", "plain", "--network", "none", "-o", &output]);
        command.env("SOURCE_DATE_EPOCH", "1600000000").arg("--iidfile").arg(world.onetag.work().join("iid"));
        if no_cache {
            command.arg("--no-cache");
        }
        Running::start(command.arg(&context)).finish(LIMIT).success();
        std::fs::read_to_string(world.onetag.work().join("iid")).unwrap()
    };
    let expected = digest(true);
    let rounds = std::env::var("ONETAG_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3_u64);
    for round in 0..rounds {
        // Another content, so that everything is made again, interrupted somewhere; then the first one again.
        world.onetag.file("midway/f0", format!("round {round}"));
        let running = start(&world, &context, &[]);
        std::thread::sleep(Duration::from_millis(20 + 37 * (round * 7 % 11)));
        running.signal("KILL");
        running.finish(LIMIT);
        let changed = digest(false);
        assert_eq!(changed, digest(true), "round {round}");
        world.onetag.file("midway/f0", "0");
        assert_eq!(digest(false), expected, "round {round}");
    }
}

/// Builds two Dockerfiles at once; both must succeed.
fn at_once(world: &World, base: &str, name: &str, runs: [&str; 2]) -> [Finished; 2] {
    let contexts: Vec<String> = runs
        .iter()
        .enumerate()
        .map(|(number, run)| world.context(&format!("{name}-{number}"), &format!("FROM {base}\nRUN {run}\n"), &[]))
        .collect();
    let running: Vec<Running> = contexts.iter().map(|context| start(world, context, &[])).collect();
    let finished: Vec<Finished> = running.into_iter().map(|running| running.finish(LIMIT).success()).collect();
    finished.try_into().unwrap_or_else(|_| unreachable!())
}

#[test]
fn caches_are_shared_as_they_say() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let mount = |id: &str, sharing: &str| format!("--mount=type=cache,id={id},target=/{id},sharing={sharing}");
    // Shared: each sees what the other does meanwhile.
    let meet = |own: &str, other: &str| {
        let look = format!("i=0; while [ ! -e /s/{other} ]; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.1; done");
        format!("{} touch /s/{own}; {look}", mount("s", "shared"))
    };
    at_once(&world, &base, "shared", [&meet("a", "b"), &meet("b", "a")]);
    // Locked: one after the other.
    let alone = |own: &str| {
        format!("{} [ ! -e /l/busy ] && touch /l/busy && sleep 0.4 && rm /l/busy && echo {own}", mount("l", "locked"))
    };
    at_once(&world, &base, "locked", [&alone("a"), &alone("b")]);
    // Private: each has its own at the same time.
    let own = |own: &str| {
        format!(
            "{} [ ! -e /p/mark ] && touch /p/mark && sleep 1 && [ -e /p/mark ] && echo {own}",
            mount("p", "private")
        )
    };
    at_once(&world, &base, "private", [&own("a"), &own("b")]);
    // Several locked ones in another order, and one twice: nobody waits for itself or in a circle.
    let both = |one: &str, two: &str| format!("{} {} sleep 0.3", mount(one, "locked"), mount(two, "locked"));
    at_once(&world, &base, "circle", [&both("m", "n"), &both("n", "m")]);
    let twice = "--mount=type=cache,id=t,target=/t,sharing=locked --mount=type=cache,id=t,target=/u,sharing=locked \
                 touch /t/x && [ -e /u/x ]";
    at_once(&world, &base, "twice", [twice, "true"]);
}

#[test]
fn a_build_that_waits_for_a_cache_can_be_interrupted() {
    let world = World::any();
    let base = require!(ok native_base(&world));
    let run = |text: &str| {
        format!("FROM {base}\nRUN --mount=type=cache,id=w,target=/w,sharing=locked touch /w/held; {text}\n")
    };
    let holder = start(&world, &world.context("holder", &run("sleep 30"), &[]), &[]);
    until("the lock", || claims(&world.onetag.root()) > 0);
    std::thread::sleep(Duration::from_millis(300));
    let waiter = start(&world, &world.context("waiter", &run("true"), &[]), &[]);
    until("the second step", || claims(&world.onetag.root()) > 1);
    let asked = Instant::now();
    waiter.signal("INT");
    waiter.finish(LIMIT).code(130);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    holder.signal("INT");
    holder.finish(LIMIT).code(130);
}

/// Everything below a folder, as far as it can be read.
fn grep(folder: &Path, needle: &str) -> String {
    let found = Command::new("grep").args(["-r", "-l", "-a", "-F", needle]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn secrets_and_agents_leave_no_trace() {
    let world = require!(ok World::root());
    let base = require!(ok native_base(&world));
    let dockerfile = format!(
        "FROM {base}\nRUN --mount=type=secret,id=word --mount=type=secret,id=word,env=WORD \
         [ \"$(cat /run/secrets/word)\" = \"$WORD\" ] && echo the-secret-was-there\n\
         RUN --mount=type=ssh [ -S \"$SSH_AUTH_SOCK\" ] && echo the-agent-was-there\n"
    );
    let context = world.context("secret", &dockerfile, &[]);
    let app = world.reference("secret:latest");
    let build = |secret: &str, socket: &Path| {
        let file = world.onetag.file("word", secret);
        let _agent = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let secret = format!("id=word,src={}", file.display());
        let ssh = format!("default={}", socket.display());
        let more = ["--secret", &secret, "--ssh", &ssh, "--push", "-t", &app];
        start(&world, &context, &more).finish(LIMIT).success()
    };
    let first = build("correct-horse-battery", &world.onetag.work().join("agent-one.sock"));
    assert_eq!((said(&first, "the-secret-was-there"), said(&first, "the-agent-was-there")), (1, 1), "{first}");
    // Neither is a part of any key.
    let second = build("staple-of-another-kind", &world.onetag.work().join("agent-two.sock"));
    assert_eq!((said(&second, "the-secret-was-there"), said(&second, "the-agent-was-there")), (0, 0), "{second}");
    std::fs::remove_file(world.onetag.work().join("word")).unwrap();
    for needle in ["correct-horse-battery", "staple-of-another-kind", "agent-one.sock", "agent-two.sock"] {
        assert!(!first.stderr.contains(needle) && !second.stderr.contains(needle), "{first}{second}");
        let found = grep(&world.onetag.root(), needle);
        assert!(found.is_empty(), "{needle} is in {found}");
    }
    let config = world.onetag.run(["imagetools", "inspect", "--format", "{{json .Image}}", &app]).success();
    assert!(config.text().contains("RUN") && !config.text().contains("correct-horse"), "{config}");
}
