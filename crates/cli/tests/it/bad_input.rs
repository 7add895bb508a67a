//! What goes wrong outside: one paragraph says so, and no tag, process, mount or lock stays behind.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use onetag_oci::Compression;
use onetag_store::layer::{CompressionOptions, Compressor};
use onetag_testkit::fault::{Fault, FaultyRegistry, Rule};
use onetag_testkit::host::{HostState, processes_mentioning};
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running, require};

use crate::crafted;
use crate::support::{BINARY, World, local_name, native_and_foreign};

const LIMIT: Duration = Duration::from_secs(60);

/// An error as it should look: not empty, short, no panic, no backtrace.
#[track_caller]
fn one_paragraph(finished: Finished) -> Finished {
    let finished = finished.failure();
    let lines = finished.stderr.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert!((1..=25).contains(&lines), "{lines} lines of error\n{finished}");
    finished
}

/// Nothing runs any more that belongs to this store, the registry aside.
#[track_caller]
fn nothing_runs(world: &World) {
    let mut left = Vec::new();
    // Processes that were killed may need a moment to be gone.
    for _ in 0..100 {
        left = processes_mentioning(&world.onetag.root());
        left.retain(|(id, _)| *id != world.registry.id());
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("still running: {left:?}");
}

#[test]
fn unknown_flags_are_named() {
    let onetag = Onetag::new(BINARY, User::current());
    one_paragraph(onetag.line("build --no-such-flag .")).says("--no-such-flag");
    one_paragraph(onetag.line("images --no-such-flag")).says("--no-such-flag");
    one_paragraph(onetag.line("no-such-command")).says("no-such-command");
    one_paragraph(onetag.line("run --no-such-flag x")).code(125).says("--no-such-flag");
    one_paragraph(onetag.line("build --platform linux/no/such/thing .")).says("linux/no/such/thing");
}

#[test]
fn contexts_that_cannot_be_read_are_named() {
    let onetag = Onetag::new(BINARY, User::current());
    one_paragraph(onetag.line("build --progress plain absent-folder")).says("absent-folder");
    let empty = onetag.work().join("empty");
    std::fs::create_dir(&empty).expect("own folder");
    one_paragraph(onetag.line("build --progress plain empty")).says("Dockerfile");
    let file = onetag.file("file", "not a folder");
    one_paragraph(onetag.run(["build", "--progress", "plain", &file.display().to_string()]));
}

#[test]
fn a_context_without_permission_is_named() {
    let world = require!(ok World::ordinary());
    let context = world.context("closed", "FROM scratch\nCOPY . /\n", &[]);
    // In a user namespace the user is root over its own files; over another's it is not.
    require!(User::current().is_root(), "only root can make a file that another user cannot read");
    let secret = Path::new(&context).join("secret");
    std::fs::write(&secret, "x").expect("root may write");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("own file");
    one_paragraph(world.onetag.line(&format!("build --progress plain {context}"))).says("secret");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let world = World::any();
    let absent = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    one_paragraph(world.onetag.line(&format!("pull {absent}/x:1"))).says(&absent.to_string());
    one_paragraph(world.onetag.line(&format!("imagetools inspect {absent}/x:1"))).says(&absent.to_string());
    let context = world.context("absent", &format!("FROM {absent}/x:1\nCOPY . /\n"), &[]);
    one_paragraph(world.onetag.line(&format!("build --progress plain {context}"))).says(&absent.to_string());
    one_paragraph(world.onetag.line(&format!("pull {}", world.reference("absent:1")))).says("not found");
    one_paragraph(world.onetag.line(&format!("build --progress plain --push -t {absent}/y:1 {}", scratch(&world))));
    nothing_runs(&world);
}

/// A context whose build executes nothing.
fn scratch(world: &World) -> String {
    world.context("scratch", "FROM scratch\nCOPY file /\n", &[("file", "content")])
}

#[test]
fn damaged_blobs_leave_no_image() {
    let world = World::any();
    let (native, _) = native_and_foreign();
    require!(ok world.push_base(&[native]));
    let faulty = FaultyRegistry::start(world.registry.address());
    let reference = format!("{}/busybox:latest", faulty.name());
    for fault in [Fault::WrongByte, Fault::Shortened(100), Fault::EofAfter(0), Fault::status(404)] {
        let other = Onetag::new(BINARY, world.onetag.user().clone());
        faulty.clear();
        faulty.add(Rule::always("GET", "/blobs/", fault.clone()));
        let pulled = one_paragraph(other.line(&format!("pull {reference}")));
        assert!(!other.ok("images").text().contains("busybox"), "{fault:?} left an image\n{pulled}");
        faulty.clear();
        other.ok(&format!("pull {reference}"));
        assert_eq!(other.ok(&format!("run --rm {reference} echo fine")).text(), "fine\n");
    }
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let world = World::any();
    let (native, _) = native_and_foreign();
    let reference = require!(ok world.push_base(&[native]));
    let raw = world.onetag.ok(&format!("imagetools inspect --raw {reference}"));
    let digest = onetag_oci::Digest::sha256(&raw.stdout);
    let faulty = FaultyRegistry::start(world.registry.address());
    faulty.add(Rule::always("GET", "/manifests/", Fault::WrongByte));
    let other = Onetag::new(BINARY, world.onetag.user().clone());
    one_paragraph(other.line(&format!("pull {}/busybox@{digest}", faulty.name())));
    assert!(!other.ok("images").text().contains("busybox"));
}

#[test]
fn a_push_that_fails_leaves_no_tag() {
    let world = World::any();
    let (native, foreign) = native_and_foreign();
    let faulty = FaultyRegistry::start(world.registry.address());
    let context = scratch(&world);
    let tag = format!("{}/app:latest", faulty.name());
    let build = format!("build --progress plain --platform {native},{foreign} --push -t {tag} {context}");
    for (method, path) in [("POST", "/blobs/uploads"), ("PUT", "/manifests/sha256:"), ("PUT", "/manifests/latest")] {
        faulty.clear();
        faulty.add(Rule::always(method, path, Fault::status(507)));
        one_paragraph(world.onetag.line(&build));
        let tagged = world.onetag.line(&format!("imagetools inspect {}", world.reference("app:latest")));
        tagged.failure().says("not found");
    }
    faulty.clear();
    world.onetag.ok(&build);
    // The tag comes after everything else.
    let requests = faulty.requests();
    let writes: Vec<_> =
        requests.iter().filter(|request| ["PUT", "POST", "PATCH"].contains(&&*request.method)).collect();
    assert!(writes.last().is_some_and(|last| last.path.ends_with("/manifests/latest")), "{writes:?}");
}

#[test]
fn a_full_disk_is_named_and_survived() {
    let world = require!(ok World::root());
    let (native, _) = native_and_foreign();
    let reference = require!(ok world.push_base(&[native]));
    let other = Onetag::new(BINARY, User::current());
    let root = other.root().display().to_string();
    // In a mount namespace of its own: the store on a file system of one megabyte.
    let script = format!(
        "mount -t tmpfs -o size=1m none {root} && {binary} pull {reference}; status=$?; {binary} images; exit $status",
        binary = other.binary().display()
    );
    let mut command = other.program("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let full = one_paragraph(Running::start(&mut command).finish(LIMIT));
    assert!(full.stderr.to_lowercase().contains("no space left"), "{full}");
    assert!(!full.text().contains("busybox"), "{full}");
}

#[test]
fn a_disk_that_cannot_be_written_to_is_named_and_read() {
    let world = require!(ok World::root());
    let (native, _) = native_and_foreign();
    let reference = require!(ok world.push_base(&[native]));
    let other = Onetag::new(BINARY, User::current());
    other.ok(&format!("pull {reference}"));
    let (root, binary) = (other.root().display().to_string(), other.binary().display().to_string());
    let run = |line: &str| {
        let script = format!("mount --bind {root} {root} && mount -o remount,bind,ro {root} && {binary} {line}");
        let mut command = other.program("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        Running::start(&mut command).finish(LIMIT)
    };
    for line in [format!("rmi {reference}"), format!("tag {reference} other:1"), "prune --force".to_owned()] {
        let refused = one_paragraph(run(&line));
        assert!(refused.stderr.contains("Read-only file system"), "{line}: {refused}");
    }
    for line in ["images".to_owned(), format!("image inspect {reference}"), format!("save -o /dev/null {reference}")] {
        run(&line).success();
    }
    assert!(run("images").text().contains("busybox"));
    other.ok("fsck");
}

/// Starts a command, waits until something of it has happened, interrupts it, and sees that it ends.
#[track_caller]
fn interrupt(world: &World, line: &str, happened: &dyn Fn() -> bool) -> Finished {
    let mut running = world.onetag.start(line.split_whitespace());
    for _ in 0..1500 {
        if happened() || !running.is_running() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(running.is_running(), "it ended by itself\n{}", running.finish(LIMIT));
    running.signal("INT");
    let finished = running.finish(Duration::from_secs(20));
    assert!(!finished.status.success() && !finished.stderr.contains("panicked at"), "{finished}");
    finished
}

#[test]
fn an_interrupted_step_leaves_nothing() {
    let world = World::any();
    require!(ok world.runs_foreign());
    let (native, foreign) = native_and_foreign();
    let base = require!(ok world.push_base(&[native, foreign]));
    let before = HostState::capture(&world.onetag.root());
    let dockerfile = format!("FROM {base}\nRUN echo begun && sleep 300\n");
    let context = world.context("slow", &dockerfile, &[]);
    for platform in [native, foreign] {
        let tag = world.reference("slow:1");
        let line = format!("build --progress plain --platform {platform} --push -t {tag} {context}");
        interrupt(&world, &line, &|| {
            processes_mentioning(Path::new("sleep 300")).iter().any(|(_, line)| line.contains("sleep 300"))
        });
        nothing_runs(&world);
        before.assert_unchanged();
        world.onetag.line(&format!("imagetools inspect {tag}")).failure().says("not found");
        world.onetag.ok(&format!("run --rm --platform {platform} {} true", local_name(platform)));
    }
}

#[test]
fn interrupted_transfers_leave_nothing() {
    let world = World::any();
    let (native, _) = native_and_foreign();
    require!(ok world.push_base(&[native]));
    // What the store has would not be transferred.
    world.onetag.ok("prune --all --force");
    let faulty = FaultyRegistry::start(world.registry.address());
    let slow = Fault::Delay(Duration::from_secs(30));
    let requested = |method: &'static str, path: &'static str| {
        let faulty = &faulty;
        move || faulty.requests().iter().any(|request| request.method == method && request.path.contains(path))
    };
    faulty.add(Rule::always("GET", "/blobs/", slow.clone()));
    interrupt(&world, &format!("pull {}/busybox:latest", faulty.name()), &requested("GET", "/blobs/"));
    nothing_runs(&world);
    faulty.clear();
    faulty.add(Rule::always("PUT", "/manifests/", slow.clone()));
    let context = scratch(&world);
    let line = format!("build --progress plain --push -t {}/late:1 {context}", faulty.name());
    interrupt(&world, &line, &requested("PUT", "/manifests/"));
    nothing_runs(&world);
    faulty.clear();
    faulty.add(Rule::always("GET", "/manifests/", slow.clone()));
    faulty.add(Rule::always("HEAD", "/manifests/", slow));
    let context = world.context("resolve", &format!("FROM {}/busybox:latest\nCOPY . /\n", faulty.name()), &[]);
    interrupt(&world, &format!("build --progress plain {context}"), &|| !faulty.requests().is_empty());
    nothing_runs(&world);
    world.onetag.ok("images");
}

#[test]
fn an_interrupted_import_leaves_no_image() {
    let world = World::any();
    let (native, _) = native_and_foreign();
    let mut command = world.onetag.command(["import", "--platform", native, "-", "half"]);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut pipe = running.stdin().expect("a pipe");
    std::io::Write::write_all(&mut pipe, &[0; 100]).expect("it reads");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let finished = running.finish(Duration::from_secs(20));
    drop(pipe);
    assert!(!finished.status.success(), "{finished}");
    assert!(!world.onetag.ok("images").text().contains("half"));
    nothing_runs(&world);
}

#[test]
fn a_layer_that_explodes_is_refused_and_leaves_nothing() {
    let world = World::any();
    let archive = crafted::layer(&[("zeros", &vec![0; 160 << 20])]);
    let zstd = CompressionOptions { compression: Compression::Zstd, level: Some(19) };
    let mut compressor = Compressor::new(Vec::new(), zstd);
    compressor.write_all(&archive).expect("memory");
    let bomb = compressor.finish().expect("memory").output;
    let layout = crafted::Layout::new(&world.onetag, "bomb");
    let image = layout.image_with("linux/amd64", &["/zeros"], std::slice::from_ref(&archive), |_, layers| {
        layers[0] = layout.blob("application/vnd.oci.image.layer.v1.tar+zstd", &bomb);
    });
    let name = world.reference("bomb:1");
    world.onetag.user().own_tree(&world.onetag.work());
    world.onetag.ok(&format!("copy --quiet {} {name}", layout.name(&image)));
    world.onetag.ok(&format!("pull --quiet --platform linux/amd64 {name}"));
    let refused = world.onetag.line(&format!("run --rm {name} /zeros")).failure();
    refused.says("more than 5000 times its compressed size");
    let context = world.context("from-bomb", &format!("FROM {name}\nCOPY Dockerfile /zeros/../d\nRUN x\n"), &[]);
    world.onetag.line(&format!("build --platform linux/amd64 {context}")).failure().says("times its compressed size");
    let layers = std::fs::read_dir(world.onetag.root().join("layers/sha256")).expect("a folder").count();
    assert_eq!(layers, 0, "no part of it stays");
    world.onetag.ok("prune --force");
}
