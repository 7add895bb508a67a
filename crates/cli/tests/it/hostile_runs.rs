//! What the author of an image may try against the host of who runs it; as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use onetag_testkit::fixture;
use onetag_testkit::host::{HostState, processes_mentioning};
use onetag_testkit::{Finished, Running, require};
use serde_json::{Value, json};

use crate::crafted::{Layout, layer};
use crate::hostile_steps::{Victim, as_both_users};
use crate::support::native_and_foreign;

const LIMIT: Duration = Duration::from_secs(60);

as_both_users! {
    descriptors_that_leaked_lead_nowhere => leaked_descriptors;
    the_host_cannot_be_written_or_read => settings_and_files;
    mounts_stay_inside => mounts;
    configuration_steers_nothing => configuration;
    folders_that_are_links_are_refused => linked_folders;
    processes_end_with_their_container => processes_that_stay;
    a_fork_bomb_ends_at_its_limit => fork_bomb;
    memory_ends_at_its_limit => memory;
}

/// Runs `onetag run --rm` with these flags and a script in the base.
fn run(victim: &Victim, flags: &[&str], script: &str) -> Finished {
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(flags);
    arguments.extend([victim.base.as_str(), "sh", "-c", script]);
    let finished = victim.world.onetag.run(arguments);
    victim.is_unharmed(&finished);
    finished
}

fn leaked_descriptors(victim: &Victim) {
    for descriptor in 3..14 {
        let mut command = victim.world.onetag.program("/bin/sh");
        command.args(["-c", "exec 7<\"$0\" 9<\"$0/..\"; exec \"$@\"", &victim.outside]);
        command.arg(victim.world.onetag.binary()).args(["run", "--rm", "-w", &format!("/proc/self/fd/{descriptor}")]);
        command.args([&victim.base, "sh", "-c", "pwd; ls; cat marked ../marked ./outside/marked"]);
        let finished = Running::start(&mut command).finish(LIMIT);
        victim.is_unharmed(&finished);
        assert!(!finished.status.success(), "{finished}");
    }
    assert_eq!(run(victim, &[], "ls /proc/self/fd").success().text(), "0\n1\n2\n3\n", "3 is the listed folder");
}

fn settings_and_files(victim: &Victim) {
    let (outside, root) = (&victim.outside, victim.world.onetag.root());
    let attempts = [
        "echo 1 > /proc/sys/kernel/panic".to_owned(),
        "echo b > /proc/sysrq-trigger".to_owned(),
        "echo x > /sys/kernel/uevent_helper".to_owned(),
        "mkdir /sys/fs/cgroup/mine".to_owned(),
        "mount -o remount,rw /sys".to_owned(),
        "mount -o remount,rw /proc/sys".to_owned(),
        "umount /proc/sys".to_owned(),
        "umount /proc/kcore".to_owned(),
        "mount -t proc none /tmp".to_owned(),
        "unshare -U true".to_owned(),
        "unshare -m true".to_owned(),
        "nsenter -t 1 -m true".to_owned(),
        "hostname owned".to_owned(),
        "chroot /proc/1/root ls".to_owned(),
        format!("cat /proc/1/root{outside}/marked"),
        format!("ls {}", root.display()),
        "head -c 1 /proc/kcore | grep .".to_owned(),
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem".to_owned(),
        "mknod /dev/disk b 8 0 && head -c 1 /dev/disk".to_owned(),
    ];
    let script: String =
        attempts.iter().map(|line| format!("({line}) >/dev/null 2>&1 && echo 'done: {line}'\n")).collect();
    // As pid 1 itself and below an init; with every capability that may be had.
    for flags in [&[][..], &["--init"], &["--security-opt", "no-new-privileges"]] {
        let finished = run(victim, flags, &format!("{script}true")).success();
        let expected = if flags.is_empty() || flags[0] != "--init" { "done: chroot /proc/1/root ls\n" } else { "" };
        assert_eq!(finished.text(), expected, "{flags:?}");
    }
}

