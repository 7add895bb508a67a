//! What a hostile image or step may try.

use std::os::unix::fs::{PermissionsExt, symlink};

use onetag_sandbox::{Error, Mount, MountKind, ProcessSpec, RootFs, Security};
use onetag_testkit::require;

use crate::support::{Ran, Room, mode, run, sandbox};

/// Runs each line on its own and gives those that succeeded.
fn successes(room: &Room, lines: &[&str]) -> Vec<String> {
    let script: String = lines.iter().map(|line| format!("({line}) >/dev/null 2>&1 && echo '{line}'\n")).collect();
    let script = format!("{script}\ntrue");
    room.run(&script).success().lines().map(str::to_owned).collect()
}

#[test]
fn the_hosts_settings_cannot_be_written() {
    let room = require!(ok Room::new());
    let none: [&str; 0] = [];
    let attempts = [
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/cgroup/mine",
        "echo 1 > /sys/kernel/mm/ksm/run",
        "busybox mount -o remount,rw /sys",
        "busybox mount -o remount,rw /proc/sys",
        "busybox umount /proc/sys",
        "busybox umount /proc/acpi",
        "busybox mount -t proc none /tmp",
        "busybox mount -t tmpfs none /tmp",
        "busybox mount --bind / /tmp",
        "busybox hostname owned",
        "busybox swapoff -a",
        "busybox date -s 2001-01-01; [ $(busybox date +%Y) = 2001 ]",
        "busybox insmod /bin/busybox",
        "busybox dmesg",
        "busybox unshare -m true",
        "busybox unshare -U true",
        "busybox nsenter -t 1 -m true",
        "cat /proc/kcore | busybox head -c1 | grep .",
        "cat /proc/timer_list | grep .",
        "ls /sys/firmware/* ",
        "ls /proc/acpi/* ",
    ];
    assert_eq!(successes(&room, &attempts), none);
}

#[test]
fn devices_of_the_host_stay_out_of_reach() {
    let room = require!(ok Room::new());
    // Even a harmless device does not work anywhere but where we put it.
    let attempts = [
        "busybox mknod /tmp/zero c 1 5 && busybox head -c1 /tmp/zero",
        "busybox mknod /dev/zero2 c 1 5 && busybox head -c1 /dev/zero2",
        "busybox mknod /dev/shm/zero c 1 5 && busybox head -c1 /dev/shm/zero",
        "busybox mknod /in-the-layer c 1 5 && busybox head -c1 /in-the-layer",
        "busybox mknod /dev/mem c 1 1 && busybox head -c1 /dev/mem",
        "busybox mknod /dev/disk b 254 0 && busybox head -c4096 /dev/disk",
        "busybox mknod /tmp/disk b 8 0 && busybox head -c4096 /tmp/disk",
    ];
    assert_eq!(
        room.run("busybox head -c2 /dev/zero | busybox wc -c; echo x > /dev/null && echo fine").success(),
        "2\nfine\n"
    );
    let none: [&str; 0] = [];
    assert_eq!(successes(&room, &attempts), none);
    assert_eq!(
        room.run("ls /dev").success().split_whitespace().count(),
        15,
        "null, zero and the like; links; pts, shm, mqueue"
    );
}

#[test]
fn no_descriptor_and_no_file_of_the_host_leaks() {
    let room = require!(ok Room::new());
    // An open folder of the host that survives exec, as a careless program may have it.
    let host = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&host, rustix::io::FdFlags::empty()).unwrap();
    let text = room.run("ls -l /proc/self/fd | busybox awk 'NF > 8 {print $9}'").success();
    assert_eq!(text, "0\n1\n2\n3\n", "3 is the listed folder itself");
    for descriptor in 3..20 {
        let mut spec = room.spec("pwd; ls");
        spec.cwd = format!("/proc/self/fd/{descriptor}");
        match run(&spec) {
            Err(Error::Setup { .. } | Error::Invalid(_)) => {}
            other => panic!("{descriptor}: {other:?}"),
        }
    }
    // The init's own descriptors, memory and program are closed to the container.
    let attempts = [
        "ls /proc/1/fd/0",
        "cat /proc/1/environ | grep .",
        "cat /proc/1/exe",
        "cat /proc/1/mem",
        "ls /proc/1/root/",
        "ls /proc/1/cwd/",
    ];
    let none: [&str; 0] = [];
    assert_eq!(successes(&room, &attempts), none);
}

