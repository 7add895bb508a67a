//! What a host can run and how it says so: `doctor`, `binfmt`, emulators that do not work, registrations that last.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onetag_testkit::fixture;
use onetag_testkit::folder::program;
use onetag_testkit::host::{HostState, has_foreign_handlers, private_binfmt};
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running, require};
use serde_json::Value;

use crate::crafted;
use crate::support::{BINARY, World, local_name, machine};

const FOREIGN: &str = "linux/s390x";
const LIMIT: Duration = Duration::from_secs(60);

/// A program of the host's, written where it can be executed.
fn executable(onetag: &Onetag, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = onetag.file(name, content);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("own file");
    path
}

/// The row of a platform in `binfmt ls --json`, with the configured folder of emulators.
fn row(onetag: &Onetag, folder: &Path, platform: &str) -> Value {
    let mut command = onetag.command(["binfmt", "ls", "--json"]);
    let listed = Running::start(command.env("ONETAG_EMULATORS", folder)).finish(LIMIT).success();
    let rows: Value = serde_json::from_str(listed.text()).expect("JSON");
    rows.as_array().expect("rows").iter().find(|row| row["platform"] == platform).cloned().expect("a row")
}

#[test]
fn emulators_are_looked_for_in_the_folder_in_path_and_in_the_store() {
    require!(!has_foreign_handlers(), "the host has emulators of its own registered");
    let world = World::any();
    require!(ok private_binfmt(world.onetag.user()));
    let qemu = require!(ok fixture::qemu()).join("qemu-s390x-static");
    let emulator = require!(ok std::fs::read(&qemu).map_err(|error| format!("{}: {error}", qemu.display())));
    let kept = executable(&world.onetag, "source/qemu-s390x", &emulator);
    world.onetag.ok(&format!("binfmt install --from {}", kept.parent().expect("in a folder").display()));
    let configured = executable(&world.onetag, "configured/qemu-s390x", &emulator);
    let folder = configured.parent().expect("in a folder");
    assert_eq!(row(&world.onetag, folder, FOREIGN)["interpreter"], configured.display().to_string());
    let by_path = row(&world.onetag, Path::new(""), FOREIGN);
    assert!(by_path["interpreter"].as_str().is_some_and(|path| path.ends_with("qemu-s390x-static")), "{by_path}");
    let bare = world.onetag.root().join("emulators/qemu-s390x");
    let onetag = world.onetag.without_emulators();
    assert_eq!(row(&onetag, Path::new(""), FOREIGN)["interpreter"], bare.display().to_string());
}

/// Each kind of broken emulator stands before one that works, and is found by executing a program with it.
#[test]
fn broken_emulators_are_passed_over() {
    require!(!has_foreign_handlers(), "the host has emulators of its own registered");
    let world = World::any();
    require!(ok private_binfmt(world.onetag.user()));
    require!(ok world.push_base(&["linux/amd64", FOREIGN]));
    let folder = require!(ok fixture::qemu());
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| format!("{name}: {error}"));
    let works = folder.join("qemu-s390x-static").display().to_string();
    let (other, good) = (require!(ok read("qemu-aarch64-static")), require!(ok read("qemu-s390x-static")));
    let host = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let another_host = if host == "amd64" { "arm64" } else { "amd64" };
    let broken: [(&str, Vec<u8>); 8] = [
        ("of another guest", other),
        ("of another host", crafted::program_of(another_host)),
        ("a program that crashes at once", crafted::program_of(host)),
        ("without its libraries", crafted::program_with_loader("/lib/no-such-loader.so.2")),
        ("cut short", good[..good.len() / 3].to_vec()),
        ("no program", b"not a program".to_vec()),
        // One that is too old for how the kernel calls it hands an argument too many on.
        ("too old", format!("#!/bin/sh\nexec {works} \"$@\" more\n").into_bytes()),
        ("of a bad version", b"#!/bin/sh\nkill -SEGV $$\n".to_vec()),
    ];
    for (what, content) in broken {
        let path = executable(&world.onetag, "broken/qemu-s390x-static", content);
        let folder = path.parent().expect("in a folder");
        let row = row(&world.onetag, folder, FOREIGN);
        assert_eq!((row["how"].as_str(), row["supported"].as_bool()), (Some("private"), Some(true)), "{what}: {row}");
        assert_ne!(row["interpreter"], path.display().to_string(), "{what}");
        let mut command =
            world.onetag.command(["run", "--rm", "--platform", FOREIGN, &local_name(FOREIGN), "uname", "-m"]);
        let ran = Running::start(command.env("ONETAG_EMULATORS", folder)).finish(LIMIT).success();
        assert_eq!(ran.text().trim(), machine(FOREIGN), "{what}: {ran}");
        // Alone, it is as if there were none.
        let mut command =
            world.onetag.command(["run", "--rm", "--platform", FOREIGN, &local_name(FOREIGN), "uname", "-m"]);
        command.env("ONETAG_EMULATORS", folder).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if !Path::new("/usr/bin/qemu-s390x-static").exists() && !Path::new("/usr/bin/qemu-s390x").exists() {
            Running::start(&mut command).finish(LIMIT).code(126).says("no interpreter for linux/s390x").says("hint: ");
        }
    }
}

