//! Whatever an op says, its encoding says it too; whatever bytes come in, decoding ends.

use std::collections::BTreeMap;

use onetag_llb::{
    CacheMount, CacheSharing, Chown, CopyAction, CopyMode, DiffOp, Edge, ExecMeta, ExecOp, FileAction, FileActionKind,
    FileOp, Graph, HostIp, MergeOp, Mkdir, Mkfile, Mount, MountKind, NetworkMode, Op, OpKind, Owner, ProxyEnvironment,
    Rm, SecretEnvironment, SecretMount, SecurityMode, SourceOp, SshMount, Symlink, Ulimit,
};
use onetag_oci::{Digest, Platform};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z/=, é]{1,12}"]
}

fn index() -> impl Strategy<Value = Option<usize>> {
    option::of(0usize..300)
}

fn timestamp() -> impl Strategy<Value = Option<i64>> {
    option::of(any::<i64>().prop_filter("-1 stands for none", |&value| value != -1))
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        any::<u32>().prop_map(Owner::Id),
        (text(), index()).prop_map(|(name, input)| Owner::Name { name, input })
    ]
}

fn chown() -> impl Strategy<Value = Option<Chown>> {
    option::of((option::of(owner()), option::of(owner())).prop_map(|(user, group)| Chown { user, group }))
}

fn mode() -> impl Strategy<Value = CopyMode> {
    prop_oneof![
        Just(CopyMode::Keep),
        (0u32..0o10000).prop_map(CopyMode::Octal),
        "[ugo][+-=][rwx]".prop_map(CopyMode::Symbolic),
    ]
}

fn copy() -> impl Strategy<Value = CopyAction> {
    let lists = (vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3));
    (text(), text(), chown(), mode(), any::<[bool; 7]>(), timestamp(), lists).prop_map(
        |(source, destination, owner, mode, flags, timestamp, (include, exclude, required))| CopyAction {
            source,
            destination,
            owner,
            mode,
            follow_symlink: flags[0],
            dir_copy_contents: flags[1],
            attempt_unpack: flags[2],
            create_dest_path: flags[3],
            allow_wildcard: flags[4],
            allow_empty_wildcard: flags[5],
            timestamp,
            include_patterns: include,
            exclude_patterns: exclude,
            always_replace_existing_dest_paths: flags[6],
            required_paths: required,
        },
    )
}

fn action() -> impl Strategy<Value = FileActionKind> {
    let bits = 0u32..0o10000;
    prop_oneof![
        copy().prop_map(|copy| FileActionKind::Copy(Box::new(copy))),
        (text(), bits.clone(), vec(any::<u8>(), 0..9), chown(), timestamp()).prop_map(
            |(path, mode, data, owner, timestamp)| FileActionKind::Mkfile(Mkfile {
                path,
                mode,
                data,
                owner,
                timestamp
            })
        ),
        (text(), bits, any::<bool>(), chown(), timestamp()).prop_map(|(path, mode, make_parents, owner, timestamp)| {
            FileActionKind::Mkdir(Mkdir { path, mode, make_parents, owner, timestamp })
        }),
        (text(), any::<bool>(), any::<bool>()).prop_map(|(path, allow_not_found, allow_wildcard)| FileActionKind::Rm(
            Rm { path, allow_not_found, allow_wildcard }
        )),
        (text(), text(), chown(), timestamp()).prop_map(|(target, path, owner, timestamp)| FileActionKind::Symlink(
            Symlink { target, path, owner, timestamp }
        )),
    ]
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        Just(MountKind::Bind),
        (text(), any::<[u32; 3]>(), any::<bool>()).prop_map(|(id, [uid, gid, mode], optional)| MountKind::Secret(
            SecretMount { id, uid, gid, mode, optional }
        )),
        (text(), any::<[u32; 3]>(), any::<bool>())
            .prop_map(|(id, [uid, gid, mode], optional)| MountKind::Ssh(SshMount { id, uid, gid, mode, optional })),
        text().prop_map(|id| MountKind::Cache(CacheMount { id, sharing: CacheSharing::Locked })),
        any::<i64>().prop_map(|size| MountKind::Tmpfs { size }),
    ];
    (index(), text(), text(), index(), any::<bool>(), kind).prop_map(
        |(input, selector, target, output, readonly, kind)| Mount {
            input,
            selector,
            target,
            output,
            readonly,
            kind,
            ..Mount::default()
        },
    )
}

fn exec() -> impl Strategy<Value = ExecOp> {
    let meta = (vec(text(), 0..3), vec(text(), 0..3), text(), text(), any::<bool>(), vec(any::<i32>(), 0..3));
    (meta, vec(mount(), 0..4), any::<[bool; 2]>()).prop_map(|((args, env, cwd, user, extra, codes), mounts, flags)| {
        let meta = ExecMeta {
            args,
            env,
            cwd,
            user: user.clone(),
            proxy: extra.then(|| ProxyEnvironment { http: user.clone(), ..ProxyEnvironment::default() }),
            extra_hosts: vec![HostIp { host: user.clone(), ip: "::1".into() }],
            hostname: user.clone(),
            ulimits: vec![Ulimit { name: user.clone(), soft: -1, hard: 7 }],
            cgroup_parent: user.clone(),
            remove_mount_stubs_recursive: extra,
            valid_exit_codes: codes,
        };
        ExecOp {
            meta,
            mounts,
            network: if flags[0] { NetworkMode::Host } else { NetworkMode::None },
            security: if flags[1] { SecurityMode::Insecure } else { SecurityMode::Sandbox },
            secret_environment: vec![SecretEnvironment { id: user, name: "N".into(), optional: extra }],
            cdi_devices: Vec::new(),
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        (text(), btree_map(text(), text(), 0..4)).prop_map(|(identifier, attributes): (String, BTreeMap<_, _>)| {
            OpKind::Source(SourceOp { identifier, attributes })
        }),
        exec().prop_map(|exec| OpKind::Exec(Box::new(exec))),
        vec((index(), index(), index(), action()), 0..4).prop_map(|actions| {
            let action = |(input, secondary_input, output, kind)| FileAction { input, secondary_input, output, kind };
            OpKind::File(FileOp { actions: actions.into_iter().map(action).collect() })
        }),
        vec(0usize..200, 0..4).prop_map(|inputs| OpKind::Merge(MergeOp { inputs })),
        (index(), index()).prop_map(|(lower, upper)| OpKind::Diff(DiffOp { lower, upper })),
    ];
    let edge = (any::<u64>(), 0usize..300)
        .prop_map(|(seed, output)| Edge { vertex: Digest::sha256(&seed.to_le_bytes()), output });
    let platform = option::of(
        ("[a-z]{1,5}", "[a-z0-9]{1,5}", option::of("v[5-8]"))
            .prop_map(|(os, architecture, variant)| Platform { variant, ..Platform::new(&os, &architecture) }),
    );
    (vec(edge, 0..3), kind, platform, vec(text(), 0..2)).prop_map(|(inputs, kind, platform, constraints)| Op {
        inputs,
        kind,
        platform,
        constraints,
    })
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(op in op()) {
        prop_assert_eq!(Op::decode(&op.encode()).unwrap(), op);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Graph::from_definition(&bytes);
        if let Ok(op) = Op::decode(&bytes) {
            prop_assert_eq!(op.encode(), bytes);
        }
    }

    #[test]
    fn a_damaged_op_is_read_without_a_panic(op in op(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = op.encode();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(op) = Op::decode(&bytes) {
            prop_assert_eq!(op.encode(), bytes);
        }
    }
}