/// Targets through links of the image's, and mount points in a folder of the user's.
fn mounts(victim: &Victim) {
    let outside = &victim.outside;
    let context = victim.world.context(
        "links",
        &format!("FROM {}\nRUN ln -s {outside} /absolute && ln -s ../../../../../../.. /up\n", victim.base),
        &[],
    );
    victim.world.onetag.ok(&format!("build --network none --load -t links:1 {context}"));
    let own = victim.world.onetag.file("links/file", "of the user").parent().unwrap().to_owned();
    let bind = format!("{}:", own.display());
    for target in ["/absolute/new".to_owned(), format!("/up{outside}/new"), format!("/../../../..{outside}/new")] {
        for flags in [["--tmpfs".to_owned(), target.clone()], ["-v".to_owned(), format!("{bind}{target}")]] {
            let line = ["run", "--rm", &flags[0], &flags[1], "links:1", "touch", "/up/written"];
            victim.is_unharmed(&victim.world.onetag.run(line));
        }
    }
    for init in [false, true] {
        mount_points(victim, init);
    }
}

/// What was made to mount on goes, also when it was moved; what was there stays, the container's files as well.
fn mount_points(victim: &Victim, init: bool) {
    let name = format!("own-{init}");
    let own = victim.world.onetag.file(&format!("{name}/file"), "of the user").parent().unwrap().to_owned();
    fs::create_dir(own.join("empty")).unwrap();
    fs::write(own.join("empty-file"), "").unwrap();
    victim.world.onetag.user().own_tree(&own);
    let bind = format!("{}:", own.display());
    let before = fs::metadata(own.join("empty")).unwrap().ino();
    let flags = format!("{bind}/data");
    let secret = victim.world.onetag.file("secret", "word");
    let file = format!("{}:/data/empty-file", secret.display());
    let flags = [
        "-v",
        &flags,
        "--tmpfs",
        "/data/empty",
        "--tmpfs",
        "/data/made/deep",
        "--tmpfs",
        "/data/used/deep",
        "-v",
        &file,
    ];
    let script = "echo 1 > /data/empty/1; echo 2 > /data/used/2; rm -rf /data/empty-file; mv /data/made /data/moved; \
                  mkdir -p /data/made/deep; echo 3 > /data/made/3; true";
    let first: &[&str] = if init { &["--init"] } else { &[] };
    run(victim, &[first, &flags[..]].concat(), script).success();
    let below = |name: &str| {
        let mut names: Vec<_> = fs::read_dir(own.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(fs::metadata(own.join("empty")).unwrap().ino(), before);
    assert!(below("empty").is_empty());
    assert_eq!(fs::metadata(own.join("empty-file")).unwrap().len(), 0);
    assert_eq!((below("used"), below("made")), (vec!["2".to_owned()], vec!["3".to_owned(), "deep".to_owned()]));
    assert_eq!(fs::read_to_string(own.join("file")).unwrap(), "of the user");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "word");
}

/// Documents with members of other tools' and with paths and users that lead elsewhere.
fn configuration(victim: &Victim) {
    let (native, _) = native_and_foreign();
    let rootfs = require!(ok fixture::rootfs(native));
    let outside = &victim.outside;
    let layers = [fs::read(rootfs).unwrap()];
    let program = [
        "/bin/busybox",
        "sh",
        "-c",
        "pwd; id -u; cat marked; touch written; busybox mount -t tmpfs none /tmp && echo mounted; true",
    ];
    let make = |name: &str, change: &dyn Fn(&mut Value)| {
        let layout = Layout::new(&victim.world.onetag, name);
        let descriptor = layout.image_with(native, &program, &layers, |config, _| {
            let mut document = serde_json::to_value(&*config).unwrap();
            change(&mut document);
            *config = serde_json::from_value(document).unwrap();
        });
        let index = layout.index(vec![descriptor]);
        victim.world.onetag.user().own_tree(&victim.world.onetag.work());
        victim.world.onetag.ok(&format!("copy {} store:{name}:1", layout.name(&index)));
        let finished = victim.world.onetag.line(&format!("run --rm {name}:1"));
        victim.is_unharmed(&finished);
        finished
    };
    let other_tools = make("other-tools", &|document| {
        document["config"]["HostConfig"] =
            json!({"Privileged": true, "Binds": [format!("{outside}:/host")], "NetworkMode": "host"});
        document["config"]["Labels"] = json!({"run.oci.hooks.stderr": "x", "io.containers.capabilities": "SYS_ADMIN"});
        document["config"]["Hostname"] = "owned".into();
        document["config"]["Volumes"] = json!({outside.as_str(): {}, "/proc": {}, "/": {}});
        document["config"]["Env"] = json!(["LD_PRELOAD=/evil.so", "ONETAG_EMULATOR=none", "=", "no-equals-sign"]);
        document["mounts"] = json!([{"destination": "/host", "source": "/", "type": "bind"}]);
        document["hooks"] = json!({"prestart": [{"path": "/bin/touch", "args": ["touch", format!("{outside}/hook")]}]});
        document["linux"] = json!({"maskedPaths": [], "readonlyPaths": []});
    });
    assert_eq!(other_tools.success().text(), "/\n0\n");
    for folder in [format!("../../../../..{outside}"), format!("/proc/1/root{outside}"), "/proc/self/root".to_owned()] {
        make("folder", &|document| document["config"]["WorkingDir"] = folder.clone().into());
    }
    for user in ["2147483648", "4294967296", "0:4294967295", "root:nobody-here", "../../etc/passwd"] {
        let finished = make("user", &|document| document["config"]["User"] = user.into());
        finished.code(125).says("error: ");
    }
    make("nul", &|document| document["config"]["Entrypoint"] = json!(["/bin/busybox\0", "sh"])).code(125);
}

fn linked_folders(victim: &Victim) {
    let (native, _) = native_and_foreign();
    let busybox = {
        let tar = victim.world.onetag.work().join("base.tar");
        let folder = victim.world.onetag.work().join("unpacked");
        fs::create_dir(&folder).unwrap();
        let status =
            std::process::Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&folder).arg("./bin/busybox").status();
        assert!(status.unwrap().success());
        fs::read(folder.join("bin/busybox")).unwrap()
    };
    for name in ["proc", "sys", "dev"] {
        let link = format!("->{}", victim.outside);
        let layout = Layout::new(&victim.world.onetag, name);
        let layers = [layer(&[("busybox", &busybox), (name, link.as_bytes())])];
        let index = layout.index(vec![layout.image(native, &["/busybox", "true"], &layers)]);
        victim.world.onetag.user().own_tree(&victim.world.onetag.work());
        victim.world.onetag.ok(&format!("copy {} store:{name}:1", layout.name(&index)));
        let finished = victim.world.onetag.line(&format!("run --rm {name}:1"));
        victim.is_unharmed(&finished);
        finished.code(125).says(&format!("/{name}"));
    }
    // A folder of the user's that is a link is what the user asked for; one below it is not followed out of it.
    let own = victim.world.onetag.file("bound/file", "x").parent().unwrap().to_owned();
    symlink(&victim.outside, own.join("link")).unwrap();
    run(
        victim,
        &["-v", &format!("{}:/data", own.display()), "--tmpfs", "/data/link/new"],
        "cat /data/link/marked; true",
    );
}

