//! Programs of other platforms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use onetag_oci::Platform;
use onetag_sandbox::{EmulatorChoice, Error, ExitStatus, How, ProbeMemory, Sandbox, SandboxOptions};
use onetag_testkit::host::{HostState, private_binfmt};
use onetag_testkit::require;
use onetag_testkit::user::User;

use crate::support::{Room, mode, options, run, sandbox};

fn foreign() -> Vec<Platform> {
    let all = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x", "linux/ppc64le"];
    let host = Platform::host().architecture;
    all.iter().map(|text| text.parse::<Platform>().unwrap()).filter(|platform| platform.architecture != host).collect()
}

#[test]
fn foreign_programs_run_with_nothing_registered() {
    require!(ok private_binfmt(&User::current()));
    let host = HostState::capture(std::path::Path::new("/nowhere"));
    for platform in foreign() {
        let room = require!(ok Room::of(&platform));
        let machine = room.run("busybox uname -m").success();
        let expected = match platform.architecture.as_str() {
            "amd64" => "x86_64\n",
            "arm64" => "aarch64\n",
            "arm" => "armv7l\n",
            "s390x" => "s390x\n",
            _ => "ppc64le\n",
        };
        assert_eq!(machine, expected);
        // Its own children too, and the name they were called by.
        assert_eq!(room.run("/bin/busybox sh -c 'echo $0' name").success(), "name\n");
        // The table is not shown to the process.
        assert_eq!(room.run("cat /proc/mounts | grep -c binfmt; ls /proc/sys/fs/binfmt_misc | wc -l").stdout, "0\n0\n");
    }
    host.assert_unchanged();
}

#[test]
fn a_program_of_the_wrong_platform_is_explained() {
    let platform = foreign().remove(0);
    let mut room = require!(ok Room::of(&platform));
    room.platform = Platform::host();
    match run(&room.spec("true")).unwrap_err() {
        Error::NoInterpreter { machine, program, hint, .. } => {
            assert_eq!(program, "/bin/busybox");
            assert!(!machine.is_empty() && hint.contains(&platform.architecture), "{hint}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn without_an_emulator_the_error_is_typed() {
    let none = Sandbox::new(SandboxOptions { emulator: EmulatorChoice::None, ..options() });
    let bare = Sandbox::new(SandboxOptions::default());
    for platform in foreign() {
        assert!(matches!(none.prepare(std::slice::from_ref(&platform)), Err(Error::NoInterpreter { .. })));
        if !onetag_testkit::host::has_foreign_handlers() {
            let error = bare.prepare(&[platform]).unwrap_err();
            assert!(error.hint().unwrap().contains("qemu"), "{error}");
        }
    }
    assert!(none.prepare(&[Platform::host()]).is_ok());
}

#[test]
fn broken_emulators_are_passed_over() {
    use std::os::unix::fs::PermissionsExt;
    let platform = foreign().remove(0);
    let working = sandbox().support(&platform);
    require!(working.is_supported(), "no emulator for {platform}");
    let How::Private { interpreter, .. } = working.how else { return };
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join(interpreter.file_name().unwrap());
    std::fs::write(&broken, "#!/bin/sh\nexit 42\n").unwrap();
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o644)).unwrap();
    let mut options = options();
    options.interpreter_folders = vec![folder.path().to_owned()];
    let expected = How::Private { interpreter, keeps_names: true };
    assert_eq!(Sandbox::new(options.clone()).support(&platform).how, expected);
    let empty = Sandbox::new(SandboxOptions { search_path: vec![], ..options });
    assert!(!empty.support(&platform).is_supported() || onetag_testkit::host::has_foreign_handlers());
}

/// Says of every emulator that it works, and how.
#[derive(Debug)]
struct Claims {
    records: Mutex<BTreeMap<String, Vec<u8>>>,
    keeps_names: bool,
}

impl ProbeMemory for Claims {
    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        let record = String::from_utf8(self.records.lock().unwrap().get(key)?.clone()).unwrap();
        Some(if self.keeps_names { record } else { record.replace("fully", "without names") }.into_bytes())
    }

    fn keep(&self, key: &str, record: &[u8]) {
        self.records.lock().unwrap().insert(key.to_owned(), record.to_owned());
    }
}

#[test]
fn programs_have_the_names_they_are_called_by_where_the_emulator_understands_them() {
    require!(ok private_binfmt(&User::current()));
    let platform = foreign().remove(0);
    let room = require!(ok Room::of(&platform));
    for keeps_names in [true, false] {
        let claims = Arc::new(Claims { records: Mutex::default(), keeps_names });
        let options = SandboxOptions { probe_memory: Some(claims), ..options() };
        let support = Sandbox::new(options.clone()).support(&platform);
        require!(support.is_supported(), "no emulator for {platform}");
        // What the first found out, the second is told, in its way.
        let sandbox = Sandbox::new(options);
        // busybox executes itself by the other name.
        let spec = room.spec("/bin/uname -s; busybox env uname -s");
        let ran = sandbox.spawn(&spec).and_then(crate::support::finish).unwrap();
        let (status, said) = if keeps_names { (0, "Linux\nLinux\n") } else { (127, "Linux\n") };
        assert_eq!((ran.status, ran.stdout.as_str()), (ExitStatus::Code(status), said), "{}", ran.stderr);
    }
}

