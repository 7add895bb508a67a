//! What the author of a Dockerfile may try against the host that builds it and against other steps; as root and as an ordinary user.

use std::path::Path;
use std::time::Duration;

use onetag_testkit::fixture;
use onetag_testkit::host::{HostState, processes_mentioning};
use onetag_testkit::{Finished, Running};

use crate::support::{World, local_name, native_and_foreign, said};

const LIMIT: Duration = Duration::from_secs(120);
/// In no file but those that no step may read.
const MARK: &str = "only-the-host-may-read-this";

/// A world with the native base in its store, its name, and a folder of the host with a marked file.
pub struct Victim {
    pub world: World,
    pub base: String,
    pub outside: String,
}

impl Victim {
    pub fn new(world: Result<World, String>) -> Result<Victim, String> {
        let world = world?;
        let (native, _) = native_and_foreign();
        let base = local_name(native);
        let rootfs = world.onetag.file("base.tar", std::fs::read(fixture::rootfs(native)?).expect("a fixture"));
        world.onetag.ok(&format!("import --platform {native} {} {base}", rootfs.display()));
        let marked = world.onetag.file("outside/marked", MARK);
        let outside = marked.parent().expect("in a folder").display().to_string();
        Ok(Victim { world, base, outside })
    }

    /// Starts a build of a Dockerfile's lines after `FROM`.
    fn start(&self, name: &str, lines: &str, more: &[&str]) -> Running {
        let context = self.world.context(name, &format!("FROM {}\n{lines}\n", self.base), &[]);
        let mut arguments = vec!["build", "--progress", "plain", "--network", "none"];
        arguments.extend(more);
        arguments.push(&context);
        self.world.onetag.start(arguments)
    }

    fn build(&self, name: &str, lines: &str, more: &[&str]) -> Finished {
        let finished = self.start(name, lines, more).finish(LIMIT);
        self.is_unharmed(&finished);
        finished
    }

    /// Nothing was read from or written to the folder of the host's.
    #[track_caller]
    pub fn is_unharmed(&self, finished: &Finished) {
        assert!(!finished.stderr.contains("panicked at"), "{finished}");
        let told = finished.stderr.contains(MARK) || String::from_utf8_lossy(&finished.stdout).contains(MARK);
        assert!(!told, "the host's file was read\n{finished}");
        let names: Vec<_> = std::fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["marked"], "{finished}");
        assert_eq!(std::fs::read_to_string(Path::new(&self.outside).join("marked")).unwrap(), MARK, "{finished}");
    }
}

/// Defines each attack as a test of both users.
macro_rules! as_both_users {
    ($($name:ident => $attack:ident;)+) => {
        $(mod $name {
            use crate::hostile_steps::Victim;
            use crate::support::World;

            #[test]
            fn as_root() {
                super::$attack(&onetag_testkit::require!(ok Victim::new(World::root())));
            }

            #[test]
            fn as_an_ordinary_user() {
                super::$attack(&onetag_testkit::require!(ok Victim::new(World::ordinary())));
            }
        })+
    };
}
pub(crate) use as_both_users;

as_both_users! {
    descriptors_that_leaked_lead_nowhere => leaked_descriptors;
    links_in_mount_targets_stay_inside => linked_targets;
    a_cache_that_another_step_swaps_stays_inside => swapped_caches;
    what_stands_in_for_proc_and_dev_steers_nothing => stand_ins;
    secrets_stay_in_their_step => secrets_of_another_step;
    the_hosts_files_and_the_store_are_out_of_reach => files_of_the_host;
    processes_end_with_their_step => processes_that_stay;
    mount_points_go_and_nothing_else_does => mount_points;
    identities_without_end_are_refused => identities;
    giant_user_files_are_survived => giant_user_files;
    labels_and_configuration_steer_nothing => steering;
}

/// CVE-2024-21626: a working directory through a descriptor that the builder left open.
fn leaked_descriptors(victim: &Victim) {
    for descriptor in 3..14 {
        let lines =
            format!("WORKDIR /proc/self/fd/{descriptor}\nRUN pwd; ls; cat marked ../marked ./outside/marked; true");
        let context = victim.world.context("leaked", &format!("FROM {}\n{lines}\n", victim.base), &[]);
        let mut command = victim.world.onetag.program("/bin/sh");
        // The caller's own descriptors, as a careless program leaves them open.
        let script = "exec 7<\"$0\" 9<\"$0/..\"; exec \"$@\"";
        command.args(["-c", script, &victim.outside]).arg(victim.world.onetag.binary());
        command.args(["build", "--progress", "plain", "--network", "none", &context]);
        victim.is_unharmed(&Running::start(&mut command).finish(LIMIT));
    }
}