fn processes_that_stay(victim: &Victim) {
    let before = HostState::capture(&victim.world.onetag.root());
    for (number, flags) in [&[][..], &["--init"]].into_iter().enumerate() {
        let mark = format!("{}", 600_000 + 10 * std::process::id() + u32::try_from(number).unwrap());
        let script = format!(
            "trap '' TERM HUP; setsid sleep {mark} >/dev/null 2>&1 & (sleep {mark} >/dev/null 2>&1 &); sleep 0.1; echo over"
        );
        assert_eq!(run(victim, flags, &script).success().text(), "over\n");
        let left = processes_mentioning(Path::new(&mark));
        assert!(left.is_empty(), "{left:?}");
    }
    before.assert_unchanged();
}

fn fork_bomb(victim: &Victim) {
    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 0.5; echo over";
    let finished = run(victim, &["--pids-limit", "60"], bomb);
    assert!(finished.text().len() < 100, "{finished}");
    // Whatever became of the shell, the next container starts.
    assert_eq!(run(victim, &["--pids-limit", "60"], "echo fine").success().text(), "fine\n");
}

fn memory(victim: &Victim) {
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let finished = run(victim, &["--memory", "32m"], script);
    match finished.status.code() {
        Some(137) => assert!(finished.stderr.contains("memory"), "{finished}"),
        Some(125) if !victim.world.onetag.user().is_root() => {
            assert!(
                finished.stderr.contains("does not allow limits of memory") && finished.stderr.contains("hint: "),
                "{finished}"
            );
        }
        Some(125) => require!(false, "{}", finished.stderr),
        _ => panic!("{finished}"),
    }
}
