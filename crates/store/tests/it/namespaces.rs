//! The same tests as an ordinary user, in a namespace of one id and in one of a range.

use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use onetag_store::tree::MergedTree;
use onetag_store::{LayerId, LayerOptions, Store};

use crate::archive::{Archive, list, put, unpack};

/// Set in the processes that these tests start.
const INSIDE: &str = "ONETAG_STORE_TEST_INSIDE";

/// Runs this program's tests again under `wrapper`, in a folder that `uid` owns. Skipped without privileges.
fn run_again(wrapper: &[&str], uid: u32, mapped: bool, skipped: &[&str]) {
    if std::env::var_os(INSIDE).is_some() || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: runs from root's tests");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(uid), Some(uid)).unwrap();
    let program = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(&program).arg("--quiet");
    // What does not depend on who runs it has run already.
    let independent =
        ["crashes", "processes", "damage", "a_flattened_stack", "one_hundred", "what_is_written", "checksums"];
    for name in skipped.iter().chain(&independent) {
        command.args(["--skip", name]);
    }
    command.env(INSIDE, "1").env("TMPDIR", folder.path()).current_dir("/").gid(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if mapped {
        map_range(&mut child, uid);
    }
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !out.contains("running") {
        eprintln!("skipped: user namespaces are denied: {err}");
        return;
    }
    assert!(output.status.success(), "{out}\n{err}");
}

/// Gives a process that waits in a new user namespace the ids from `first` on, then lets it go on.
fn map_range(child: &mut std::process::Child, first: u32) {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).unwrap();
    let process = child.id().to_string();
    while namespace(&process) == namespace("self") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{process}/{map}"), format!("0 {first} 65536\n")).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

#[test]
fn in_a_namespace_of_one_id() {
    let wrapper = [
        "setpriv",
        "--reuid=1234",
        "--regid=1234",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ];
    run_again(&wrapper, 1234, false, &["a_mount_and_a_merged_tree_agree"]);
}

#[test]
fn in_a_namespace_of_a_range() {
    let script = r#"read go && exec setpriv --reuid=0 --regid=0 --clear-groups unshare --mount "$@""#;
    run_again(&["unshare", "--user", "--keep-caps", "sh", "-c", script, "sh"], 200_000, true, &[]);
}

#[test]
fn without_a_namespace() {
    let wrapper = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];
    run_again(&wrapper, 1234, false, &["a_mount_and_a_merged_tree_agree"]);
}

#[test]
fn owners_survive_whatever_this_process_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, uid, gid) in
        [("d/", tar::EntryType::Directory, 7, 8), ("d/f", tar::EntryType::Regular, 1000, 65534)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(0);
        builder.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let (diff_id, blob) = put(&store, &builder.into_inner().unwrap());
    store.ensure_layer(&diff_id, &blob, "").unwrap();
    let stack = store.stack(&[LayerId::Diff(diff_id)]).unwrap();
    let tree = MergedTree::open(&stack.lowers, store.ownership()).unwrap();
    let owner = |path: &str| {
        let metadata = tree.lookup(Path::new(path)).unwrap().unwrap().metadata().unwrap();
        (metadata.uid, metadata.gid)
    };
    assert_eq!((owner("d"), owner("d/f")), ((7, 8), (1000, 65534)));
    // Taken over into a step and written again, they are still there.
    let mut workspace = store.workspace(&stack).unwrap();
    let base = unpack(&store, Archive::new().file("x", b"x"));
    let source = store.stack(&[LayerId::Diff(base)]).unwrap();
    let source = MergedTree::open(&source.lowers, store.ownership()).unwrap();
    let request = onetag_store::copy::CopyRequest {
        source: "/x".into(),
        destination: "/d/x".into(),
        owner: Some((42, 43)),
        ..Default::default()
    };
    workspace.copy(&source, &request).unwrap();
    let step = workspace.commit().unwrap();
    let options = LayerOptions {
        compression: onetag_store::layer::CompressionOptions {
            compression: onetag_store::layer::Compression::None,
            level: None,
        },
        latest_mtime: None,
    };
    let exported = store.export_layer(&step, &stack, &options).unwrap();
    let archive = store.read_blob(&exported.descriptor.digest, 1 << 20).unwrap();
    assert_eq!(list(&archive), ["d/", "d/x"]);
    let mut reader = onetag_store::layer::TarReader::new(&archive[..], Default::default());
    let directory = reader.next_entry().unwrap().unwrap();
    let file = reader.next_entry().unwrap().unwrap();
    assert_eq!(((directory.uid, directory.gid), (file.uid, file.gid)), ((7, 8), (42, 43)));
}
