//! A store on a file system that overlayfs does not take as its upper one: here, another overlay. Containers and steps
//! run on copies of the files.

use std::time::Duration;

use onetag_testkit::folder::program;
use onetag_testkit::{Running, require};

use crate::support::{World, local_name, native_and_foreign};

#[test]
fn containers_and_steps_run_on_copies() {
    let world = require!(ok World::root());
    let unshare = require!(some program("unshare"), "unshare is not installed");
    let (native, _) = native_and_foreign();
    let base = require!(ok world.push_base(&[native]));
    let context = world.context("steps", "ARG BASE\nFROM $BASE\nRUN rm /bin/false && echo made > /file\n", &[]);
    let script = format!(
        "set -e; mkdir low up work over; mount -t tmpfs none up; mkdir up/up up/work; \
         mount -t overlay -o lowerdir=low,upperdir=up/up,workdir=up/work overlay over; \
         cp -a \"$ONETAG_ROOT\" over/root; ONETAG_ROOT=$PWD/over/root; export ONETAG_ROOT; \
         {binary} run --rm {local} sh -c 'echo written > /new && cat /new && rm /bin/false'; \
         {binary} run --rm {local} sh -c 'test ! -e /new && test -e /bin/false && echo as before'; \
         {binary} build --allow network.host --network host --build-arg BASE={base} --load -t stepped:1 {context}; \
         {binary} run --rm stepped:1 sh -c 'test ! -e /bin/false && cat /file'; \
         ls over/root/tmp | wc -l",
        binary = world.onetag.binary().display(),
        local = local_name(native),
    );
    let mut command = world.onetag.program(unshare);
    command.args(["--mount", "sh", "-c", &script]);
    let finished = Running::start(&mut command).finish(Duration::from_secs(120)).success();
    assert_eq!(finished.text(), "written\nas before\nmade\n0\n", "{finished}");
    assert!(finished.stderr.contains("the image's files were copied for the container"), "{finished}");
    assert!(finished.stderr.contains("files are copied for each step instead"), "{finished}");
}
