//! What the recordings do not show: contexts, mounts, triggers, times, caches, and what is never asked for.

use std::collections::BTreeMap;
use std::sync::Mutex;

use onetag_dockerfile::resolver::{IgnoreFile, ResolveMode};
use onetag_dockerfile::{
    DockerfileError, LowerOptions, Lowered, MainContext, NamedContext, NoCache, ResolveError, ResolveOptions,
    ResolvedImage, Resolver, lower, parse,
};
use onetag_llb::{
    CacheSharing, CopyMode, ExecOp, FileActionKind, Mount, MountKind, OpKind, Owner, SourceOp, Vertex, attribute,
};
use onetag_oci::{DiffId, Digest, History, ImageConfig, Platform, Reference};

/// Knows every image whose name does not begin with `absent`, and says what it was asked.
#[derive(Default)]
struct Fake {
    contexts: BTreeMap<String, NamedContext>,
    triggers: Vec<String>,
    ignore: Option<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Resolver for Fake {
    fn image_config(
        &self,
        reference: &Reference,
        platform: &Platform,
        options: &ResolveOptions,
    ) -> Result<ResolvedImage, ResolveError> {
        self.asked.lock().unwrap().push(options.log_name.clone());
        if reference.path().contains("absent") {
            return Err(ResolveError::new(std::io::Error::other("not found")));
        }
        let mut config = ImageConfig::new(platform);
        config.rootfs.diff_ids.push(DiffId(Digest::sha256(b"base")));
        config.history.push(History { created_by: Some("base".into()), ..History::default() });
        config.config.env = vec!["PATH=/bin".into()];
        config.config.on_build.clone_from(&self.triggers);
        Ok(ResolvedImage {
            reference: reference.clone(),
            digest: Digest::sha256(reference.to_string().as_bytes()),
            config,
            config_bytes: Vec::new(),
        })
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        let file = |text: &str| IgnoreFile { name: ".dockerignore".into(), content: text.into() };
        Ok(self.ignore.map(file))
    }

    fn named_context(&self, key: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(self.contexts.get(key).cloned())
    }

    fn source_time(&self, source: &SourceOp, _log_name: &str) -> Result<Option<i64>, ResolveError> {
        self.asked.lock().unwrap().push(source.identifier.clone());
        Ok(Some(1_700_000_000))
    }
}

fn amd64() -> LowerOptions {
    LowerOptions {
        build_platform: Platform::linux("amd64"),
        target_platform: Some(Platform::linux("amd64")),
        ..LowerOptions::default()
    }
}

fn try_lower(text: &str, options: &LowerOptions, resolver: &Fake) -> Result<Lowered, DockerfileError> {
    let (file, errors) = parse(text.as_bytes());
    assert!(errors.is_empty(), "{errors:?}");
    lower(&file, options, resolver)
}

fn lowered(text: &str) -> Lowered {
    try_lower(text, &amd64(), &Fake::default()).unwrap()
}

fn named<'a>(lowered: &'a Lowered, text: &str) -> &'a Vertex {
    let found = lowered.graph.vertices().iter().find(|vertex| vertex.name().contains(text));
    found.unwrap_or_else(|| panic!("no vertex `{text}` in {:?}", names(lowered)))
}

fn names(lowered: &Lowered) -> Vec<String> {
    lowered.graph.vertices().iter().map(|vertex| vertex.name()).collect()
}

fn exec(lowered: &Lowered) -> &ExecOp {
    let exec = |vertex: &Vertex| matches!(vertex.op.kind, OpKind::Exec(_));
    let vertex = lowered.graph.vertices().iter().find(|vertex| exec(vertex)).expect("a RUN");
    let OpKind::Exec(exec) = &vertex.op.kind else { unreachable!() };
    exec
}

fn source<'a>(lowered: &'a Lowered, prefix: &str) -> &'a SourceOp {
    let source = |vertex: &'a std::sync::Arc<Vertex>| match &vertex.op.kind {
        OpKind::Source(source) if source.identifier.starts_with(prefix) => Some(source),
        _ => None,
    };
    lowered.graph.vertices().iter().find_map(source).unwrap_or_else(|| panic!("no source {prefix}"))
}

