//! Docker's flags that loosen or tighten a container, and what each does here.

use crate::hostile_steps::{Victim, as_both_users};
use crate::support::said;

as_both_users! {
    devices_are_given_one_by_one => devices;
    security_options_change_one_thing_each => security_options;
    limits_of_a_process_are_those_asked_for => limits;
    every_flag_is_honoured_noted_or_refused_by_name => flags;
}

fn run(victim: &Victim, flags: &str, script: &str) -> onetag_testkit::Finished {
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(flags.split_whitespace());
    arguments.extend([victim.base.as_str(), "sh", "-c", script]);
    victim.world.onetag.run(arguments)
}

fn devices(victim: &Victim) {
    let read = "head -c 2 /dev/given | wc -c";
    assert_eq!(run(victim, "--device /dev/zero:/dev/given", read).success().text(), "2\n");
    assert_eq!(run(victim, "--device /dev/zero:/dev/given:rwm", read).success().text(), "2\n");
    assert_eq!(run(victim, "--device /dev/zero:/elsewhere/given", "head -c 2 /elsewhere/given | wc -c").text(), "2\n");
    // A bind shows the node, which does nothing.
    assert_eq!(run(victim, "-v /dev/zero:/dev/given", "head -c 2 /dev/given 2>/dev/null | wc -c").text(), "0\n");
    run(victim, "--device /dev/zero:/dev/given:r", read).code(125).says("permissions r").says("hint: ");
    run(victim, "--device vendor.com/class=name", read).code(125).says("CDI").says("hint: --device /dev/NAME");
    run(victim, "--device /dev/no-such-device", read).code(125).says("/dev/no-such-device");
    run(victim, "--device /etc:/dev/given", read).code(125).says("/etc is not a device node");
    run(victim, "--gpus all", read).code(125).says("GPUs");
}

fn security_options(victim: &Victim) {
    let show = "grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status; head -c 1 /proc/keys | wc -c; \
                (echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo written; true";
    let said = |flags: &str| {
        let finished = run(victim, flags, show).success();
        finished.text().split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let capabilities = "CapBnd: 00000000a80425fb";
    assert_eq!(said(""), format!("{capabilities} NoNewPrivs: 0 Seccomp: 2 0"));
    assert_eq!(said("--security-opt no-new-privileges"), format!("{capabilities} NoNewPrivs: 1 Seccomp: 2 0"));
    assert_eq!(said("--security-opt seccomp=unconfined"), format!("{capabilities} NoNewPrivs: 0 Seccomp: 0 0"));
    let shown = said("--security-opt systempaths=unconfined");
    assert!(shown.starts_with(&format!("{capabilities} NoNewPrivs: 0 Seccomp: 2")), "{shown}");
    assert!(!shown.contains("written"), "{shown}");
    assert_eq!(said("--security-opt apparmor=unconfined --security-opt seccomp=builtin"), said(""));
    assert!(said("--cap-drop ALL --cap-add NET_RAW").contains("CapBnd: 0000000000002000"));
    run(victim, "--security-opt seccomp=/profile.json", "").code(125).says("seccomp=/profile.json").says("hint: ");
    run(victim, "--security-opt apparmor=docker-default", "").code(125).says("AppArmor");
    run(victim, "--security-opt writable-cgroups", "").code(125).says("hint: options are");
    run(victim, "--cap-add NO_SUCH", "").code(125).says("NO_SUCH");
}

fn limits(victim: &Victim) {
    let show = "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1 | awk '{print $2}'";
    let given = "--ulimit nofile=100:200 --shm-size 8m";
    assert_eq!(run(victim, given, show).success().text(), "100\n200\n8192\n");
    run(victim, "--ulimit nofile=200:100", show).code(125).says("200 > 100");
    let onetag = &victim.world.onetag;
    let folder = onetag.file("limited/Dockerfile", format!("FROM {}\nRUN {show}\n", victim.base));
    let folder = folder.parent().expect("in a folder").display().to_string();
    let built = onetag.ok(&format!("build --progress plain --network none {given} {folder}"));
    for line in ["100", "200", "8192"] {
        assert_eq!(said(&built, line), 1, "{built}");
    }
}

fn flags(victim: &Victim) {
    for flag in [
        "--privileged",
        "--userns host",
        "--userns=",
        "--pid host",
        "--ipc private",
        "--ipc host",
        "--cgroupns private",
        "--cgroupns host",
        "--uts host",
        "--cgroup-parent x",
        "--device-cgroup-rule a",
        "--group-add 0",
        "--cap-add ALL",
        "--cap-drop all",
        "--runtime runc",
        "--isolation default",
        "--sysctl a=b",
        "--storage-opt size=1",
        "--oom-kill-disable",
        "--oom-score-adj 5",
        "--security-opt label=disable",
        "--security-opt label:type:x",
        "--annotation a=b",
        "--link-local-ip 1.2.3.4",
        "--gpus 1",
        "--device-read-bps /dev/zero:1",
        "--kernel-memory 1",
        "--volumes-from x",
        "--privileged=false",
    ] {
        let finished = run(victim, flag, "true");
        assert!(!finished.stderr.contains("unexpected argument"), "{finished}");
        match finished.status.code() {
            Some(0) => {}
            // What is refused is named, with what to do instead.
            Some(125) => {
                let name = flag.split([' ', '=']).next().unwrap();
                assert!(
                    finished.stderr.contains(&format!("error: {name}")) && finished.stderr.contains("hint: "),
                    "{finished}"
                );
            }
            _ => panic!("{finished}"),
        }
    }
    let context = victim.world.context("flags", "FROM scratch\nCOPY Dockerfile /\n", &[]);
    for flag in [
        "--privileged",
        "--security-opt seccomp=unconfined",
        "--cap-add ALL",
        "--cap-drop ALL",
        "--device /dev/fuse",
        "--userns host",
        "--pid host",
        "--ipc host",
        "--uts host",
        "--cgroupns host",
        "--runtime crun",
        "--isolation default",
        "--memory 1g",
        "--cpu-quota 5",
        "--cgroup-parent x",
        "--volume /a:/b",
        "-v /a:/b",
        "--ulimit nofile=5",
        "--shm-size 1m",
    ] {
        let finished = victim.world.onetag.line(&format!("build --progress plain {flag} {context}"));
        assert!(!finished.stderr.contains("unexpected argument"), "{finished}");
        let is_refused = finished.stderr.contains("is not supported") && finished.stderr.contains("hint: ");
        assert!(finished.status.success() || is_refused, "{finished}");
    }
    let device =
        victim.world.context("device", &format!("FROM {}\nRUN --device=vendor.com/a true\n", victim.base), &[]);
    victim
        .world
        .onetag
        .line(&format!("build --progress plain {device}"))
        .failure()
        .says("RUN --device is not supported");
}
