//! What a process finds when it runs, and what comes back.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use onetag_sandbox::{
    Error, ExitStatus, Mount, MountKind, ProcessSpec, ResourceLimit, RootFs, Security, Stdio, mount_detached,
};
use onetag_testkit::require;

use crate::support::{Room, finish, mode, run, sandbox};

#[test]
fn statuses_and_streams_come_back() {
    let room = require!(ok Room::new());
    let ran = room.run("echo out; echo err >&2; exit 7");
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (ExitStatus::Code(7), "out\n", "err\n"));
    assert_eq!(room.run("kill -TERM $$").status, ExitStatus::Signal(15));
    assert_eq!(room.run("kill -9 $$").status.exit_code(), 137);
    let mut spec = room.spec("cat");
    spec.stdin = Stdio::Pipe;
    let mut process = sandbox().spawn(&spec).unwrap();
    process.stdin.take().unwrap().write_all(b"through a pipe").unwrap();
    assert_eq!(finish(process).unwrap().success(), "through a pipe");
}

#[test]
fn both_kinds_of_first_process() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("echo $$; exit 3");
    spec.init = false;
    let ran = run(&spec).unwrap();
    assert_eq!((ran.status, ran.stdout.as_str()), (ExitStatus::Code(3), "1\n"));
    // Orphans are taken in by the init and do not hold the process up.
    let ran = room.run("(sleep 1000 &) ; (sleep 0.05; exit 9) & wait; echo $$");
    assert_eq!(ran.success(), "2\n");
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("echo $A $HOME $(pwd) $(hostname); cat /etc/hosts; env | grep -c .");
    spec.env.push("A=b c".to_owned());
    spec.cwd = "/new/folder".to_owned();
    spec.extra_hosts = vec![("example".to_owned(), IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)))];
    let text = run(&spec).unwrap().success();
    assert!(
        text.starts_with("b c /root /new/folder buildkitsandbox\n") || text.starts_with("b c / /new/folder"),
        "{text}"
    );
    assert!(text.contains("1.2.3.4\texample\n"), "{text}");
    // PATH, A, HOME, and what the shell adds: PWD, SHLVL, _ and the like.
    let count: u32 = text.lines().last().unwrap().parse().unwrap();
    assert!(count <= 7, "{text}");
}

