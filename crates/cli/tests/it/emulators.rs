//! Where emulators come from and which may be used: the store's, the host's as an image registers them, none at all.

use std::path::PathBuf;

use onetag_testkit::fixture;
use onetag_testkit::folder::program;
use onetag_testkit::host::{HostState, has_foreign_handlers};
use onetag_testkit::require;

use crate::support::{World, local_name, machine};

const FOREIGN: &str = "linux/s390x";

/// A world without QEMU in PATH, the foreign base in its store, and a folder with one emulator that works and two
/// files that only look like some.
fn without_emulators(mut world: World) -> Result<(World, PathBuf), String> {
    if has_foreign_handlers() {
        return Err("the host has emulators of its own registered".to_owned());
    }
    world.runs_foreign()?;
    world.push_base(&["linux/amd64", FOREIGN])?;
    world.onetag = world.onetag.without_emulators();
    let qemu = fixture::qemu()?.join("qemu-s390x-static");
    let content = std::fs::read(&qemu).map_err(|error| format!("{}: {error}", qemu.display()))?;
    let folder = world.onetag.file("emulators/usr/bin/qemu-s390x", content);
    world.onetag.file("emulators/usr/bin/qemu-aarch64", "#!/bin/sh\nexit 42\n");
    world.onetag.file("emulators/usr/bin/qemu-ppc64le", "not a program");
    make_executable(folder.parent().expect("in a folder"));
    Ok((world, folder.ancestors().nth(3).expect("three folders deep").to_owned()))
}

fn make_executable(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).expect("own folder") {
        let path = entry.expect("own folder").path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("own file");
    }
}

/// Runs the foreign base: it says its machine.
fn says_its_machine(world: &World) {
    let said = world.onetag.ok(&format!("run --rm --platform {FOREIGN} {} uname -m", local_name(FOREIGN)));
    assert_eq!(said.text().trim(), machine(FOREIGN));
}

/// The only emulator kept is the one that works; with it foreign programs run, without it they do not.
fn kept_from(world: &World, source: &str) {
    let kept = world.onetag.ok(&format!("binfmt install --from {source}"));
    assert_eq!(kept.text().lines().count(), 1, "{kept}");
    let place = world.onetag.root().join("emulators/qemu-s390x");
    assert_eq!(kept.text().trim(), format!("{FOREIGN}: {}", place.display()));
    says_its_machine(world);
    let rows: serde_json::Value = serde_json::from_str(world.onetag.ok("binfmt ls --json").text()).expect("JSON");
    let row = rows.as_array().expect("rows").iter().find(|row| row["platform"] == FOREIGN).expect("a row");
    assert_eq!(row["how"], "private");
    assert_eq!(row["interpreter"], place.display().to_string());
    world.onetag.ok("binfmt uninstall --kept linux/arm64");
    says_its_machine(world);
    let removed = world.onetag.ok(&format!("binfmt uninstall --kept {FOREIGN}"));
    assert!(removed.text().contains("qemu-s390x"), "{removed}");
    world
        .onetag
        .line(&format!("run --rm --platform {FOREIGN} {} uname -m", local_name(FOREIGN)))
        .failure()
        .says("binfmt install --from");
}

#[test]
fn emulators_of_a_folder_an_archive_and_an_image_are_kept_and_used() {
    let (world, folder) = require!(ok without_emulators(World::any()));
    let before = HostState::capture(&world.onetag.root());
    kept_from(&world, &folder.display().to_string());

    let archive = world.onetag.work().join("emulators.tar");
    let tar = std::process::Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
    require!(tar.is_ok_and(|status| status.success()), "tar is not installed");
    world.onetag.user().own(&archive);
    kept_from(&world, &archive.display().to_string());

    world.onetag.file("emulators/Dockerfile", "FROM scratch\nCOPY usr /usr\n");
    let image = world.reference("binfmt:latest");
    world.onetag.ok(&format!("build --push -t {image} {}", folder.display()));
    kept_from(&world, &image);
    before.assert_unchanged();
}

#[test]
fn a_source_without_a_working_emulator_changes_nothing() {
    let (world, folder) = require!(ok without_emulators(World::any()));
    world.onetag.file("empty/readme", "nothing here");
    let empty = world.onetag.work().join("empty");
    world.onetag.line(&format!("binfmt install --from {}", empty.display())).failure().says("no file named qemu-*");
    std::fs::remove_file(folder.join("usr/bin/qemu-s390x")).expect("own file");
    world
        .onetag
        .line(&format!("binfmt install --from {}", folder.display()))
        .failure()
        .says("no emulator of")
        .says("qemu-aarch64, qemu-ppc64le");
    world.onetag.line("binfmt install --from ./not-there").failure().says("cannot open ./not-there");
    let kept = world.onetag.root().join("emulators");
    assert!(std::fs::read_dir(&kept).map_or(true, |mut entries| entries.next().is_none()));
}

