//! Contexts that are no folder, Dockerfiles from elsewhere, and what remote sources must not do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use onetag_testkit::folder::program;
use onetag_testkit::user::User;
use onetag_testkit::{Finished, Onetag, Running, require};
use serde_json::{Value, json};

use crate::support::BINARY;
use crate::web::{TOKEN, Web};

const LIMIT: Duration = Duration::from_secs(60);

/// A store of its own with a folder that is served.
pub struct Site {
    pub onetag: Onetag,
    pub web: Web,
    pub served: PathBuf,
}

impl Site {
    pub fn new() -> Site {
        let onetag = Onetag::new(BINARY, User::ordinary().unwrap_or_else(|_| User::current()));
        let served = onetag.work().join("served");
        std::fs::create_dir(&served).expect("own folder");
        let web = Web::start(served.clone());
        Site { onetag, web, served }
    }

    /// A repository with these files in one commit on `main`, tagged `v1`; gives the commit.
    pub fn repository(&self, name: &str, files: &[(&str, &str)]) -> String {
        let work = self.onetag.work().join("work-tree");
        let _ = std::fs::remove_dir_all(&work);
        for (path, content) in files {
            let path = work.join(path);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("own folder");
            std::fs::write(path, content).expect("own folder");
        }
        std::os::unix::fs::symlink("/etc", work.join("outside")).expect("own folder");
        git(&work, &["init", "--quiet", "-b", "main"]);
        git(&work, &["add", "."]);
        git(&work, &["commit", "--quiet", "-m", "first"]);
        git(&work, &["tag", "v1"]);
        let bare = self.served.join(name);
        git(&work, &["clone", "--quiet", "--bare", ".", bare.to_str().expect("text")]);
        git(&bare, &["config", "http.receivepack", "false"]);
        git(&work, &["rev-parse", "HEAD"])
    }

    /// Builds into a folder and gives what came, path by path; `arguments` follow `build`.
    pub fn build(&self, arguments: &[&str]) -> Finished {
        let destination = self.out();
        let _ = std::fs::remove_dir_all(&destination);
        let output = format!("type=local,dest={}", destination.display());
        let fixed = ["build", "--progress", "plain", "-o", &output];
        self.onetag.run(fixed.iter().chain(arguments))
    }

    /// Builds with variables in the environment and gives what the metadata file says.
    fn metadata(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Value {
        let (file, output) =
            (self.onetag.work().join("metadata.json"), format!("type=local,dest={}", self.out().display()));
        let file = file.display().to_string();
        let fixed = ["build", "--progress", "plain", "-o", &output, "--metadata-file", &file];
        let mut command = self.onetag.command(fixed.iter().chain(arguments));
        Running::start(command.envs(variables.iter().copied())).finish(LIMIT).success();
        serde_json::from_slice(&std::fs::read(&file).expect("the file")).expect("JSON")
    }

    pub fn out(&self) -> PathBuf {
        self.onetag.work().join("out")
    }

    #[track_caller]
    pub fn has(&self, path: &str, content: &str) {
        let path = self.out().join(path);
        let found = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(found, content, "{}", path.display());
    }
}

#[track_caller]
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        command.env(name, "test@example");
    }
    let output = command.args(arguments).output().expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub const COPY_ALL: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn a_repository_is_a_context_and_holds_its_dockerfile() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let files = [
        ("Dockerfile", COPY_ALL),
        ("top", "top"),
        ("sub/Dockerfile", "FROM scratch\nCOPY below /here\n"),
        ("sub/below", "below"),
        ("other.Dockerfile", "FROM scratch\nCOPY top /other\n"),
        ("lower/dockerfile", "FROM scratch\nCOPY --from=more top /lower\n"),
    ];
    let commit = site.repository("app.git", &files);
    let url = site.web.url("app.git");
    site.build(&[&url]).success();
    site.has("top", "top");
    assert!(!site.out().join(".git").exists());
    for (reference, path, content) in [
        ("#v1:sub", "here", "below"),
        ("#main:sub/", "here", "below"),
        (&*format!("#{commit}:sub"), "here", "below"),
        ("?ref=v1&subdir=sub", "here", "below"),
        (&*format!("?branch=main&checksum={commit}"), "top", "top"),
    ] {
        site.build(&[&format!("{url}{reference}")]).success();
        site.has(path, content);
    }
    site.build(&["-f", "other.Dockerfile", &url]).success();
    site.has("other", "top");
    let more = format!("more={url}#v1");
    site.build(&["--build-context", &more, &format!("{url}#:lower")]).success();
    site.has("lower", "top");
    site.build(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url]).success();
    assert!(site.out().join(".git/HEAD").exists());
    let local = site.onetag.file("local.Dockerfile", "FROM scratch\nCOPY top /local\n");
    site.build(&["-f", &local.display().to_string(), &url]).success();
    site.has("local", "top");
    let found = site.onetag.line(&format!("build --call=targets,format=json {url}")).success();
    assert!(found.text().contains("\"targets\""), "{found}");
    site.build(&["-f", "absent", &url]).failure().says("failed to read dockerfile: open absent");
}