fn linked_targets(victim: &Victim) {
    let outside = &victim.outside;
    let links = format!(
        "RUN ln -s {outside} /absolute && ln -s ../../../../../../../../../../.. /up && ln -s /proc/1/root /init \
         && ln -s /proc/self/fd /descriptors && ln -s /proc/self/root /self"
    );
    let secret = victim.world.onetag.file("secret", "a secret");
    let secret = format!("id=s,src={}", secret.display());
    for target in [
        "/absolute/new",
        &format!("/up{outside}/new"),
        &format!("/init{outside}/new"),
        "/descriptors/3/new",
        "/self/new",
    ] {
        for kind in ["cache", "tmpfs", "secret,id=s", "bind,from=busybox"] {
            let from = victim.base.as_str();
            let kind = kind.replace("from=busybox", &format!("from={from}"));
            let lines = format!("{links}\nRUN --mount=type={kind},target={target} touch {target}/written; true");
            victim.build("links", &lines, &["--secret", &secret]);
        }
    }
}

/// One step exchanges a folder of a cache for a link to the host's, another mounts that folder.
fn swapped_caches(victim: &Victim) {
    let outside = &victim.outside;
    let swap = format!(
        "RUN --mount=type=cache,id=race,target=/c,sharing=shared echo ready; i=0; \
         while [ ! -e /c/stop ] && [ $i -lt 20000 ]; do i=$((i+1)); \
         rm -rf /c/inner; mkdir /c/inner; rm -rf /c/inner; ln -s {outside} /c/inner; done; rm -f /c/stop /c/inner"
    );
    let mut swapping = victim.start("swap", &swap, &[]);
    let mount = "--mount=type=cache,id=race,source=inner,target=/m,sharing=shared";
    for round in 0..8 {
        let lines = format!("RUN {mount} cat /m/marked; touch /m/written; echo {round}");
        victim.build("mount", &lines, &[]);
    }
    let running = swapping.is_running();
    victim.build("stop", "RUN --mount=type=cache,id=race,target=/c,sharing=shared touch /c/stop", &[]);
    let finished = swapping.finish(LIMIT).success();
    assert!(running, "the other step swapped as long as it was mounted\n{finished}");
    victim.is_unharmed(&finished);
}

/// CVE-2019-19921, CVE-2021-30465, CVE-2025-31133, -52565, -52881: what is written and mounted while a container starts goes where the
/// image says.
fn stand_ins(victim: &Victim) {
    let outside = &victim.outside;
    let panic = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    let fake = "RUN mkdir -p /fake/self/attr /fake/self/fd /fake/sys/kernel /fake/acpi /device \
         && for name in exec current fscreate keycreate; do ln -s /proc/sys/kernel/panic /fake/self/attr/$name; done \
         && for name in kcore keys timer_list sysrq-trigger; do ln -s /proc/sys/kernel/panic /fake/$name; done \
         && for name in null zero console tty ptmx; do ln -s /proc/sys/kernel/panic /device/$name; done"
        .to_owned();
    for (target, source) in
        [("/proc", "/fake"), ("/proc/self/attr", "/fake/self/attr"), ("/dev", "/device"), ("/sys", "/fake")]
    {
        let lines = format!(
            "{fake}\nFROM {base}\nRUN --mount=type=bind,from=0,source={source},target={target},rw \
             for file in /proc/kcore /proc/keys /proc/timer_list; do head -c 8 $file 2>/dev/null | grep -q . && echo read $file; done; \
             cat {outside}/marked; echo tried",
            base = victim.base
        );
        let finished = victim.build("stand-in", &lines, &[]);
        assert!(!finished.stderr.contains(" read /proc"), "{finished}");
    }
    // The image's own folders are links.
    for name in ["proc", "dev", "sys"] {
        let lines = format!(
            "FROM scratch\nCOPY --from=0 /bin /bin\nCOPY --from=0 /links/{name} /\nRUN [\"/bin/busybox\", \"touch\", \"/{name}/written\"]"
        );
        let links = format!("RUN mkdir -p /links/{name} && ln -s {outside} /links/{name}/{name}\n{lines}");
        victim.build("links", &links, &[]).failure();
    }
    // Files that the masks cover.
    let masked = "RUN mount 2>/dev/null | grep -q ' /proc/kcore '; umount /proc/kcore; rm -rf /dev/null; ln -s /proc/kcore /dev/null; \
         for file in /proc/kcore /dev/null; do head -c 8 $file 2>/dev/null | grep -q . && echo read $file; done; \
         (echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo wrote; (echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo wrote; true";
    let finished = victim.build("masked", masked, &[]).success();
    assert!(!finished.stderr.contains(" read /") && said(&finished, "wrote") == 0, "{finished}");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").unwrap(), panic);
}

