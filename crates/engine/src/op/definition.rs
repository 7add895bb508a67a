//! What of an operation counts for its cache key. Pure.
//!
//! Inputs count by themselves, so their digests go. Neither do the names under which content is reached where the
//! content itself counts, values of proxies, and the addresses of extra hosts.

use onetag_llb::{FileActionKind, Op, OpKind};
use onetag_oci::{Algorithm, Digest, Digester};

/// The digest of everything, the names under which content is reached as well.
pub(crate) fn selection_key(op: &Op) -> Digest {
    let mut op = op.clone();
    op.inputs.clear();
    op.constraints.clear();
    match &mut op.kind {
        OpKind::Exec(exec) => {
            exec.meta.proxy = None;
            exec.meta.extra_hosts.iter_mut().for_each(|host| host.ip.clear());
        }
        OpKind::File(_) | OpKind::Merge(_) | OpKind::Diff(_) => op.platform = None,
        OpKind::Source(_) | OpKind::Build(_) => {}
    }
    digest(&op)
}

fn digest(op: &Op) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(b"onetag.op.1\0");
    digester.update(&op.encode());
    digester.finish()
}

/// The digest of what counts.
pub(crate) fn definition_key(op: &Op) -> Digest {
    let mut op = op.clone();
    let inputs = op.inputs.len();
    op.inputs.clear();
    op.constraints.clear();
    match &mut op.kind {
        OpKind::Exec(exec) => {
            exec.meta.proxy = None;
            exec.meta.extra_hosts.iter_mut().for_each(|host| host.ip.clear());
            let content = content_mounts(exec);
            for (position, mount) in exec.mounts.iter_mut().enumerate() {
                if content.contains(&position) {
                    mount.selector.clear();
                }
            }
        }
        OpKind::File(file) => {
            op.platform = None;
            for action in &mut file.actions {
                let is_content = action.secondary_input.is_some_and(|input| input < inputs);
                if let (FileActionKind::Copy(copy), true) = (&mut action.kind, is_content) {
                    copy.source = base_name(&copy.source).to_owned();
                }
            }
        }
        OpKind::Merge(_) | OpKind::Diff(_) => op.platform = None,
        OpKind::Source(_) | OpKind::Build(_) => {}
    }
    digest(&op)
}

/// The positions of the mounts whose content counts rather than their identity.
pub(crate) fn content_mounts(exec: &onetag_llb::ExecOp) -> Vec<usize> {
    use onetag_llb::ContentCache;
    let counts = |mount: &onetag_llb::Mount| {
        mount.input.is_some()
            && match mount.content_cache {
                ContentCache::On => true,
                ContentCache::Off => false,
                ContentCache::Default => (mount.readonly && mount.target != "/") || mount.output.is_none(),
            }
    };
    exec.mounts.iter().enumerate().filter(|(_, mount)| counts(mount)).map(|(position, _)| position).collect()
}

fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use onetag_llb::{CopyAction, ExecOp, FileAction, FileOp, HostIp, Mount, ProxyEnvironment};

    use super::*;

    fn exec(change: impl Fn(&mut ExecOp)) -> Digest {
        let mut exec = ExecOp::default();
        exec.meta.args = vec!["true".to_owned()];
        exec.mounts = vec![
            Mount { input: Some(0), target: "/".to_owned(), output: Some(0), ..Mount::default() },
            Mount { input: Some(1), target: "/src".to_owned(), readonly: true, ..Mount::default() },
        ];
        change(&mut exec);
        definition_key(&Op::new(OpKind::Exec(Box::new(exec))))
    }

    #[test]
    fn what_does_not_change_a_result_does_not_count() {
        let plain = exec(|_| {});
        assert_eq!(plain, exec(|exec| exec.meta.proxy = Some(ProxyEnvironment::default())));
        assert_eq!(plain, exec(|exec| exec.mounts[1].selector = "/elsewhere".to_owned()));
        assert_ne!(plain, exec(|exec| exec.mounts[0].selector = "/elsewhere".to_owned()));
        assert_ne!(plain, exec(|exec| exec.meta.args.push("x".to_owned())));
        assert_ne!(plain, exec(|exec| exec.meta.env.push("A=b".to_owned())));
        let host = |ip: &str| HostIp { host: "db".to_owned(), ip: ip.to_owned() };
        assert_eq!(
            exec(|exec| exec.meta.extra_hosts = vec![host("1.2.3.4")]),
            exec(|exec| exec.meta.extra_hosts = vec![host("4.3.2.1")])
        );
    }

    #[test]
    fn copies_count_by_content_not_by_where_it_was() {
        let copy = |source: &str, destination: &str, mode: u32| {
            let copy = CopyAction {
                source: source.to_owned(),
                destination: destination.to_owned(),
                mode: onetag_llb::CopyMode::Octal(mode),
                ..CopyAction::default()
            };
            let kind = FileActionKind::Copy(Box::new(copy));
            let action = FileAction { input: Some(0), secondary_input: Some(1), output: Some(0), kind };
            let mut op = Op::new(OpKind::File(FileOp { actions: vec![action] }));
            let edge = |name: &str| onetag_llb::Edge { vertex: Digest::sha256(name.as_bytes()), output: 0 };
            op.inputs = vec![edge("base"), edge("context")];
            definition_key(&op)
        };
        assert_eq!(copy("/a/file", "/x", 0o644), copy("/b/file", "/x", 0o644));
        assert_ne!(copy("/a/file", "/x", 0o644), copy("/a/other", "/x", 0o644));
        assert_ne!(copy("/a/file", "/x", 0o644), copy("/a/file", "/y", 0o644));
        assert_ne!(copy("/a/file", "/x", 0o644), copy("/a/file", "/x", 0o600));
    }
}