#[test]
fn the_choice_of_emulators_is_honoured() {
    require!(!has_foreign_handlers(), "the host has emulators of its own registered");
    let world = World::any();
    require!(ok world.runs_foreign());
    require!(ok world.push_base(&["linux/amd64", FOREIGN]));
    let base = local_name(FOREIGN);
    let run = |choice: &str| world.onetag.line(&format!("run --rm {choice} --platform {FOREIGN} {base} uname -m"));
    for choice in ["", "--emulator auto", "--emulator=private"] {
        assert_eq!(run(choice).success().text().trim(), machine(FOREIGN), "{choice}");
    }
    run("--emulator none").code(126).says("s390x").says("leave --emulator none");
    run("--emulator host").code(126).says("s390x").says("sudo onetag binfmt install");
    run("--emulator some").code(125).says("auto, host, private or none");
    let mut command = world.onetag.command(["run", "--rm", "--platform", FOREIGN, &base, "true"]);
    command.env("ONETAG_EMULATOR", "none");
    onetag_testkit::Running::start(&mut command).finish(std::time::Duration::from_secs(60)).code(126);
}

/// What images that register emulators do, in short.
const REGISTER: &str = r#"#!/bin/sh
set -e
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cd /proc/sys/fs/binfmt_misc
if [ "$1" = --reset ]; then
    for entry in qemu-*; do [ ! -e "$entry" ] || echo -1 >"$entry"; done
fi
echo ':qemu-s390x:M::\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:/usr/bin/qemu-s390x:F' >register
"#;

/// The host here is a user namespace with a binfmt_misc of its own: that of the machine stays as it is.
#[test]
fn a_privileged_image_registers_emulators_on_the_host() {
    require!(some program("unshare"), "unshare is not installed");
    let world = require!(ok World::root());
    let (world, folder) = require!(ok without_emulators(world));
    world.onetag.file("emulators/register", REGISTER);
    make_executable(&folder);
    let native = local_name("linux/amd64");
    world.onetag.file(
        "emulators/Dockerfile",
        format!("FROM {native}\nCOPY usr /usr\nCOPY register /register\nENTRYPOINT [\"/register\"]\n"),
    );
    world.onetag.ok(&format!("build --load -t register {}", folder.display()));
    let before = HostState::capture(&world.onetag.root());
    let onetag = world.onetag.binary().display().to_string();
    let script = format!(
        "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && \
         {onetag} run --rm --privileged register --reset -p yes && \
         cat /proc/sys/fs/binfmt_misc/qemu-s390x && \
         {onetag} run --rm --emulator host --platform {FOREIGN} {} uname -m",
        local_name(FOREIGN)
    );
    let mut command = world.onetag.program(program("unshare").expect("looked up above"));
    command.args(["--user", "--map-root-user", "--mount", "--fork", "/bin/sh", "-c", &script]);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = onetag_testkit::Running::start(&mut command).finish(std::time::Duration::from_secs(60));
    let done = done.success();
    assert!(done.text().contains("flags: F"), "{done}");
    assert_eq!(done.text().lines().last(), Some(machine(FOREIGN)), "{done}");
    before.assert_unchanged();
}

/// How many programs a command made for probing.
fn probes(world: &World, line: &str) -> usize {
    let trace = world.onetag.work().join("trace");
    let mut command = world.onetag.program(program("strace").expect("looked up by the caller"));
    command
        .args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=memfd_create", "-o"])
        .arg(&trace)
        .arg(world.onetag.binary());
    command.args(line.split(' '));
    onetag_testkit::Running::start(&mut command).finish(std::time::Duration::from_secs(60)).success();
    let text = std::fs::read_to_string(&trace).expect("own file");
    text.lines().filter(|line| line.contains("memfd_create(\"onetag-probe\"")).count()
}

#[test]
fn an_emulator_is_probed_once_and_again_when_it_is_another() {
    require!(some program("strace"), "strace is not installed");
    // Root's: a traced program gains no rights, and newuidmap needs some.
    let (world, folder) = require!(ok World::root().and_then(without_emulators));
    world.onetag.ok(&format!("binfmt install --from {}", folder.display()));
    let run = format!("run --rm --network none --platform {FOREIGN} {} true", local_name(FOREIGN));
    let first = probes(&world, &run);
    let second = probes(&world, &run);
    assert_eq!((first, probes(&world, &run)), (second + 1, second));
    // The tables are of now.
    for table in ["binfmt", "doctor"] {
        let tried = probes(&world, table);
        assert!(tried > 12, "{table}: {tried}");
        assert_eq!(tried, probes(&world, table), "{table}");
    }
    assert_eq!(probes(&world, &run), second);
    // The same content again is another file.
    let kept = world.onetag.root().join("emulators/qemu-s390x");
    let content = std::fs::read(&kept).expect("own file");
    std::fs::write(&kept, &content).expect("own file");
    assert_eq!((probes(&world, &run), probes(&world, &run)), (first, second));
    std::fs::write(&kept, &content[..content.len() / 2]).expect("own file");
    world.onetag.line(&run).code(126).says("no interpreter for linux/s390x");
    std::fs::write(&kept, &content).expect("own file");
    assert_eq!((probes(&world, &run), probes(&world, &run)), (first, second));
    // Without the database nothing is known.
    std::fs::write(world.onetag.root().join("cache.db"), "not a database").expect("own file");
    assert_eq!((probes(&world, &run), probes(&world, &run)), (first, second));
}