#[test]
fn our_own_program_cannot_be_overwritten() {
    let room = require!(ok Room::new());
    let before = std::fs::metadata("/proc/self/exe").unwrap().modified().unwrap();
    // A script whose interpreter is the program that executes it: the kernel then runs our own program inside.
    let script = room.base().join("again");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut spec = room.spec("");
    spec.args = vec!["/again".to_owned()];
    let _ = run(&spec);
    let ran = room.run("for p in /proc/[0-9]*; do (echo x > $p/exe) 2>/dev/null && echo $p; done; true");
    // The shell may find its own program, which is the image's.
    assert!(!ran.success().contains("/proc/1\n"));
    assert_eq!(std::fs::metadata("/proc/self/exe").unwrap().modified().unwrap(), before);
}

#[test]
fn symbolic_links_of_the_image_lead_nowhere_else() {
    let room = require!(ok Room::new());
    let outside = room.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, room.base().join("absolute")).unwrap();
    symlink("../../../../../../../../../../..", room.base().join("up")).unwrap();
    let mount =
        |target: &str| Mount { target: target.to_owned(), kind: MountKind::Tmpfs { size_bytes: None, mode: 0o755 } };
    let inside = format!("/up{}/below", outside.display());
    for target in ["/absolute/below", inside.as_str(), "/../../../../../below", "/up/up/below"] {
        let mut spec = room.spec("cat /proc/mounts | grep -c below");
        spec.mounts = vec![mount(target)];
        // The mount is inside or it is refused; a dangling link is refused.
        if let Ok(ran) = run(&spec) {
            assert_eq!(ran.stdout, "1\n", "{target}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{target}");
    }
    // The usual mount points must be real folders.
    for name in ["proc", "sys", "dev"] {
        let folder = room.base().join(name);
        let _ = std::fs::remove_dir(&folder);
        symlink("/tmp", &folder).unwrap();
        assert!(matches!(run(&room.spec("true")), Err(Error::Setup { .. })), "{name}");
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
    }
}

#[test]
fn a_mounts_subpath_stays_inside_its_source() {
    let room = require!(ok Room::new());
    let (tree, secret) = (room.path().join("tree"), room.path().join("secret"));
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("file"), "secret").unwrap();
    symlink(&secret, tree.join("absolute")).unwrap();
    symlink("../secret", tree.join("relative")).unwrap();
    for subpath in ["absolute", "relative", "../secret", "/../secret", "absolute/file"] {
        for source in
            [RootFs::Directory(tree.clone()), RootFs::Layers { lowers: vec![tree.clone(), room.base().to_owned()] }]
        {
            let mut spec = room.spec("cat /m /m/file 2>/dev/null; true");
            let kind = MountKind::Bind { source, subpath: Some(subpath.to_owned()), read_only: true, recursive: false };
            spec.mounts = vec![Mount { target: "/m".to_owned(), kind }];
            if let Ok(Ran { stdout, .. }) = run(&spec) {
                assert_eq!(stdout, "", "{subpath}");
            }
        }
    }
}