/// Two steps at the same time: one holds a secret, the other looks for it everywhere.
fn secrets_of_another_step(victim: &Victim) {
    let secret = victim.world.onetag.file("secret", "word-of-one-step");
    let secret = format!("id=s,src={}", secret.display());
    let meeting = "--mount=type=cache,id=meeting,target=/meet,sharing=shared";
    let wait =
        |file: &str| format!("i=0; while [ ! -e /meet/{file} ] && [ $i -lt 300 ]; do i=$((i+1)); sleep 0.05; done");
    let lines = format!(
        "RUN {meeting} --mount=type=secret,id=s --mount=type=secret,id=s,env=WORD \
         [ $WORD = \"$(cat /run/secrets/s)\" ] && touch /meet/held && {looked} && [ -e /meet/looked ] && echo held-all-the-time > /done\n\
         FROM {base} AS other\n\
         RUN {meeting} {held}; [ -e /meet/held ] && echo met; \
         grep -l word-of-one /proc/*/environ /proc/*/root/run/secrets/* /proc/*/cwd/run/secrets/* /run/secrets/* 2>/dev/null && echo found; \
         grep -rl word-of-one /run /tmp /dev/shm /meet /var 2>/dev/null && echo found; touch /meet/looked; true\n\
         FROM {base}\nCOPY --from=0 /done /one\nCOPY --from=other /etc/passwd /two",
        base = victim.base,
        looked = wait("looked"),
        held = wait("held"),
    );
    let finished = victim.build("secrets", &lines, &["--secret", &secret]).success();
    assert_eq!((said(&finished, "met"), said(&finished, "found")), (1, 0), "{finished}");
}

fn files_of_the_host(victim: &Victim) {
    let outside = &victim.outside;
    let root = victim.world.onetag.root().display().to_string();
    let lines = format!(
        "RUN for top in '' /proc/1/root /proc/self/root /proc/1/cwd /../../.. /proc/self/cwd/../../..; do \
         cat $top{outside}/marked; ls $top{root} && echo the-store-is-there; done; \
         find / -xdev -name index.json | grep . && echo the-store-is-there; \
         find / -xdev -name cache.db | grep . && echo the-store-is-there; \
         mknod /tmp/disk b 8 0 && head -c 512 /tmp/disk | grep -q . && echo a-disk-is-there; true"
    );
    let finished = victim.build("files", &lines, &[]).success();
    assert_eq!((said(&finished, "the-store-is-there"), said(&finished, "a-disk-is-there")), (0, 0), "{finished}");
    // What a context reaches through links and dots.
    let context = victim.world.context("reach", "", &[]);
    for (name, target) in [("link", outside.clone()), ("file", format!("{outside}/marked")), ("up", "..".to_owned())] {
        std::os::unix::fs::symlink(target, Path::new(&context).join(name)).unwrap();
    }
    for line in [
        format!("RUN --mount=type=bind,source={outside},target=/m cat /m/marked"),
        "RUN --mount=type=bind,source=../outside,target=/m cat /m/marked".to_owned(),
        "RUN --mount=type=bind,source=link,target=/m cat /m/marked".to_owned(),
        "RUN --mount=type=bind,target=/m cat /m/link/marked /m/up/outside/marked /m/file".to_owned(),
        "COPY link/marked /m\nRUN cat /m".to_owned(),
        "COPY file /m\nRUN cat /m".to_owned(),
        "COPY up/outside/marked /m\nRUN cat /m".to_owned(),
        "COPY ../outside/marked /m\nRUN cat /m".to_owned(),
        format!("ADD file://{outside}/marked /m\nRUN cat /m"),
        format!("RUN --mount=type=bind,from=oci-layout://{root},target=/m ls /m"),
    ] {
        victim.build("reach", &line, &[]).failure();
    }
}

fn processes_that_stay(victim: &Victim) {
    let mark = format!("{}", 500_000 + std::process::id());
    let before = HostState::capture(&victim.world.onetag.root());
    let lines = format!(
        "RUN trap '' TERM HUP INT; setsid sleep {mark} >/dev/null 2>&1 & (sleep {mark} &) ; nohup sleep {mark} >/dev/null 2>&1 & \
         sleep 0.1; echo over"
    );
    let finished = victim.build("stay", &lines, &[]).success();
    assert_eq!(said(&finished, "over"), 1, "{finished}");
    let left: Vec<_> = processes_mentioning(Path::new(&mark));
    assert!(left.is_empty(), "{left:?}");
    before.assert_unchanged();
}