#[test]
fn what_cannot_start_says_why() {
    let room = require!(ok Room::new());
    let start = |args: &[&str]| {
        let mut spec = room.spec("");
        spec.args = args.iter().map(ToString::to_string).collect();
        run(&spec).unwrap_err()
    };
    assert!(matches!(start(&["absent"]), Error::ExecutableNotFound { program } if program == "absent"));
    assert!(matches!(start(&["/absent"]), Error::NoSuchFile { .. }));
    assert!(matches!(start(&["/etc"]), Error::NotExecutable { .. }));
    assert!(matches!(start(&[]), Error::Invalid(_)));
    let write = |name: &str, content: &[u8]| {
        use std::os::unix::fs::PermissionsExt;
        let path = room.base().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("text", b"just text\n");
    assert!(matches!(start(&["/text"]), Error::UnknownFormat { .. }));
    write("script", b"#!/no/such/shell -e\n");
    assert!(matches!(start(&["/script"]), Error::MissingLoader { loader, .. } if loader == "/no/such/shell"));
    let error = start(&["absent"]);
    assert_eq!(
        (error.exit_code(), error.to_string().as_str()),
        (127, "exec: \"absent\": executable file not found in $PATH")
    );
    let mut spec = room.spec("true");
    spec.user = "nobody-here".to_owned();
    let error = run(&spec).unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nobody-here: no matching entries in passwd file");
    spec.user.clear();
    spec.cwd = "/bin/busybox".to_owned();
    spec.rootfs = room.rootfs();
    assert!(matches!(run(&spec).unwrap_err(), Error::Setup { .. }));
}

#[test]
fn users_come_from_the_image() {
    let room = require!(ok Room::new());
    std::fs::write(room.base().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
        .unwrap();
    std::fs::write(room.base().join("etc/group"), "root:x:0:\napp:x:1001:\nvideo:x:44:app\n").unwrap();
    let mut spec = room
        .spec("busybox id -u; busybox id -g; busybox id -G; echo $HOME; grep Cap /proc/self/status | busybox tail -5");
    spec.user = "app".to_owned();
    let result = run(&spec);
    if mode() == "single" {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NeedsSubordinateIds { .. }), "{error}");
        assert!(error.hint().unwrap().contains("usermod --add-subuids"));
        return;
    }
    let text = result.unwrap().success();
    assert!(text.starts_with("1000\n1001\n1001 44\n/home/app\n"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    spec.rootfs = room.rootfs();
    spec.user = "1234:99".to_owned();
    spec.additional_groups = vec!["video".to_owned()];
    assert!(run(&spec).unwrap().success().starts_with("1234\n99\n99 44\n/\n"));
}

#[test]
fn only_what_the_process_changed_is_in_the_upper_layer() {
    let room = require!(ok Room::new());
    for name in ["proc", "sys", "dev", "etc/hosts", "etc/resolv.conf"] {
        let path = room.base().join(name);
        let _ = std::fs::remove_dir(&path).or_else(|_| std::fs::remove_file(&path));
    }
    let mut spec = room.spec("echo new > /new; ls /mounted/here/file /proc/1 >/dev/null");
    spec.mounts = vec![Mount {
        target: "/mounted/here/file".to_owned(),
        kind: MountKind::File { content: b"x".to_vec(), mode: 0o400, user: 0, group: 0, read_only: true },
    }];
    run(&spec).unwrap().success();
    let names: Vec<_> = std::fs::read_dir(room.upper()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["new"]);
}

#[test]
fn mount_points_in_a_plain_folder_are_removed_unless_used() {
    let room = require!(ok Room::new());
    let folder = room.base().join("etc");
    let before = std::fs::metadata(&folder).unwrap().modified().unwrap();
    for name in ["hosts", "resolv.conf"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let used = room.path().join("source");
    std::fs::create_dir(&used).unwrap();
    let mut spec = room.spec("echo 1 > /data/below/x; touch /kept");
    spec.rootfs = RootFs::Directory(room.base().to_owned());
    let bind = |target: &str| Mount {
        target: target.to_owned(),
        kind: MountKind::Bind {
            source: RootFs::Directory(used.clone()),
            subpath: None,
            read_only: false,
            recursive: false,
        },
    };
    spec.mounts = vec![bind("/data/below")];
    run(&spec).unwrap().success();
    assert_eq!(std::fs::read_to_string(used.join("x")).unwrap(), "1\n");
    assert!(!room.base().join("data").exists() && room.base().join("kept").exists());
    assert!(!folder.join("hosts").exists());
    let _ = before;
}

#[test]
fn mounts_of_every_kind() {
    let room = require!(ok Room::new());
    let tree = room.path().join("tree");
    std::fs::create_dir_all(tree.join("inner")).unwrap();
    std::fs::write(tree.join("inner/file"), "content").unwrap();
    let layer = room.path().join("layer");
    std::fs::create_dir_all(layer.join("inner")).unwrap();
    std::fs::write(layer.join("inner/other"), "other").unwrap();
    let bind = |source: RootFs, subpath: Option<&str>, read_only| MountKind::Bind {
        source,
        subpath: subpath.map(str::to_owned),
        read_only,
        recursive: false,
    };
    let mut spec = room.spec(
        "cat /a/inner/file /b/file /c/inner/other /c/inner/file /d/other /secret; echo; \
         touch /a/x 2>/dev/null && echo written; touch /b/y && echo written; touch /c/z 2>/dev/null && echo written; \
         busybox stat -c %a /secret /t; busybox df -k /t | busybox tail -1 | busybox awk '{print $2}'",
    );
    let stack = RootFs::Layers { lowers: vec![layer.clone(), tree.clone()] };
    let mounts = [
        ("/a", bind(RootFs::Directory(tree.clone()), None, true)),
        ("/b", bind(RootFs::Directory(tree.clone()), Some("inner"), false)),
        ("/c", bind(stack.clone(), None, true)),
        ("/d", bind(stack, Some("/inner"), true)),
        ("/secret", MountKind::File { content: b"s3cret".to_vec(), mode: 0o400, user: 0, group: 0, read_only: true }),
        ("/t", MountKind::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 }),
    ];
    spec.mounts = mounts.into_iter().map(|(target, kind)| Mount { target: target.to_owned(), kind }).collect();
    let text = run(&spec).unwrap().success();
    assert_eq!(text, "contentcontentothercontentothers3cret\nwritten\n400\n1777\n1024\n");
    assert!(tree.join("inner/y").exists());
}

#[test]
fn merged_trees_are_read_without_a_name() {
    let room = require!(ok Room::new());
    let folder = mount_detached(&room.rootfs()).unwrap();
    let mut text = String::new();
    let path = format!("/proc/self/fd/{}/etc/passwd", std::os::fd::AsRawFd::as_raw_fd(&folder));
    std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("root"));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&room.path().display().to_string()));
}