#[test]
fn a_subpath_that_is_swapped_meanwhile_stays_inside() {
    let room = require!(ok Room::new());
    let (tree, secret) = (room.path().join("tree"), room.path().join("secret"));
    std::fs::create_dir_all(tree.join("inner")).unwrap();
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("file"), "secret").unwrap();
    symlink(&secret, tree.join("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = renameat_with(CWD, tree.join("inner"), CWD, tree.join("link"), RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..30 {
            let mut spec = room.spec("cat /m/file 2>/dev/null; true");
            let source = RootFs::Directory(tree.clone());
            let kind = MountKind::Bind { source, subpath: Some("inner".to_owned()), read_only: true, recursive: false };
            spec.mounts = vec![Mount { target: "/m".to_owned(), kind }];
            if let Ok(Ran { stdout, .. }) = run(&spec) {
                assert_eq!(stdout, "");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn secrets_of_one_process_are_not_in_another() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("cat /run/secrets/token; busybox touch /run/secrets/other 2>/dev/null; true");
    let kind = MountKind::File { content: b"hidden".to_vec(), mode: 0o400, user: 0, group: 0, read_only: true };
    spec.mounts = vec![Mount { target: "/run/secrets/token".to_owned(), kind }];
    let first = sandbox().spawn(&spec).unwrap();
    let text = room_grep(&room, "hidden");
    assert_eq!(crate::support::finish(first).unwrap().success(), "hidden");
    assert_eq!(text, "");
    // Not on disk either.
    let found = onetag_testkit::host::files_below(room.path(), &|path| {
        std::fs::read(path).is_ok_and(|bytes| bytes == b"hidden")
    });
    assert_eq!(found, Vec::<std::path::PathBuf>::new());
}

/// What another process in the same image finds.
fn room_grep(room: &Room, word: &str) -> String {
    let args = ["/bin/busybox", "sh", "-c", &format!("busybox grep -rl {word} /run /tmp /dev/shm 2>/dev/null; true")];
    let mut spec = ProcessSpec::new(RootFs::Directory(room.base().to_owned()), args.map(str::to_owned).to_vec());
    spec.env = vec!["PATH=/bin".to_owned()];
    run(&spec).unwrap().success()
}

#[test]
fn a_process_ends_with_its_step() {
    let room = require!(ok Room::new());
    let marker = format!("{}", 100_000 + std::process::id());
    room.run(&format!("busybox setsid busybox sleep {marker} >/dev/null 2>&1 & sleep 0.1; exit 0")).success();
    let running = onetag_testkit::host::processes_mentioning(std::path::Path::new(&marker));
    assert!(running.is_empty(), "{running:?}");
}

#[test]
fn identities_beyond_the_last_one_are_refused() {
    let room = require!(ok Room::new());
    for user in ["2147483648", "4294967295", "4294967296", "0:2147483648", "99999999999999999999"] {
        let mut spec = room.spec("id");
        spec.user = user.to_owned();
        assert!(matches!(run(&spec), Err(Error::User(_))), "{user}");
    }
    // Entries with such numbers are not entries.
    std::fs::write(
        room.base().join("etc/passwd"),
        "root:x:4294967296:0::/root:/bin/sh\nbig:x:2147483648:0::/:/bin/sh\n",
    )
    .unwrap();
    assert_eq!(room.run("busybox id -u").success(), "0\n");
    let mut spec = room.spec("id");
    spec.user = "big".to_owned();
    assert!(matches!(run(&spec), Err(Error::User(_))));
}

#[test]
fn giant_and_odd_user_files_do_no_harm() {
    let room = require!(ok Room::new());
    for name in ["passwd", "group"] {
        let file = std::fs::File::create(room.base().join("etc").join(name)).unwrap();
        file.set_len(1 << 30).unwrap();
    }
    let begin = std::time::Instant::now();
    let mut spec = room.spec("");
    spec.args = vec!["/bin/busybox".to_owned(), "true".to_owned()];
    assert!(run(&spec).unwrap().status.success());
    spec.user = "app".to_owned();
    spec.rootfs = room.rootfs();
    assert!(matches!(run(&spec), Err(Error::User(_))));
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    let path = room.base().join("etc/passwd");
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(room.base().join("etc/group")).unwrap();
    // A pipe that nobody writes to, and a link out of the image.
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    spec.user.clear();
    spec.rootfs = room.rootfs();
    assert!(run(&spec).unwrap().status.success());
    std::fs::remove_file(&path).unwrap();
    symlink("/proc/self/environ", &path).unwrap();
    assert_eq!(room.run("busybox id -u").success(), "0\n");
}

#[test]
fn the_terminal_of_the_caller_is_not_the_containers() {
    let room = require!(ok Room::new());
    // Without a controlling terminal /dev/tty is nothing.
    assert_ne!(room.run("echo x > /dev/tty").status.exit_code(), 0);
}

#[test]
fn only_an_insecure_process_has_all_rights() {
    let room = require!(ok Room::new());
    let mut spec = room.spec("grep CapBnd /proc/self/status");
    assert_eq!(run(&spec).unwrap().success(), "CapBnd:\t00000000a80425fb\n");
    spec.rootfs = room.rootfs();
    spec.security = Security::Insecure;
    assert_ne!(run(&spec).unwrap().success(), "CapBnd:\t00000000a80425fb\n");
    let mut spec = room.spec("busybox chown 1:1 /etc/passwd");
    spec.capabilities.drop = vec!["ALL".to_owned()];
    assert!(!run(&spec).unwrap().status.success());
    let _ = mode();
}

#[test]
fn programs_that_gain_rights_may_and_may_not() {
    let room = require!(ok Room::new());
    if mode() == "single" {
        return;
    }
    let copy = room.base().join("bin/as-root");
    std::fs::copy(room.base().join("bin/busybox"), &copy).unwrap();
    // Busybox drops rights for applets that do not need them; `su` does.
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).unwrap();
    let script = "/bin/as-root su -c 'busybox id -u' root";
    let mut spec = room.spec(script);
    spec.user = "1000".to_owned();
    std::fs::write(room.base().join("etc/passwd"), "root::0:0::/root:/bin/sh\napp::1000:1000::/:/bin/sh\n").unwrap();
    let allowed = run(&spec).unwrap();
    spec.rootfs = room.rootfs();
    spec.no_new_privileges = true;
    let refused = run(&spec).unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(allowed.stdout.contains('0') || !allowed.status.success(), "{allowed:?}");
}
