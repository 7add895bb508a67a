//! What a mount of a stack shows is what a merged tree shows.

use std::path::Path;
use std::process::Command;

use onetag_store::tree::{MergedTree, Node};
use onetag_store::{LayerId, Stack, Store};

use crate::archive::{Archive, unpack};

/// `find` over an overlay mount of the stack, or `None` where mounts are refused.
fn mounted(stack: &Stack) -> Option<Vec<String>> {
    let lowers: Vec<String> = stack.lowers.iter().map(|path| path.display().to_string()).collect();
    let mut options = format!("userxattr,lowerdir={}", lowers.join(":"));
    let empty = tempfile::tempdir().unwrap();
    if lowers.len() == 1 {
        options = format!("{options}:{}", empty.path().display());
    }
    let target = tempfile::tempdir().unwrap();
    let script =
        r#"mount -t overlay -o "$1" overlay "$2" && cd "$2" && find . -mindepth 1 -printf '%P|%y|%m|%U|%G|%l\n'"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &options])
        .arg(target.path())
        .output()
        .ok()?;
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    Some(lines)
}

fn merged(store: &Store, stack: &Stack) -> Vec<String> {
    let tree = MergedTree::open(&stack.lowers, store.ownership()).unwrap();
    let mut lines = Vec::new();
    for entry in tree.walk(Path::new("")).unwrap() {
        let entry = entry.unwrap();
        if entry.path.as_os_str().is_empty() {
            continue;
        }
        let metadata = entry.node.metadata().unwrap();
        let (kind, link) = match &entry.node {
            Node::Directory(_) => ("d", String::new()),
            Node::Leaf(leaf) => match leaf.read_link() {
                Ok(link) => ("l", link.display().to_string()),
                Err(_) => ("f", String::new()),
            },
        };
        let (path, mode) = (entry.path.display(), metadata.mode);
        lines.push(format!("{path}|{kind}|{mode:o}|{}|{}|{link}", metadata.uid, metadata.gid));
    }
    lines.sort();
    lines
}

#[test]
fn a_mount_and_a_merged_tree_agree() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let layers = [
        Archive::new()
            .directory("tmp", 0o1777)
            .directory("etc", 0o755)
            .file("etc/passwd", b"root")
            .file("etc/old", b"x")
            .directory("bin", 0o755)
            .file("bin/busybox", b"bb")
            .directory("opt", 0o700)
            .file("opt/gone", b"x")
            .file("was-file", b"x")
            .directory("was-dir", 0o755)
            .file("was-dir/x", b"x"),
        Archive::new()
            .file("tmp/x", b"1")
            .file("etc/.wh.old", b"")
            .hard_link("bin/sh", "bin/busybox")
            .directory("opt", 0o711)
            .file("opt/.wh..wh..opq", b"")
            .file("opt/new", b"n")
            .file(".wh.was-file", b"")
            .directory("was-file", 0o750)
            .file("was-dir", b"file now"),
        Archive::new().symlink("lib", "usr/lib").file("usr/lib/deep/file", b"d").file("etc/.wh.never", b""),
        Archive::new().file(".wh.lib", b"").directory("lib", 0o755).file("lib/f", b"f").file("tmp/.wh.x", b""),
    ];
    let mut ids = Vec::new();
    for layer in layers {
        ids.push(LayerId::Diff(unpack(&store, layer)));
        let stack = store.stack(&ids).unwrap();
        if let Some(mounted) = mounted(&stack) {
            assert_eq!(mounted, merged(&store, &stack), "{} layers", ids.len());
        }
    }
    let all = merged(&store, &store.stack(&ids).unwrap());
    for line in ["tmp|d|1777|0|0|", "bin/sh|f|644|0|0|", "opt|d|711|0|0|", "was-dir|f|644|0|0|", "lib/f|f|644|0|0|"] {
        assert!(all.contains(&line.to_owned()), "{line} {all:?}");
    }
    assert!(!all.iter().any(|line| line.starts_with("opt/gone") || line.starts_with("tmp/x")));
}

#[test]
fn a_flattened_stack_shows_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut ids = vec![LayerId::Diff(unpack(&store, Archive::new().directory("d", 0o751).file("d/base", b"b")))];
    for number in 0..599 {
        let removed = format!("d/.wh.{}", number - 1);
        let layer = Archive::new().file(&format!("d/{number}"), number.to_string().as_bytes()).file(&removed, b"");
        ids.push(LayerId::Diff(unpack(&store, layer)));
    }
    let stack = store.stack(&ids).unwrap();
    assert!(stack.lowers.len() <= onetag_store::MAX_LOWERS);
    assert_eq!(merged(&store, &stack), ["d/598|f|644|0|0|", "d/base|f|644|0|0|", "d|d|751|0|0|"]);
}