/// What a mount needs to stand on is made and goes; what was there, or was used, stays.
fn mount_points(victim: &Victim) {
    let secret = victim.world.onetag.file("secret", "word");
    let secret = format!("id=s,src={}", secret.display());
    let lines = "RUN mkdir /empty /full && touch /empty-file && echo x > /full/x && ln -s /empty /link\n\
         RUN --mount=type=tmpfs,target=/empty --mount=type=tmpfs,target=/full --mount=type=tmpfs,target=/new/deep \
         --mount=type=secret,id=s,target=/empty-file --mount=type=secret,id=s,target=/new-file \
         --mount=type=tmpfs,target=/shared/made echo mine > /shared/mine; echo 1 > /new/deep/1; mkdir /empty/2; \
         rm -rf /shared/made /empty-file /new-file /empty /full; mv /new /moved; true\n\
         RUN for path in /empty /full/x /empty-file /link /new /new-file /shared/mine /shared/made /moved; do \
         [ -e $path ] && echo $path-is-there; done; cat /full/x /shared/mine; [ ! -s /empty-file ] && echo still-empty";
    let finished = victim.build("points", lines, &["--secret", &secret]).success();
    for path in ["/empty", "/full/x", "/empty-file", "/link", "/shared/mine"] {
        assert_eq!(said(&finished, &format!("{path}-is-there")), 1, "{path}\n{finished}");
    }
    for path in ["/new-file", "/shared/made"] {
        assert_eq!(said(&finished, &format!("{path}-is-there")), 0, "{path}\n{finished}");
    }
    assert_eq!((said(&finished, "mine"), said(&finished, "still-empty")), (1, 1), "{finished}");
}

fn identities(victim: &Victim) {
    for user in ["2147483648", "4294967295", "4294967296", "0:2147483648", "18446744073709551616"] {
        let finished = victim.build("identities", &format!("USER {user}\nRUN id"), &[]).failure();
        assert!(finished.stderr.contains(user.trim_start_matches("0:")), "{finished}");
        let line = format!("run --rm -u {user} {} id", victim.base);
        victim.world.onetag.line(&line).code(125).says(user.trim_start_matches("0:"));
    }
}

/// A gigabyte that is no line.
fn giant_user_files(victim: &Victim) {
    let giant = "RUN for file in passwd group; do rm -f /etc/$file; truncate -s 1G /etc/$file; done";
    // Nothing that reads these files to their end, which takes minutes.
    let finished = victim
        .build("giant", &format!("{giant}\nRUN true\nUSER 1000:1000\nRUN grep ^Uid: /proc/self/status | cut -f2"), &[])
        .success();
    assert_eq!(said(&finished, "1000"), 1, "{finished}");
    victim.build("giant", &format!("{giant}\nUSER app\nRUN id"), &[]).failure().says("app");
    // A name that is nowhere is root's in a copy, as BuildKit has it.
    victim.build("giant", &format!("{giant}\nCOPY --chown=app:app Dockerfile /x"), &[]).success();
}

/// Variables, labels and volumes that mean something to other tools, or to this one when its caller sets them.
fn steering(victim: &Victim) {
    let root = victim.world.onetag.work().join("another-root");
    let lines = format!(
        "ENV LD_PRELOAD=/evil.so LD_LIBRARY_PATH=/evil PATH=/bin ONETAG_ROOT={root} ONETAG_EMULATOR=none DOCKER_CONFIG={outside} \
         ONETAG_CONFIG={outside}/marked QEMU_LD_PREFIX={outside} QEMU_LOG=all QEMU_LOG_FILENAME={outside}/log HOME={outside} TMPDIR={outside}\n\
         LABEL org.systemd.property.ExecStart='touch {outside}/l' run.oci.hooks.stderr={outside}/l run.oci.keep_original_groups=1 \
         io.podman.annotations.privileged=TRUE io.kubernetes.cri-o.Devices=/dev/mem com.docker.security.privileged=true \
         org.criu.config={outside}/marked module.wasm.image/variant=compat\n\
         VOLUME {outside} /etc /proc /\nWORKDIR ../../../../../../../..{outside}\nSTOPSIGNAL KILL\n\
         HEALTHCHECK CMD touch {outside}/h\nONBUILD RUN touch {outside}/o\nSHELL [\"/bin/sh\", \"-c\"]\n\
         RUN touch here; cat marked /proc/self/cwd/marked; ls -l; echo tried\nENTRYPOINT [\"/bin/busybox\", \"sh\", \"-c\"]\n\
         CMD [\"touch there; cat marked; id -u; head -c1 /dev/mem; busybox mount -t tmpfs none /tmp && echo mounted; pwd\"]",
        root = root.display(),
        outside = victim.outside,
    );
    let finished = victim.build("steering", &lines, &["--load", "-t", "steering:1"]).success();
    assert_eq!(said(&finished, "tried"), 1, "{finished}");
    let ran = victim.world.onetag.ok("run --rm steering:1");
    victim.is_unharmed(&ran);
    assert_eq!(ran.text().lines().collect::<Vec<_>>(), ["0", victim.outside.as_str()], "{ran}");
    assert!(!root.exists());
    assert!(victim.world.onetag.ok("images").text().contains("steering"));
}
