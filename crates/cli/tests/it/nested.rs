//! The binary in a container, which denies it what Docker's does: the same capabilities, filter and hidden paths.

use std::path::Path;

use onetag_testkit::Finished;

use crate::hostile_steps::{Victim, as_both_users};
use crate::support::{machine, native_and_foreign};

as_both_users! {
    the_doctor_names_what_a_container_must_be_given => doctor;
    what_it_names_is_enough => enough;
}

const OPTIONS: &str = "--security-opt seccomp=unconfined --security-opt systempaths=unconfined";

/// Runs a script in a container that shows the binary, the host's libraries and the fixtures, and has what `flags` give it.
fn inside(victim: &Victim, flags: &str, script: &str) -> Finished {
    let onetag = &victim.world.onetag;
    let staged = onetag.binary().parent().expect("in a folder").display().to_string();
    let mut arguments: Vec<String> =
        ["run", "--rm", "--network", "host", "--tmpfs", "/store"].map(str::to_owned).into();
    arguments.extend(flags.split_whitespace().map(str::to_owned));
    let libraries =
        ["/usr", "/lib", "/lib64"].into_iter().filter_map(|path| Some((path, Path::new(path).canonicalize().ok()?)));
    for (target, source) in libraries {
        arguments.extend(["-v".to_owned(), format!("{}:{target}:ro", source.display())]);
    }
    arguments.extend(["-v".to_owned(), format!("{staged}:/staged:ro")]);
    for variable in ["ONETAG_ROOT=/store", "ONETAG_EMULATORS=/staged/fixtures/qemu/bin", "PATH=/bin:/staged"] {
        arguments.extend(["-e".to_owned(), variable.to_owned()]);
    }
    arguments.extend([&victim.base, "/bin/busybox", "sh", "-c", script].map(String::from));
    onetag.run(arguments)
}

/// A flag that shows an empty file where a runtime marks its containers.
fn marked(victim: &Victim, path: &str) -> String {
    format!("-v {}:{path}:ro", victim.world.onetag.file("mark", "").display())
}

fn doctor(victim: &Victim) {
    let denied = |flags: &str| inside(victim, flags, "onetag doctor").code(1).says("this host cannot execute images");
    let docker = denied(&marked(victim, "/.dockerenv"));
    assert!(docker.text().contains("inside a container of Docker"), "{docker}");
    docker.says(
        "hint: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
         --security-opt systempaths=unconfined",
    );
    let podman = denied(&marked(victim, "/run/.containerenv"));
    assert!(podman.text().contains("inside a container of podman"), "{podman}");
    let pod = denied(&marked(victim, "/var/run/secrets/kubernetes.io/mark"));
    assert!(pod.text().contains("inside a container of Kubernetes"), "{pod}");
    pod.says("hint: securityContext: {procMount: Unmasked").says("hostUsers: false");
    // The filter alone is not enough: hidden parts of /proc keep a new one from being mounted.
    denied("--security-opt seccomp=unconfined").says("systempaths=unconfined");
}

fn enough(victim: &Victim) {
    let (_, foreign) = native_and_foreign();
    let archive = format!("/staged/fixtures/rootfs/{}.tar", foreign.trim_start_matches("linux/"));
    let mark = marked(victim, "/.dockerenv");
    let script = format!(
        "onetag doctor && onetag import --platform {foreign} {archive} base && \
         onetag run --rm --platform {foreign} base uname -m"
    );
    let well = inside(victim, &format!("{mark} {OPTIONS}"), &script).success();
    let lines: Vec<Vec<&str>> = well.text().lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert!(lines.iter().any(|line| line.starts_with(&["sandbox", "ok"])), "{well}");
    assert!(lines.iter().any(|line| line.starts_with(&[foreign, "ok", "emulated"])), "{well}");
    assert_eq!(well.text().lines().last(), Some(machine(foreign)), "{well}");
    // What is missing of a network is a device that the container can be given.
    well.says("hint: docker run --device /dev/net/tun");
}