#[test]
fn stages_that_are_not_needed_are_never_asked_for() {
    let fake = Fake::default();
    let text = "FROM absent AS a\nRUN a\nFROM base AS b\nRUN b\nFROM absent2\nCOPY --from=a / /\n";
    let options = LowerOptions { target: Some("B".into()), ..amd64() };
    let lowered = try_lower(text, &options, &fake).unwrap();
    assert_eq!(*fake.asked.lock().unwrap(), ["[internal] load metadata for docker.io/library/base:latest"]);
    assert_eq!(lowered.graph.len(), 2);
    assert_eq!(lowered.images.len(), 1);
}

#[test]
fn names_carry_platforms_when_several_are_built() {
    let text =
        "FROM --platform=$BUILDPLATFORM base AS build\nARG TARGETARCH\nRUN make\nFROM base\nCOPY --from=build /o /\n";
    let options =
        LowerOptions { multi_platform: true, target_platform: Some("linux/arm/v7".parse().unwrap()), ..amd64() };
    let lowered = try_lower(text, &options, &Fake::default()).unwrap();
    assert!(names(&lowered).contains(&"[linux/amd64->arm/v7 build 2/2] RUN make".to_owned()), "{:?}", names(&lowered));
    assert_eq!(lowered.image.variant.as_deref(), Some("v7"));
}