#[test]
fn a_terminal_is_the_containers_own() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("busybox tty; busybox stty size; echo typed: $(busybox head -n1); test -t 2 && test -c /dev/console && echo both");
    spec.terminal = Some((33, 77));
    let process = sandbox().spawn(&spec).unwrap();
    let mut terminal = process.terminal.as_ref().unwrap();
    terminal.write_all(b"words\n").unwrap();
    let mut text = Vec::new();
    // Reading ends with an error when the last user of the other side is gone.
    let _ = terminal.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    assert!(process.wait().unwrap().success(), "{text}");
    for expected in ["/dev/pts/0\n", "33 77\n", "typed: words\n", "both\n"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    process.resize(10, 20).unwrap();
}

#[test]
fn a_read_only_root_and_an_insecure_process() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("touch /x 2>/dev/null || echo read-only");
    spec.read_only_rootfs = true;
    assert_eq!(run(&spec).unwrap().success(), "read-only\n");
    let mut spec = room.spec("busybox mount -t tmpfs none /tmp && grep Seccomp: /proc/self/status");
    spec.security = Security::Insecure;
    assert_eq!(run(&spec).unwrap().success(), "Seccomp:\t0\n");
}

#[test]
fn limits_hold() {
    let room = require!(ok Room::new());
    let mut spec =
        room.spec("ulimit -n; ulimit -c; busybox df -k /dev/shm | busybox tail -1 | busybox awk '{print $2}'");
    let limit = |name: &str, soft, hard| ResourceLimit { name: name.to_owned(), soft, hard };
    spec.resource_limits = vec![limit("nofile", 123, 456), limit("core", 0, 0)];
    spec.shm_size_bytes = 4 << 20;
    assert_eq!(run(&spec).unwrap().success(), "123\n0\n4096\n");
    spec.resource_limits = vec![limit("none", 1, 1)];
    assert!(matches!(run(&spec), Err(Error::Invalid(_))));
}

#[test]
fn many_at_once() {
    let room = Arc::new(require!(ok Room::new()));
    let sandbox = sandbox();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (sandbox, room) = (sandbox.clone(), Arc::clone(&room));
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let args = ["/bin/busybox", "echo", &number.to_string()].map(str::to_owned).to_vec();
                    let mut spec = ProcessSpec::new(RootFs::Directory(room.base().to_owned()), args);
                    spec.stderr = Stdio::Null;
                    assert_eq!(finish(sandbox.spawn(&spec).unwrap()).unwrap().success(), format!("{number}\n"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