#[test]
fn one_build_sees_one_commit() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    site.repository("app.git", &[("Dockerfile", COPY_ALL)]);
    site.build(&[&site.web.url("app.git")]).success();
    let fetches = site.web.requests().iter().filter(|request| request.starts_with("GET ")).count();
    assert_eq!(fetches, 1, "{:?}", site.web.requests());
}

#[test]
fn a_repository_cannot_be_left_and_nothing_is_injected() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    site.repository("app.git", &[("Dockerfile", COPY_ALL), ("sub/Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let url = site.web.url("app.git");
    let marker = site.onetag.work().join("touched");
    for fragment in ["#:outside", "#:sub/../outside", "?subdir=outside/.", "#main:absent"] {
        site.build(&[&format!("{url}{fragment}")]).failure().says("subdir");
    }
    // What leaves the repository by its text is the repository itself.
    site.build(&[&format!("{url}#:../../sub")]).success();
    let injected = format!("--upload-pack=touch${{IFS}}{}", marker.display());
    for reference in [&*injected, "-q", "a..b", "HEAD~1", "@{-1}"] {
        site.build(&[&format!("{url}#{reference}")]).failure().says("invalid reference");
    }
    site.build(&[&format!("ssh://-oProxyCommand=touch {}/app.git", marker.display())]).failure();
    site.build(&[&format!("ssh://-oProxyCommand=touch%20{}/app.git", marker.display())]).failure();
    site.build(&[&format!("ext::touch {}", marker.display())]).failure();
    site.build(&[&format!("file://{}/app.git", site.served.display())]).failure().says("not found");
    assert!(!marker.exists());
}

#[test]
fn repositories_are_added_with_what_is_asked_for() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let commit = site.repository("app.git", &[("file", "content"), ("sub/file", "below")]);
    let url = site.web.url("app.git");
    let add = |line: &str| {
        site.onetag.file("add/Dockerfile", format!("FROM scratch\n{line}\n"));
        site.build(&["add"])
    };
    add(&format!("ADD {url} /a/")).success();
    site.has("a/file", "content");
    assert!(!site.out().join("a/.git").exists());
    add(&format!("ADD --keep-git-dir=true {url}#v1 /a/")).success();
    assert!(site.out().join("a/.git").exists());
    add(&format!("ADD {url}#main:sub /a/")).success();
    site.has("a/file", "below");
    add(&format!("ADD --checksum={commit} {url} /a/")).success();
    let wrong = "0".repeat(40);
    add(&format!("ADD --checksum={wrong} {url} /a/"))
        .failure()
        .says(&format!("expected checksum to match {wrong}, got {commit}"));
    add(&format!("ADD {url}#absent /a/")).failure().says("absent");
}

#[test]
fn provenance_names_repositories_and_files() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    std::fs::write(site.served.join("data"), "content").expect("own folder");
    let file = site.web.url("data");
    let other = site.repository("other.git", &[("file", "other")]);
    let other_url = site.web.url("other.git#v1");
    let add = format!("FROM scratch\nCOPY . /own/\nADD {file} /data\nADD {other_url} /other/\n");
    let commit = site.repository("app.git", &[("Dockerfile", &add), ("sub/Dockerfile", &add)]);
    let context = site.web.url("app.git#main");
    let metadata = site.metadata(&[], &[&context]);
    let provenance = &metadata["buildx.build.provenance"];
    let digest = onetag_oci::Digest::sha256(b"content");
    let material = |uri: String, digest: Value| json!({ "uri": uri, "digest": digest });
    let materials = [
        material(site.web.url("app.git#main"), json!({ "sha1": commit })),
        material(other_url, json!({ "sha1": other })),
        material(file, json!({ "sha256": digest.encoded() })),
    ];
    assert_eq!(provenance["materials"], json!(materials));
    let source = &provenance["invocation"]["configSource"];
    assert_eq!(source["uri"], context);
    assert_eq!(source["digest"], json!({ "sha1": commit }));
    assert_eq!(source["entryPoint"], "Dockerfile");
    assert!(provenance["invocation"]["parameters"].get("locals").is_none(), "{provenance}");
    // A folder of a repository is the same material, and BuildKit names no digest beside its address.
    let folder = format!("{context}:sub");
    let of_folder = &site.metadata(&[], &[&folder])["buildx.build.provenance"];
    assert_eq!(of_folder["materials"], provenance["materials"]);
    assert_eq!(of_folder["invocation"]["configSource"], json!({ "uri": folder, "entryPoint": "Dockerfile" }));
    // Everything that it was made of has a name.
    let complete = ["--provenance", "complete-materials=true", &context];
    site.metadata(&[], &complete);
    site.onetag.file("folder/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    site.build(&["--provenance", "complete-materials=true", "folder"]).failure().says("is a local folder");
}

#[test]
fn variables_say_what_is_recorded() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let commit = site.repository("app.git", &[("Dockerfile", COPY_ALL), ("deep/Dockerfile", COPY_ALL)]);
    let checkout = site.onetag.work().join("checkout");
    let bare = site.served.join("app.git");
    git(&site.served, &["clone", "--quiet", &bare.display().to_string(), &checkout.display().to_string()]);
    let origin = format!("http://user:{TOKEN}@example.com/app.git");
    git(&checkout, &["remote", "set-url", "origin", &origin]);
    site.onetag.user().own_tree(&site.onetag.work());
    let recorded = |variables: &[(&str, &str)]| {
        let metadata = site.metadata(variables, &["checkout/deep"]);
        assert!(!metadata.to_string().contains(TOKEN), "{metadata}");
        metadata["buildx.build.provenance"].clone()
    };
    let of_commit = |provenance: &Value| provenance["invocation"]["parameters"]["root"]["request"]["args"].clone();
    let min = recorded(&[]);
    assert_eq!(of_commit(&min), json!({ "vcs:revision": commit, "vcs:source": "http://example.com/app.git" }));
    assert!(min.get("buildConfig").is_none() && min.get("metadata").is_none(), "{min}");
    let max = recorded(&[("BUILDX_METADATA_PROVENANCE", "max")]);
    assert!(max.get("buildConfig").is_some(), "{max}");
    assert!(max["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["vcs"]["revision"] == commit, "{max}");
    assert_eq!(recorded(&[("BUILDX_METADATA_PROVENANCE", "disabled")]), Value::Null);
    assert_eq!(recorded(&[("BUILDX_METADATA_PROVENANCE", "false")]), Value::Null);
    assert_eq!(recorded(&[("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")]), min, "nothing is attested by itself in any case");
    assert_eq!(of_commit(&recorded(&[("BUILDX_GIT_INFO", "0")])), Value::Null);
    assert_eq!(of_commit(&recorded(&[("BUILDX_GIT_CHECK_DIRTY", "1")]))["vcs:revision"], commit);
    site.onetag.file("checkout/new", "x");
    let dirty = of_commit(&recorded(&[("BUILDX_GIT_CHECK_DIRTY", "1")]));
    assert_eq!(dirty["vcs:revision"], format!("{commit}-dirty"));
    let mut command = site.onetag.command(["build", "checkout"]);
    let refused = Running::start(command.env("BUILDX_NO_DEFAULT_ATTESTATIONS", "maybe")).finish(LIMIT);
    refused.failure().says("invalid BUILDX_NO_DEFAULT_ATTESTATIONS");

    let labels = |variables: &[(&str, &str)], arguments: &[&str]| {
        let fixed = ["build", "--progress", "plain", "--load", "-t", "labelled"];
        let mut command = site.onetag.command(fixed.iter().chain(arguments));
        Running::start(command.envs(variables.iter().copied())).finish(LIMIT).success();
        let inspected =
            site.onetag.run(["image", "inspect", "--format", "{{json .Config.Labels}}", "labelled"]).success();
        serde_json::from_slice::<Value>(&inspected.stdout).expect("JSON")
    };
    assert_eq!(labels(&[], &["checkout/deep"]), Value::Null);
    let all = json!({
        "com.docker.image.source.entrypoint": "deep/Dockerfile",
        "org.opencontainers.image.revision": commit,
        "org.opencontainers.image.source": "http://example.com/app.git",
    });
    for value in ["1", "full"] {
        assert_eq!(labels(&[("BUILDX_GIT_LABELS", value), ("BUILDX_GIT_INFO", "0")], &["checkout/deep"]), all);
    }
    let outside = site.onetag.file("outside/Dockerfile", COPY_ALL).display().to_string();
    let elsewhere = labels(&[("BUILDX_GIT_LABELS", "1")], &["-f", &outside, "checkout"]);
    assert_eq!(elsewhere.get("com.docker.image.source.entrypoint"), None);
}

#[test]
fn a_variable_chooses_the_builder() {
    let site = Site::new();
    site.onetag.file("folder/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    site.onetag.ok("builder create --name mine");
    let build = |arguments: &[&str]| {
        let mut command = site.onetag.command(["build", "--progress", "plain", "folder"].iter().chain(arguments));
        Running::start(command.env("BUILDX_BUILDER", "mine")).finish(LIMIT)
    };
    let metadata = site.metadata(&[("BUILDX_BUILDER", "mine")], &["folder"]);
    assert!(metadata["buildx.build.ref"].as_str().expect("a text").starts_with("mine/mine0/"), "{metadata}");
    build(&[]).success().says("#0 building with \"mine\" instance using local driver");
    build(&["--builder", "default"]).success().says("#0 building with \"default\" instance");
    build(&["--builder", "absent"]).failure().says("absent");
}

#[test]
fn private_repositories_take_a_secret_and_show_none() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    std::fs::create_dir(site.served.join("private")).expect("own folder");
    site.repository("private/app.git", &[("Dockerfile", COPY_ALL), ("file", "content")]);
    let url = site.web.url("private/app.git");
    site.build(&[&url]).failure();
    let token = site.onetag.file("token", TOKEN).display().to_string();
    site.build(&["--secret", &format!("id=GIT_AUTH_TOKEN,src={token}"), &url]).success();
    site.has("file", "content");
    let host = site.web.address;
    let secret = format!("id=GIT_AUTH_TOKEN.{host},src={token}");
    site.onetag.run(["prune", "--all", "--force"]).success();
    site.build(&["--secret", &secret, &url]).success();

    // With user and password in the address itself: shown nowhere, kept nowhere.
    let with_user = |path: &str| site.web.url(path).replace("http://", &format!("http://x-access-token:{TOKEN}@"));
    let metadata = site.onetag.work().join("metadata.json");
    let archive = site.onetag.work().join("image.tar");
    let context = with_user("private/app.git");
    let dockerfile = format!("FROM scratch\nADD {context} /git/\nADD {} /raw\n", with_user("private/app.git/HEAD"));
    site.onetag.file("login/Dockerfile", &dockerfile);
    for context in [context.as_str(), "login"] {
        let (metadata, output) = (metadata.display().to_string(), format!("type=oci,dest={}", archive.display()));
        let flags = ["build", "--progress", "plain", "--metadata-file", &metadata, "-o", &output];
        let built = site.onetag.run(flags.iter().copied().chain([context])).success();
        let mut written = std::fs::read(&archive).expect("an image");
        written.extend(std::fs::read(&metadata).expect("metadata"));
        written.extend_from_slice(built.stderr.as_bytes());
        let is_secret = |bytes: &[u8]| bytes == TOKEN.as_bytes();
        assert!(!written.windows(TOKEN.len()).any(is_secret), "{context}\n{built}");
    }
    let (wrong, right) = (with_user("private/absent.git"), with_user("absent"));
    for failing in [wrong.as_str(), right.as_str()] {
        let failed = site.build(&[failing]).failure();
        assert!(!failed.stderr.contains(TOKEN), "{failed}");
        site.onetag.file("login/Dockerfile", format!("FROM scratch\nADD {failing} /x/\n"));
        let failed = site.build(&["login"]).failure();
        assert!(!failed.stderr.contains(TOKEN), "{failed}");
    }
}

/// The files of a context as a tar, then what a program makes of it.
fn archive(onetag: &Onetag, files: &[(&str, &str)], compress: &[&str]) -> Option<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_cksum();
        builder.append_data(&mut header, path, content.as_bytes()).expect("memory");
    }
    let plain = builder.into_inner().expect("memory");
    let Some((name, arguments)) = compress.split_first() else { return Some(plain) };
    program(name)?;
    let path = onetag.file("archive.tar", &plain);
    let output = Command::new(name).args(arguments).arg("-c").arg(path).output().expect("it starts");
    assert!(output.status.success());
    Some(output.stdout)
}