#[test]
fn the_levels_and_modes_of_this_processor_are_told() {
    let onetag = Onetag::new(BINARY, User::current());
    let listed = onetag.ok("binfmt ls --json");
    let rows: Value = serde_json::from_str(listed.text()).expect("JSON");
    let how = |platform: &str| {
        let row = rows.as_array().expect("rows").iter().find(|row| row["platform"] == platform).expect("a row");
        row["how"].as_str().expect("a way").to_owned()
    };
    let table = onetag.ok("binfmt");
    assert!(table.text().starts_with("PLATFORM "), "{table}");
    let count = rows.as_array().expect("rows").len();
    assert_eq!(table.text().lines().count(), 1 + count, "{table}");
    if cfg!(target_arch = "x86_64") {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").expect("a processor");
        let flags: Vec<&str> = cpu
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let has = |wanted: &[&str]| wanted.iter().all(|flag| flags.contains(flag));
        assert_eq!(how("linux/amd64"), "native");
        assert_eq!(how("linux/amd64/v2") == "native", has(&["popcnt", "sse4_2", "ssse3"]));
        assert_eq!(how("linux/amd64/v3") == "native", has(&["avx2", "bmi2", "movbe"]));
        assert_eq!(how("linux/amd64/v4") == "native", has(&["avx512f", "avx512bw", "avx512vl"]));
        assert!(["compatible", "private", "none", "host"].contains(&how("linux/386").as_str()));
    } else {
        assert_eq!(how("linux/arm64"), "native");
        assert_ne!(how("linux/amd64"), "native");
    }
    if fixture::qemu().is_ok_and(|folder| folder.join("qemu-arm-static").exists())
        && private_binfmt(&User::current()).is_ok()
    {
        for platform in ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/riscv64", "linux/ppc64le"] {
            assert_ne!(how(platform), "none", "{platform}\n{listed}");
        }
    }
}

#[test]
fn the_doctor_tells_the_same_in_words_and_in_json() {
    let world = World::any();
    let words = world.onetag.ok("doctor");
    let document: Value = serde_json::from_str(world.onetag.ok("doctor --json").text()).expect("JSON");
    let findings = document["findings"].as_array().expect("findings");
    for subject in ["kernel", "user namespace", "sandbox", "control groups", "network", "disk"] {
        let finding = findings.iter().find(|finding| finding["subject"] == subject);
        let finding = finding.unwrap_or_else(|| panic!("{subject} is missing: {document}"));
        assert!(["ok", "limited"].contains(&finding["verdict"].as_str().expect("a verdict")), "{finding}");
        assert!(words.text().lines().any(|line| line.starts_with(subject)), "{words}");
        if let Some(hint) = finding["hint"].as_str() {
            assert!(words.stderr.contains(hint), "{words}");
        }
    }
    assert!(document["platforms"].as_array().is_some_and(|platforms| platforms.len() >= 12), "{document}");
    let hints: Vec<&str> = words.stderr.lines().filter(|line| line.starts_with("hint: ")).collect();
    assert!(hints.iter().enumerate().all(|(number, hint)| !hints[..number].contains(hint)), "{words}");
    let single = Onetag::new(BINARY, require!(ok User::without_ranges()));
    single.ok("doctor").says("hint: sudo usermod --add-subuids");
}