#[test]
fn the_hosts_platform_is_native_and_others_are_listed() {
    let all = sandbox().platforms();
    let host = all.iter().find(|support| support.platform.architecture == Platform::host().architecture).unwrap();
    assert_eq!(host.how, How::Native);
    assert!(all.len() >= 12);
}

#[test]
fn another_operating_system_is_refused() {
    assert!(!sandbox().support(&"windows/amd64".parse().unwrap()).is_supported());
}

/// Run by `again::as_root_of_a_host_of_its_own`.
#[test]
fn registering_for_the_whole_host() {
    if mode() != "table" {
        return;
    }
    let platform = foreign().remove(0);
    let room = Room::of(&platform).unwrap();
    let sandbox = sandbox();
    assert!(matches!(sandbox.support(&platform).how, How::Private { .. }));
    let done = sandbox.binfmt_install(std::slice::from_ref(&platform), false).unwrap();
    assert_eq!((done.len(), &done[0].platform, done[0].persistent.is_none()), (1, &platform, true));
    // Again is fine too, and one's own platform needs nothing.
    assert_eq!(sandbox.binfmt_install(std::slice::from_ref(&platform), false).unwrap(), done);
    assert_eq!(sandbox.binfmt_install(&[Platform::host()], false).unwrap(), []);
    let registered = sandbox.support(&platform).how;
    assert_eq!(registered, How::HostHandler { interpreter: Some(done[0].interpreter.clone()) });
    let row = sandbox.binfmt().into_iter().find(|row| row.support.platform == platform).unwrap();
    assert_eq!(row.flags.as_deref().map(|flags| flags.contains('F') && flags.contains('C')), Some(true), "{row:?}");
    assert!(row.version.is_some(), "{row:?}");
    // The host's handler is used, nothing private: the process stays in our user namespace.
    let text =
        sandbox.spawn(&room.spec("readlink /proc/self/ns/user")).and_then(crate::support::finish).unwrap().success();
    assert_eq!(text.trim(), std::fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
    let private = Sandbox::new(SandboxOptions { emulator: EmulatorChoice::Private, ..options() });
    let text =
        private.spawn(&room.spec("readlink /proc/self/ns/user")).and_then(crate::support::finish).unwrap().success();
    assert_ne!(text.trim(), std::fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
    let removed = sandbox.binfmt_uninstall(std::slice::from_ref(&platform)).unwrap();
    assert_eq!(removed.len(), 1);
    assert!(matches!(sandbox.support(&platform).how, How::Private { .. }));
    let host_only = Sandbox::new(SandboxOptions { emulator: EmulatorChoice::Host, ..options() });
    assert!(!host_only.support(&platform).is_supported());
}

#[test]
fn registering_needs_root() {
    if mode() != "ranges" && mode() != "single" {
        return;
    }
    let error = sandbox().binfmt_install(&[], false).unwrap_err();
    assert!(error.hint().unwrap().starts_with("sudo "), "{error}");
}

#[test]
fn programs_that_gain_rights_do_so_under_emulation_too() {
    use std::os::unix::fs::PermissionsExt;
    if mode() == "single" {
        return;
    }
    let mut platforms = foreign();
    platforms.push(Platform::host());
    for platform in platforms {
        require!(sandbox().support(&platform).is_supported(), "no emulator for {platform}");
        let room = require!(ok Room::of(&platform));
        std::fs::set_permissions(room.base().join("bin/busybox"), PermissionsExt::from_mode(0o4755)).unwrap();
        std::fs::write(room.base().join("etc/passwd"), "root::0:0::/root:/bin/sh\napp::1000:1000::/:/bin/sh\n")
            .unwrap();
        let mut spec = room.spec("grep -w Uid /proc/self/status; busybox su -c 'busybox id -u' root");
        spec.user = "app".to_owned();
        let ran = run(&spec).unwrap();
        assert!(ran.stdout.ends_with("\n0\n"), "{platform}: {ran:?}");
    }
}

#[test]
fn root_makes_devices_under_emulation_as_natively() {
    require!(ok private_binfmt(&User::current()));
    let mut platforms = foreign();
    platforms.push(Platform::host());
    for platform in platforms {
        let room = require!(ok Room::of(&platform));
        let script = "umask 027; busybox mkdir /d; busybox mknod /d/a c 1 3; cd /d; busybox mknod b b 7 300; busybox mknod p p; \
                      busybox mknod ../../../../e c 1 5; busybox ln -s /nowhere l; busybox mknod l c 1 5; \
                      busybox stat -c '%n %F %a %t:%T %u' a b p /e";
        let ran = run(&room.spec(script)).unwrap();
        if mode().is_empty() {
            let expected = "a character special file 640 1:3 0\nb block special file 640 7:12c 0\np fifo 640 0:0 0\n/e character special file 640 1:5 0\n";
            assert_eq!(ran.stdout, expected, "{platform}: {ran:?}");
            assert!(ran.stderr.contains("File exists"), "{ran:?}");
        } else {
            assert!(ran.stderr.contains("not permitted"), "{platform}: {ran:?}");
        }
        // Without the right to, nobody does.
        let mut spec = room.spec("busybox mknod /tmp/x c 1 3");
        spec.capabilities.drop = vec!["MKNOD".to_owned()];
        assert!(!run(&spec).unwrap().status.success());
        let mut spec = room.spec("busybox mknod /tmp/x c 1 3; busybox head -c1 /tmp/x");
        spec.user = if mode() == "single" { String::new() } else { "1000".to_owned() };
        assert!(!run(&spec).unwrap().status.success());
    }
}