#[test]
fn a_named_context_takes_the_place_of_an_image_or_a_stage() {
    let mut fake = Fake::default();
    fake.contexts.insert("base".into(), NamedContext::Image("other:1".into()));
    fake.contexts.insert("files".into(), NamedContext::Local { name: "files".into(), ignore: Some(b"*.md".into()) });
    fake.contexts.insert("assets::linux/amd64".into(), NamedContext::Image("docker.io/assets".into()));
    let text = "FROM absent AS assets\nRUN never\nFROM base\nCOPY --from=files a /b\nCOPY --from=assets c /d\n";
    let lowered = try_lower(text, &amd64(), &fake).unwrap();
    let local = source(&lowered, "local://files");
    assert_eq!(local.attributes[attribute::FOLLOW_PATHS], r#"["a"]"#);
    assert_eq!(local.attributes[attribute::EXCLUDE_PATTERNS], r#"["*.md"]"#);
    assert!(source(&lowered, "docker-image://docker.io/library/other:1@sha256:").attributes.is_empty());
    assert_eq!(named(&lowered, "[context base] other:1").op.platform, Some(Platform::linux("amd64")));
    assert!(source(&lowered, "docker-image://docker.io/library/assets:latest@").attributes.is_empty());
    assert!(!names(&lowered).iter().any(|name| name.contains("never")));
    assert!(fake.asked.lock().unwrap().contains(&"[context base] load metadata for other:1".to_owned()));
}

#[test]
fn an_oci_layout_is_a_context() {
    let mut fake = Fake::default();
    let digest = Digest::sha256(b"layout");
    fake.contexts.insert("base".into(), NamedContext::OciLayout { store: "s".into(), digest: digest.clone() });
    let lowered = try_lower("FROM base\nRUN a\n", &amd64(), &fake).unwrap();
    let source = source(&lowered, "oci-layout://");
    assert!(source.identifier.starts_with("oci-layout://docker.io/library/base@sha256:"), "{}", source.identifier);
    assert_eq!(source.attributes[attribute::OCI_STORE], "s");
}

#[test]
fn triggers_run_first_and_may_need_other_images() {
    let fake = Fake { triggers: vec!["COPY --from=tools /t /t".into(), "RUN prepare".into()], ..Fake::default() };
    let lowered = try_lower("FROM scratch AS tools\nCOPY x /t\nFROM base\nRUN build\n", &amd64(), &fake).unwrap();
    assert!(names(&lowered).contains(&"[stage-1 3/4] ONBUILD RUN prepare".to_owned()), "{:?}", names(&lowered));
    assert!(names(&lowered).contains(&"[stage-1 4/4] RUN build".to_owned()), "{:?}", names(&lowered));
    assert!(lowered.image.config.on_build.is_empty());
    let history: Vec<&str> = lowered.image.history.iter().filter_map(|entry| entry.created_by.as_deref()).collect();
    assert_eq!(history[1], "COPY /t /t # buildkit");
}

#[test]
fn run_has_every_kind_of_mount() {
    let text = "FROM base\nRUN --mount=type=bind,rw,source=src,target=s \
                --mount=type=cache,id=c,sharing=locked,uid=7,mode=0700,target=/c \
                --mount=type=secret,id=token,env=TOKEN --mount=type=secret,source=k,target=/k,required,mode=0440 \
                --mount=type=ssh --mount=type=tmpfs,size=1m,target=/x make\n";
    let mut options = amd64();
    options.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".into(), "ns".into());
    let lowered = try_lower(text, &options, &Fake::default()).unwrap();
    let exec = exec(&lowered);
    let targets: Vec<&str> = exec.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/", "/c", "/s", "/x", "/k", "/run/buildkit/ssh_agent.0"]);
    let at = |target: &str| -> &Mount { exec.mounts.iter().find(|mount| mount.target == target).unwrap() };
    assert_eq!((at("/").output, at("/c").output, at("/s").output), (Some(0), None, None));
    assert_eq!((at("/s").selector.as_str(), at("/s").readonly), ("/src", false));
    let MountKind::Cache(cache) = &at("/c").kind else { panic!("{:?}", at("/c")) };
    assert_eq!(
        (cache.id.as_str(), cache.sharing, at("/c").selector.as_str()),
        ("ns/c", CacheSharing::Locked, "/cache")
    );
    let folder = named(&lowered, "setting cache mount permissions");
    let OpKind::File(file) = &folder.op.kind else { panic!() };
    let FileActionKind::Mkdir(folder) = &file.actions[0].kind else { panic!() };
    assert_eq!((folder.mode, folder.owner.as_ref().unwrap().user.clone()), (0o700, Some(Owner::Id(7))));
    assert_eq!(at("/x").kind, MountKind::Tmpfs { size: 1 << 20 });
    let MountKind::Secret(secret) = &at("/k").kind else { panic!() };
    assert_eq!((secret.id.as_str(), secret.mode, secret.optional), ("k", 0o440, false));
    assert_eq!((exec.secret_environment[0].name.as_str(), exec.secret_environment[0].optional), ("TOKEN", true));
    assert!(exec.meta.env.contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned()));
    assert!(named(&lowered, "RUN --mount").metadata.caps.contains_key("exec.secretenv"));
}

#[test]
fn a_mount_needs_only_its_source_of_the_context() {
    let bind = lowered("FROM base\nRUN --mount=source=src,target=/s make\n");
    assert_eq!(source(&bind, "local://").attributes[attribute::FOLLOW_PATHS], r#"["src"]"#);
    // BuildKit asks for the whole context where there is a tmpfs.
    let tmpfs = lowered("FROM base\nRUN --mount=source=src,target=/s --mount=type=tmpfs,target=/t make\n");
    assert!(!source(&tmpfs, "local://").attributes.contains_key(attribute::FOLLOW_PATHS));
}

#[test]
fn scripts_are_mounted_and_documents_given_to_the_shell() {
    let script = lowered("FROM base\nRUN <<-run.py\n\t#!/usr/bin/python3\n\tprint()\nrun.py\n");
    let step = exec(&script);
    assert_eq!(step.meta.args, ["/bin/sh", "-c", "/dev/pipes/run.py"]);
    assert!(step.mounts[1].readonly && step.mounts[1].target == "/dev/pipes/");
    let OpKind::File(file) = &named(&script, "preparing inline document").op.kind else { panic!() };
    let FileActionKind::Mkfile(made) = &file.actions[0].kind else { panic!() };
    assert_eq!((made.mode, made.data.as_slice()), (0o755, &b"#!/usr/bin/python3\nprint()\n"[..]));
    let several = lowered("FROM base\nRUN cat <<A <<B\na\nA\nb\nB\n");
    assert_eq!(exec(&several).meta.args[2], "cat <<A <<B\na\nA\nb\nB");
}

#[test]
fn options_reach_every_step() {
    let mut options = LowerOptions {
        hostname: "h".into(),
        shm_size: 64,
        cgroup_parent: "g".into(),
        extra_hosts: vec![onetag_llb::HostIp { host: "a".into(), ip: "1.2.3.4".into() }],
        ulimits: vec![onetag_llb::Ulimit { name: "nofile".into(), soft: 1, hard: 2 }],
        network: onetag_llb::NetworkMode::Host,
        no_cache: NoCache::Stages(vec!["B".into()]),
        resolve_mode: ResolveMode::ForcePull,
        ..amd64()
    };
    options.build_args.insert("HTTP_PROXY".into(), "http://p".into());
    options.labels.insert("l".into(), "v".into());
    let lowered = try_lower("FROM base AS b\nRUN make\nCOPY a /\n", &options, &Fake::default()).unwrap();
    let exec = exec(&lowered);
    assert_eq!(exec.meta.hostname, "h");
    assert_eq!(exec.meta.proxy.as_ref().unwrap().http, "http://p");
    assert_eq!(exec.meta.extra_hosts[0].ip, "1.2.3.4");
    assert_eq!((exec.meta.ulimits[0].hard, exec.meta.cgroup_parent.as_str()), (2, "g"));
    assert_eq!(exec.network, onetag_llb::NetworkMode::Host);
    assert!(exec.mounts.iter().any(|mount| mount.target == "/dev/shm"));
    assert!(named(&lowered, "RUN make").metadata.ignore_cache && named(&lowered, "COPY a").metadata.ignore_cache);
    assert_eq!(source(&lowered, "docker-image://").attributes[attribute::IMAGE_RESOLVE_MODE], "pull");
    assert_eq!(lowered.image.config.labels["l"], "v");
    assert!(!exec.meta.env.iter().any(|line| line.contains("PROXY")), "a proxy does not count for the cache");
}

#[test]
fn copies_say_what_they_do() {
    let lowered = lowered(
        "FROM base\nUSER app\nWORKDIR /w\nCOPY --chown=a:b --chmod=u+x --exclude=*.o x y/ z/\n\
         ADD --unpack=false http://h/f%20g.tar?q=1 .\nADD --keep-git-dir=true https://h/r.git?branch=m&subdir=s /g\n",
    );
    let OpKind::File(file) = &named(&lowered, "COPY").op.kind else { panic!() };
    let FileActionKind::Copy(copy) = &file.actions[1].kind else { panic!() };
    assert_eq!((copy.source.as_str(), copy.destination.as_str()), ("/y", "/w/z/"));
    assert_eq!(copy.mode, CopyMode::Symbolic("u+x".into()));
    assert_eq!(copy.owner.as_ref().unwrap().group, Some(Owner::Name { name: "b".into(), input: Some(0) }));
    assert_eq!(
        (file.actions[1].input, file.actions[1].secondary_input, file.actions[1].output),
        (Some(2), Some(1), Some(0))
    );
    let OpKind::File(file) = &named(&lowered, "WORKDIR").op.kind else { panic!() };
    let FileActionKind::Mkdir(folder) = &file.actions[0].kind else { panic!() };
    assert_eq!(folder.owner.as_ref().unwrap().user, Some(Owner::Name { name: "app".into(), input: Some(0) }));
    assert_eq!(source(&lowered, "http://h/").attributes[attribute::HTTP_FILENAME], "f g.tar");
    let git = source(&lowered, "git://");
    assert_eq!(git.identifier, "git://h/r.git#refs/heads/m:s");
    assert_eq!(git.attributes[attribute::KEEP_GIT_DIR], "true");
    assert_eq!(git.attributes[attribute::FULL_REMOTE_URL], "https://h/r.git");
}

#[test]
fn a_linked_copy_is_independent_of_what_is_below() {
    let linked = lowered("FROM base\nRUN a\nCOPY --link b /\n");
    let copied = named(&linked, "] COPY --link b /");
    assert_eq!(copied.inputs.len(), 1, "only the context");
    let merged = named(&linked, "LINK COPY --link b /");
    assert!(matches!(merged.op.kind, OpKind::Merge(_)));
    let group = |vertex: &Vertex| vertex.metadata.progress_group.clone().unwrap();
    assert_eq!(group(copied).id, group(merged).id);
    let alone = lowered("FROM scratch\nCOPY --link b /\n");
    assert_eq!(alone.graph.len(), 2, "nothing below, nothing to merge: {:?}", names(&alone));
}

#[test]
fn the_main_context_leaves_out_what_is_ignored() {
    let fake = Fake { ignore: Some("# no\n*.log\n!keep.log\n"), ..Fake::default() };
    let lowered = try_lower("FROM base\nCOPY b a /\nADD c /\n", &amd64(), &fake).unwrap();
    let local = source(&lowered, "local://context");
    assert_eq!(local.attributes[attribute::EXCLUDE_PATTERNS], r#"["*.log","!keep.log"]"#);
    assert_eq!(local.attributes[attribute::FOLLOW_PATHS], r#"["a","b","c"]"#);
    let context = MainContext::Git { url: "https://u:p@h/r.git#v1:sub".into(), keep_git_dir: false };
    let options = LowerOptions { context, ..amd64() };
    let lowered = try_lower("FROM base\nCOPY . /\n", &options, &fake).unwrap();
    assert_eq!(source(&lowered, "git://").identifier, "git://h/r.git#v1:sub");
    assert!(names(&lowered).contains(&"[internal] load git source https://xxxxx@h/r.git#v1:sub".to_owned()));
}

#[test]
fn the_epoch_is_a_number_or_the_time_of_a_source() {
    let mut options = amd64();
    options.build_args.insert("SOURCE_DATE_EPOCH".into(), "1600000000".into());
    let lowered = try_lower("FROM base\nWORKDIR /w\n", &options, &Fake::default()).unwrap();
    assert_eq!(lowered.epoch, Some(1_600_000_000));
    let OpKind::File(file) = &named(&lowered, "WORKDIR").op.kind else { panic!() };
    let FileActionKind::Mkdir(folder) = &file.actions[0].kind else { panic!() };
    assert_eq!(folder.timestamp, Some(1_600_000_000_000_000_000));
    assert_eq!(lowered.image.history[1].created.as_deref(), Some("2020-09-13T12:26:40Z"));

    let fake = Fake::default();
    let text = "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nARG V=2\nADD https://h/a-$V.tar /\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN a\n";
    let lowered = try_lower(text, &amd64(), &fake).unwrap();
    assert_eq!(lowered.epoch, Some(1_700_000_000));
    assert_eq!(fake.asked.lock().unwrap()[0], "https://h/a-2.tar");
    assert!(exec(&lowered).meta.env.contains(&"SOURCE_DATE_EPOCH=1700000000".to_owned()));

    options.build_args.insert("SOURCE_DATE_EPOCH".into(), "nonsense".into());
    let error = try_lower("FROM base\n", &options, &Fake::default()).unwrap_err();
    assert!(error.to_string().contains("invalid SOURCE_DATE_EPOCH"), "{error}");
}

#[test]
fn without_a_platform_asked_for_the_base_decides() {
    let options = LowerOptions { target_platform: None, ..amd64() };
    let lowered = try_lower("FROM --platform=linux/arm64 base\nRUN a\n", &options, &Fake::default()).unwrap();
    assert_eq!(lowered.image.architecture, "arm64");
    assert_eq!(named(&lowered, "RUN a").op.platform, Some(Platform::linux("arm64")));
    let lowered = try_lower("FROM --platform=linux/arm64 base\n", &amd64(), &Fake::default()).unwrap();
    assert_eq!(lowered.image.architecture, "amd64", "what is asked for is what the config says");
}

#[test]
fn an_empty_image_has_no_graph() {
    let lowered = lowered("FROM scratch\nLABEL a=b\n");
    assert!(lowered.result.is_none() && lowered.graph.is_empty());
    assert!(lowered.graph.to_definition().is_empty());
}

#[test]
fn errors_name_the_nearest() {
    let error = |text: &str, target: &str| {
        let target = Some(target.to_owned()).filter(|target| !target.is_empty());
        let error = try_lower(text, &LowerOptions { target, ..amd64() }, &Fake::default()).unwrap_err();
        (error.to_string(), error.lines.last().map(|lines| lines.start))
    };
    for (text, target, words, line) in [
        ("FROM base AS build\n", "buidl", "(did you mean build?)", None),
        ("FROM scratch AS a\nCOPY --from=a x /\n", "", "circular dependency detected on stage: a", Some(2)),
        (
            "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nCOPY y /x\n",
            "a",
            "cannot copy from stage \"b\"",
            Some(2),
        ),
        ("FROM base\nRUN --mount=target=/ a\n", "", "invalid mount target", Some(2)),
        ("FROM base\nRUN --mount=type=ssh,source=a b\n", "", "ssh does not support source", Some(2)),
        ("FROM --platform=$TARGETPLATFROM base\n", "", "(did you mean TARGETPLATFORM?)", Some(1)),
        ("FROM base\nCOPY --from=$A x /\n", "", "variable expansion is not supported for --from", Some(2)),
        ("FROM base\nADD --checksum=sha256:00 a /\n", "", "checksum requires HTTP(S) or Git sources", Some(2)),
        ("FROM base\nCOPY --chmod=8888 a /\n", "", "between 0 and 07777", Some(2)),
        ("FROM absent\n", "", "absent: failed to resolve source metadata", Some(1)),
        ("FROM base\nRUN --device=vendor.com/gpu=0 a\n", "", "RUN --device is not supported", Some(2)),
        ("FROM base\nCOPY git@h:a/b.git /\n", "", "source can't be a git ref for COPY", Some(2)),
    ] {
        let (message, at) = error(text, target);
        assert!(message.contains(words), "`{words}` is not in `{message}`");
        assert_eq!(at, line, "{message}");
    }
}

#[test]
fn long_chains_of_instructions_are_lowered() {
    let text = format!("FROM base\n{}", "RUN true\n".repeat(20_000));
    let lowered = lowered(&text);
    assert_eq!(lowered.graph.len(), 20_001);
    assert_eq!(lowered.image.history.len(), 20_001);
}

/// A few hundred bytes that ask for gigabytes are refused before they take them.
#[test]
fn text_that_grows_without_end_is_refused() {
    let doubling = |word: &str, first: &str| {
        let lines: String = (0..40).map(|_| format!("{word} a=$a$a\n")).collect();
        first.replace("LINES", &lines)
    };
    let ports = "EXPOSE 1-65535\n".repeat(200);
    let chain: String = (1..3_000).map(|stage| format!("FROM s{} AS s{stage}\nLABEL a=b\n", stage - 1)).collect();
    let wide = format!("ENV a={}\n", "x".repeat(60_000));
    for text in [
        doubling("ARG", "ARG a=aa\nLINESFROM scratch\n"),
        doubling("ARG", "FROM scratch\nARG a=aa\nLINES"),
        doubling("ENV", "FROM scratch\nENV a=aa\nLINES"),
        format!("FROM scratch\n{ports}"),
        format!("FROM scratch AS s0\n{chain}"),
        format!("FROM base\n{wide}{}", "RUN x\n".repeat(2_000)),
    ] {
        let error = try_lower(&text, &amd64(), &Fake::default()).expect_err("it asks for too much").to_string();
        assert!(error.contains("hold more than") || error.contains("longer than"), "{error}");
    }
    assert!(try_lower("FROM scratch\nEXPOSE 0-65535\n", &amd64(), &Fake::default()).is_ok());
}