/// Runs the doctor without rights in a user namespace that a script has prepared.
fn doctor_in(onetag: &Onetag, prepare: &str, how: &str) -> Finished {
    let script = format!("{prepare} && exec {how} \"$0\" doctor");
    let mut command = onetag.program(program("unshare").expect("looked up by the caller"));
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(onetag.binary());
    Running::start(&mut command).finish(LIMIT)
}

#[test]
fn what_a_host_denies_is_named_with_what_mends_it() {
    require!(some program("unshare"), "unshare is not installed");
    require!(some program("setpriv"), "setpriv is not installed");
    require!(ok private_binfmt(&User::current()));
    let onetag = Onetag::new(BINARY, User::current());
    let plain = "setpriv --bounding-set=-all --inh-caps=-all";
    let denied = doctor_in(&onetag, "echo 0 > /proc/sys/user/max_user_namespaces", plain).code(1);
    let denied = denied.says("this host cannot execute images").says("user.max_user_namespaces is 0");
    denied.says("hint: sudo sysctl -w user.max_user_namespaces=15000");
    // A part of /proc is hidden, as container runtimes hide it.
    let masked =
        doctor_in(&onetag, "mount --bind /dev/null /proc/keys", "unshare --user --map-root-user --mount").code(1);
    masked.says("masked").says("--security-opt systempaths=unconfined");
}

/// The host here is a user namespace with a binfmt_misc and an /etc of its own.
#[test]
fn lasting_registrations_are_files_of_systemds() {
    require!(some program("unshare"), "unshare is not installed");
    require!(ok private_binfmt(&User::current()));
    require!(User::root().is_ok(), "an overlay of /etc is root's");
    let onetag = Onetag::new(BINARY, User::current());
    require!(
        fixture::qemu().is_ok_and(|folder| folder.join("qemu-s390x-static").exists()),
        "no QEMU among the fixtures"
    );
    let before = HostState::capture(&onetag.root());
    let script = "set -e; mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; mount -t tmpfs none /mnt; mkdir /mnt/u /mnt/w; \
                  mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w overlay /etc; mount -t tmpfs none /run; \
                  ! \"$0\" binfmt install linux/s390x --persistent; \
                  mkdir -p /run/systemd/system; \"$0\" binfmt install linux/s390x,linux/arm64 --persistent; \
                  cat /etc/binfmt.d/onetag-qemu-s390x.conf; cat /proc/sys/fs/binfmt_misc/qemu-s390x; \"$0\" binfmt ls; \
                  \"$0\" binfmt uninstall; ls /etc/binfmt.d /proc/sys/fs/binfmt_misc";
    let mut command = onetag.program(program("unshare").expect("looked up above"));
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(onetag.binary());
    let done = Running::start(&mut command).finish(LIMIT).success().says("systemd does not run here");
    let text = done.text();
    assert!(text.contains("linux/s390x registered (qemu-s390x)"), "{done}");
    assert!(text.contains("kept in /etc/binfmt.d/onetag-qemu-s390x.conf"), "{done}");
    assert!(
        text.lines().any(|line| line.starts_with(":qemu-s390x:M:0:\\x7f\\x45") && line.ends_with(":FPC")),
        "{done}"
    );
    let row = text.lines().find(|line| line.starts_with(FOREIGN) && line.contains("host")).unwrap_or_default();
    assert!(row.contains("qemu-s390x-static") && row.contains('F') && row.ends_with("ok"), "{done}");
    assert!(text.contains("linux/s390x removed") && text.contains("linux/arm64 removed"), "{done}");
    let rest = text.rsplit("/etc/binfmt.d:").next().unwrap_or_default();
    assert!(!rest.contains("qemu-"), "{done}");
    before.assert_unchanged();
}
