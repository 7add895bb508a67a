//! The same tests as other users.

use std::os::unix::process::CommandExt;
use std::process::Command;

use onetag_testkit::require;
use onetag_testkit::user::User;

use crate::support::{MODE, mode};

/// Runs this program's other tests again, in a user namespace that it enters before it has threads.
fn run_again(mode: &str, prepare: impl FnOnce(&mut Command)) {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--skip", "again::", "--test-threads", "2"]);
    command.env("ONETAG_TEST_USER_NAMESPACE", "1").env(MODE, mode).env_remove("HOME");
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
    require!(mode().is_empty(), "this is the second time");
    let user = require!(ok User::ordinary());
    run_again("ranges", |command| user.apply(command));
}

#[test]
fn as_an_ordinary_user_with_a_single_id() {
    require!(mode().is_empty(), "this is the second time");
    require!(User::root().is_ok(), "only root may become a user without subordinate ids");
    run_again("single", |command| {
        command.uid(54_321).gid(54_321);
    });
}