#[track_caller]
fn build_of(site: &Site, input: &[u8], arguments: &[&str]) -> Finished {
    let _ = std::fs::remove_dir_all(site.out());
    let output = format!("type=local,dest={}", site.out().display());
    let fixed = ["build", "--progress", "plain", "-o", &output];
    let mut command = site.onetag.command(fixed.iter().chain(arguments));
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut pipe = running.stdin().expect("a pipe");
    // A command that wants no more of it ends before.
    let _ = pipe.write_all(input);
    drop(pipe);
    running.finish(LIMIT)
}

#[test]
fn standard_input_is_an_archive_or_a_dockerfile() {
    let site = Site::new();
    let files = [("Dockerfile", COPY_ALL), ("dir/file", "content"), ("dir/other", "FROM scratch\nCOPY dir/file /x\n")];
    for compress in [&[][..], &["gzip"], &["bzip2"], &["xz"], &["zstd", "-q"]] {
        let Some(input) = archive(&site.onetag, &files, compress) else { continue };
        build_of(&site, &input, &["-"]).success();
        site.has("dir/file", "content");
    }
    let input = archive(&site.onetag, &files, &[]).expect("no program is needed");
    build_of(&site, &input, &["-f", "dir/other", "-"]).success();
    site.has("x", "content");
    build_of(&site, &input, &["-f", "absent", "-"]).failure().says("open absent");
    build_of(&site, &input, &["-f", "-", "-"]).failure().says("can't use stdin for both build context and dockerfile");
    build_of(&site, b"FROM scratch\nCOPY <<A /a\nx\nA\n", &["-"]).success();
    site.has("a", "x\n");
    build_of(&site, b"FROM scratch\n", &["-f", "Dockerfile", "-"]).failure().says("ambiguous Dockerfile source");
    site.onetag.file("folder/file", "content");
    build_of(&site, b"FROM scratch\nCOPY file /y\n", &["-f", "-", "folder"]).success();
    site.has("y", "content");
    let left: Vec<_> = std::fs::read_dir(site.onetag.root().join("tmp")).expect("a store").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn archives_and_dockerfiles_come_from_the_web() {
    let site = Site::new();
    let files = [("Dockerfile", COPY_ALL), ("file", "content")];
    let write = |name: &str, content: &[u8]| std::fs::write(site.served.join(name), content).expect("own folder");
    write("context.tar", &archive(&site.onetag, &files, &[]).expect("no program is needed"));
    if let Some(packed) = archive(&site.onetag, &files, &["gzip"]) {
        write("context.tgz", &packed);
        site.build(&[&site.web.url("context.tgz")]).success();
        site.has("file", "content");
    }
    site.build(&[&site.web.url("context.tar")]).success();
    site.has("file", "content");
    write("plain", b"FROM scratch\nCOPY <<A /a\nx\nA\n");
    site.build(&[&site.web.url("plain")]).success();
    site.has("a", "x\n");
    write("remote.Dockerfile", b"FROM scratch\nCOPY file /remote\nCOPY --from=raw context /raw\n");
    site.onetag.file("folder/file", "content");
    let (remote, raw) = (site.web.url("remote.Dockerfile"), format!("raw={}", site.web.url("plain")));
    site.build(&["-f", &remote, "--build-context", &raw, "folder"]).success();
    site.has("remote", "content");
    site.has("raw", "FROM scratch\nCOPY <<A /a\nx\nA\n");
    site.build(&["-f", &site.web.url("absent"), "folder"]).failure().says("404");
}

#[test]
fn named_contexts_are_of_every_kind() {
    let site = Site::new();
    site.onetag.file("named/file", "from a folder");
    site.onetag.file("named/ignored", "x");
    site.onetag.file("named/.dockerignore", "ignored\n");
    site.onetag.file("base/Dockerfile", "FROM scratch\nCOPY <<A /file\nfrom an image\nA\n");
    site.onetag.ok("build --progress plain --load -t base:1 base");
    site.onetag.ok("build --progress plain -o type=oci,dest=layout,tar=false -t base:1 base");
    site.onetag.file(
        "main/Dockerfile",
        "FROM scratch AS own\nCOPY <<A /file\nfrom a stage\nA\nFROM scratch\nCOPY --from=other . /\n",
    );
    for (context, content) in [
        ("other=named", "from a folder"),
        ("other=docker-image://base:1", "from an image\n"),
        ("other=oci-layout://layout:1", "from an image\n"),
        ("other=target:own", "from a stage\n"),
    ] {
        site.build(&["--build-context", context, "main"]).success();
        site.has("file", content);
        assert!(!site.out().join("ignored").exists());
    }
    // A context stands for the stage or the image of its name.
    site.onetag
        .file("replaced/Dockerfile", "FROM absent.example/image AS one\nFROM scratch\nCOPY --from=one file /f\n");
    for name in ["one=named", "absent.example/image=named"] {
        site.build(&["--build-context", name, "replaced"]).success();
        site.has("f", "from a folder");
    }
}
