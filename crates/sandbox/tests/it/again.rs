//! The same tests as other users.

use std::os::unix::process::CommandExt;
use std::process::Command;

use onetag_testkit::user::User;
use onetag_testkit::{Staged, require};

use crate::support::{MODE, mode};

/// Runs this program's other tests again, in a user namespace that it enters before it has threads.
fn run_again(mode: &str, prepare: impl FnOnce(&mut Command)) {
    let staged = Staged::of(&std::env::current_exe().expect("this program has a path"));
    let mut command = Command::new(staged.binary());
    command.args(["--skip", "again::", "--test-threads", "2"]).current_dir("/");
    command.env("ONETAG_TEST_USER_NAMESPACE", "1").env(MODE, mode).env_remove("HOME");
    command.env("ONETAG_FIXTURES", staged.fixtures());
    prepare(&mut command);
    let output = command.output().expect("it starts");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn as_an_ordinary_user_with_subordinate_ids() {
    if !mode().is_empty() {
        return;
    }
    let user = require!(ok User::ordinary());
    run_again("ranges", |command| user.apply(command));
}

#[test]
fn as_an_ordinary_user_with_a_single_id() {
    if !mode().is_empty() {
        return;
    }
    require!(User::root().is_ok(), "only root may become a user without subordinate ids");
    run_again("single", |command| {
        command.uid(54_321).gid(54_321);
    });
}

/// In a namespace whose binfmt_misc stands for a host's.
#[test]
fn as_root_of_a_host_of_its_own() {
    if !mode().is_empty() {
        return;
    }
    require!(ok onetag_testkit::host::private_binfmt(&User::current()));
    let program = std::env::current_exe().expect("this program has a path");
    let script = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && exec \"$0\" --exact foreign::registering_for_the_whole_host";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(program)
        .env(MODE, "table")
        .output()
        .expect("unshare starts");
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
