//! Repositories over SSH and git's own protocol, their submodules, and what none of them may do.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use onetag_testkit::folder::program;
use onetag_testkit::user::User;
use onetag_testkit::{Finished, require};

use crate::contexts::{COPY_ALL, Site, git};
use crate::git_servers::{Mood, Server, Ssh, git_daemon, moody, sshd_program};

const FILES: [(&str, &str); 3] = [("Dockerfile", COPY_ALL), ("file", "content"), ("sub/file", "below")];

/// A build with more variables.
#[track_caller]
fn build_with(site: &Site, variables: &[(&str, &Path)], arguments: &[&str]) -> Finished {
    let _ = std::fs::remove_dir_all(site.out());
    let output = format!("type=local,dest={}", site.out().display());
    let mut command = site.onetag.command(["build", "--progress", "plain", "-o", &output].iter().chain(arguments));
    command.envs(variables.iter().copied());
    onetag_testkit::Running::start(&mut command).finish(Duration::from_secs(120))
}

fn owned(site: &Site) {
    site.onetag.user().own_tree(&site.served);
}

fn daemon(site: &Site) -> Server {
    owned(site);
    git_daemon(&site.onetag, &site.served)
}

#[test]
fn repositories_come_over_ssh_with_an_agent() {
    require!(some program("git"), "git is not installed");
    let sshd = require!(some sshd_program(), "sshd is not installed");
    require!(ok User::ordinary());
    let site = Site::new();
    site.repository("app.git", &FILES);
    let mut ssh = Ssh::start(&site.onetag, &sshd);
    owned(&site);
    let (path, socket) = (site.served.join("app.git"), ssh.socket.clone());
    let url = ssh.url(&path);
    let agent = format!("default={}", socket.display());

    site.build(&["--ssh", &agent, &format!("{url}#main:sub"), "-f", "../Dockerfile"]).failure();
    site.build(&["--ssh", &agent, &url]).success();
    site.has("file", "content");
    site.build(&["--ssh", "default=ssh/agent", &url]).success();
    // As buildx does, the agent of the caller is used for a context over SSH.
    build_with(&site, &[("SSH_AUTH_SOCK", &socket)], &[&url]).success();
    site.has("file", "content");
    site.build(&[&url]).failure().says("SSH_AUTH_SOCK is not set");

    let add = format!("FROM scratch\nADD --keep-git-dir=true {url}#v1 /a/\nCOPY --from=more sub/file /b\n");
    site.onetag.file("add/Dockerfile", add);
    let more = format!("more={url}");
    site.build(&["--ssh", &agent, "--build-context", &more, "add"]).success();
    site.has("a/file", "content");
    site.has("b", "below");
    let configuration = std::fs::read_to_string(site.out().join("a/.git/config")).expect("it stays");
    assert!(configuration.contains(&url), "{configuration}");
    site.build(&["--build-context", &more, "add"])
        .failure()
        .says("no SSH key \"default\" forwarded from the client")
        .says("--ssh default");

    // scp's form has no port; the real ssh behind a script of that name has one.
    let programs = ssh.programs(&site.onetag);
    let search = std::env::join_paths([programs, "/usr/local/bin".into(), "/usr/bin".into(), "/bin".into()]);
    let search = search.expect("no colons");
    let scp = format!("{}@127.0.0.1:{}#v1:sub", ssh.user, path.display());
    let scp_add = format!("FROM scratch\nADD {scp} /s/\nCOPY --from=named file /n\n");
    site.onetag.file("scp/Dockerfile", scp_add);
    let (named, variables) = (format!("named={scp}"), [("PATH", Path::new(&search))]);
    build_with(&site, &variables, &["--ssh", &agent, "--build-context", &named, "scp"]).success();
    site.has("s/file", "below");
    site.has("n", "below");
    let context = format!("{}@127.0.0.1:{}", ssh.user, path.display());
    build_with(&site, &variables, &["--ssh", &agent, &context]).success();
    site.has("file", "content");

    // Whoever has no key stays outside, and a host may show another key to the next build.
    ssh.add(&site.onetag, "other");
    site.onetag.run(["prune", "--all", "--force"]).success();
    site.build(&["--ssh", &agent, &url]).failure().says("Permission denied");
    ssh.add(&site.onetag, "login");
    ssh.change_host_key(&site.onetag, &sshd);
    site.build(&["--ssh", &agent, &url]).success();
}

#[test]
fn repositories_come_over_gits_own_protocol() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let commit = site.repository("app.git", &FILES);
    let bare = site.served.join("app.git");
    let tagged = ["-c", "user.name=a", "-c", "user.email=b", "tag", "-a", "-m", "said", "annotated"];
    git(&bare, &tagged);
    // A branch of the name of a tag, which means something else.
    let tree = git(&bare, &["rev-parse", "HEAD:sub"]);
    let other = git(&bare, &["commit-tree", "-m", "other", &tree]);
    git(&bare, &["update-ref", "refs/heads/v1", &other]);
    let object = git(&bare, &["rev-parse", "refs/tags/annotated"]);
    let server = daemon(&site);
    let url = format!("git://127.0.0.1:{}/app.git", server.port);
    let add = |source: &str| {
        site.onetag.file("add/Dockerfile", format!("FROM scratch\nADD {source} /a/\n"));
        site.build(&["add"])
    };
    site.build(&[&url]).success();
    site.has("file", "content");
    add(&format!("{url}#v1")).success();
    site.has("a/file", "below");
    add(&format!("{url}?tag=v1")).success();
    site.has("a/file", "content");
    add(&format!("{url}#refs/tags/v1:sub")).success();
    site.has("a/file", "below");
    for checksum in [&commit, &object, &commit[..12]] {
        add(&format!("{url}?tag=annotated&checksum={checksum}")).success();
    }
    let wrong = "0".repeat(40);
    let both = format!("expected checksum to match {wrong}, got {object} or {commit}");
    add(&format!("{url}?tag=annotated&checksum={wrong}")).failure().says(&both);
    add(&format!("{url}?checksum=xyz")).failure().says("expected hex commit hash");
    add(&format!("{url}?ref=any&fetch-by-commit&checksum={commit}")).success();
    site.has("a/file", "content");
    add(&format!("{url}#absent")).failure().says("repository does not contain ref absent");

    add(&format!("--keep-git-dir=true {url}#annotated")).success();
    let kept = site.out().join("a");
    assert_eq!(git(&kept, &["describe"]), "annotated");
    assert_eq!(git(&kept, &["remote", "get-url", "origin"]), url);
    assert!(!kept.join(".git/FETCH_HEAD").exists());
}

#[test]
fn files_of_a_checkout_do_not_depend_on_the_callers_mask() {
    use std::os::unix::fs::PermissionsExt;
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    site.repository("app.git", &FILES);
    let server = daemon(&site);
    let url = format!("git://127.0.0.1:{}/app.git", server.port);
    let line = format!("umask 077; exec {} build -o out {url}", site.onetag.binary().display());
    let mut command = site.onetag.program("sh");
    onetag_testkit::Running::start(command.args(["-c", &line])).finish(Duration::from_secs(60)).success();
    let mode = |path: &str| std::fs::metadata(site.out().join(path)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode("file"), mode("sub"), mode("sub/file")), (0o644, 0o755, 0o644));
}

/// A commit with a file and submodules: their paths, addresses and more lines for each.
fn with_submodules(site: &Site, name: &str, submodules: &[(&str, &str, &str)], commit: &str) {
    site.repository(name, &[("Dockerfile", COPY_ALL), ("own", "own")]);
    let bare = site.served.join(name);
    let work = site.onetag.work().join("work-tree");
    let mut modules = String::new();
    for (number, (path, url, more)) in submodules.iter().enumerate() {
        modules.push_str(&format!("[submodule \"s{number}\"]\n\tpath = {path}\n\turl = {url}\n{more}"));
    }
    std::fs::write(work.join(".gitmodules"), modules).expect("own folder");
    git(&work, &["add", "."]);
    for (path, ..) in submodules {
        if !path.contains("..") {
            git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
        }
    }
    git(&work, &["commit", "--quiet", "-m", "with submodules"]);
    git(&work, &["push", "--quiet", "--force", bare.to_str().expect("text"), "HEAD:main"]);
}

#[test]
fn submodules_are_fetched_by_relative_addresses_too() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let leaf = site.repository("leaf.git", &[("leaf", "leaf")]);
    with_submodules(&site, "group/middle.git", &[("deep", "../../leaf.git", "")], &leaf);
    let middle = git(&site.served.join("group/middle.git"), &["rev-parse", "main"]);
    let server = daemon(&site);
    let address = format!("127.0.0.1:{}", server.port);
    let web = site.web.url("group/middle.git");
    for (name, middle_url) in [("one.git", "./group/middle.git"), ("two.git", web.as_str())] {
        let relative = if name == "one.git" { format!("../{}", &middle_url[2..]) } else { middle_url.to_owned() };
        with_submodules(&site, name, &[("inner", &relative, "")], &middle);
        owned(&site);
        site.build(&[&format!("git://{address}/{name}")]).success();
        site.has("own", "own");
        site.has("inner/own", "own");
        site.has("inner/deep/leaf", "leaf");
        assert!(!site.out().join("inner/.git").exists());
    }
    // Over HTTP, and as a source of ADD, with and without.
    for (query, is_there) in [("", true), ("?submodules=0", false), ("#main:inner", true)] {
        let source = format!("{}{query}", site.web.url("one.git"));
        site.onetag.file("add/Dockerfile", format!("FROM scratch\nADD {source} /a/\n"));
        site.build(&["add"]).success();
        let path = if query.contains("inner") { "a/deep/leaf" } else { "a/inner/deep/leaf" };
        assert_eq!(site.out().join(path).exists(), is_there, "{query}");
    }
    if let (Some(sshd), Ok(_)) = (sshd_program(), User::ordinary()) {
        let ssh = Ssh::start(&site.onetag, &sshd);
        let agent = format!("default={}", ssh.socket.display());
        site.build(&["--ssh", &agent, &ssh.url(&site.served.join("one.git"))]).success();
        site.has("inner/deep/leaf", "leaf");
    }
}

#[test]
fn submodules_run_nothing_and_stay_inside() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let leaf = site.repository("leaf.git", &[("leaf", "leaf")]);
    let server = daemon(&site);
    let leaf_url = format!("git://127.0.0.1:{}/leaf.git", server.port);
    let marker = site.onetag.work().join("touched");
    let touch = format!("touch {}", marker.display());
    let secret = site.onetag.file("secret-of-the-host", "secret");
    let local = site.served.join("leaf.git").display().to_string();
    let outside = site.onetag.work().join("outside");
    let update = format!("\tupdate = !{touch}\n");
    for (number, (path, url, more)) in [
        ("m", &*format!("ext::sh -c '{touch}'"), ""),
        ("m", &*format!("\"--upload-pack={touch}\""), ""),
        ("m", &*format!("\"ssh://-oProxyCommand={touch}/x\""), ""),
        ("m", &*format!("\"ssh://127.0.0.1/-oProxyCommand={touch}\""), ""),
        ("m", &*format!("file://{local}"), ""),
        ("m", &*local, ""),
        ("m", &*leaf_url, &*update),
        ("../../outside", &*leaf_url, ""),
        (".git/modules/x", &*leaf_url, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("evil-{number}.git");
        if path.starts_with(".git/") {
            // git itself keeps such a path out of an index; the text of .gitmodules is enough to try.
            with_submodules(&site, &name, &[("../../.git/x", url, more)], &leaf);
        } else {
            with_submodules(&site, &name, &[(path, url, more)], &leaf);
        }
        owned(&site);
        let built = site.build(&[&format!("git://127.0.0.1:{}/{name}", server.port)]);
        assert!(built.status.code().is_some_and(|code| code <= 1), "{url}: {built}");
        assert!(!marker.exists(), "{url}: {built}");
        assert!(!outside.exists(), "{path}: {built}");
        assert!(!site.out().join("m/leaf").exists(), "{url}: {built}");
    }
    // A symbolic link where a submodule belongs.
    site.repository("link.git", &[("Dockerfile", COPY_ALL)]);
    let work = site.onetag.work().join("work-tree");
    std::os::unix::fs::symlink(site.onetag.work(), work.join("way")).expect("own folder");
    let modules = format!("[submodule \"s\"]\n\tpath = way/inner\n\turl = {leaf_url}\n");
    std::fs::write(work.join(".gitmodules"), modules).expect("own folder");
    git(&work, &["add", "."]);
    git(&work, &["commit", "--quiet", "-m", "link"]);
    git(&work, &["push", "--quiet", site.served.join("link.git").to_str().expect("text"), "HEAD:main"]);
    owned(&site);
    site.build(&[&format!("git://127.0.0.1:{}/link.git", server.port)]);
    assert!(!site.onetag.work().join("inner").exists());
    // Links of a checkout lead nowhere outside it.
    let copied = format!("FROM scratch\nCOPY --from=evil way/{} /x\n", secret.file_name().unwrap().to_string_lossy());
    site.onetag.file("copy/Dockerfile", copied);
    let evil = format!("evil=git://127.0.0.1:{}/link.git", server.port);
    site.build(&["--build-context", &evil, "copy"]);
    assert!(!std::fs::read_to_string(site.out().join("x")).is_ok_and(|text| text == "secret"));
}

#[test]
fn addresses_are_no_options_and_no_programs() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let marker = site.onetag.work().join("touched");
    let touch = format!("touch${{IFS}}{}", marker.display());
    site.repository("app.git", &FILES);
    let server = daemon(&site);
    let url = format!("git://127.0.0.1:{}/app.git", server.port);
    for source in [
        format!("ssh://-oProxyCommand={touch}/app.git"),
        format!("ssh://git@-oProxyCommand={touch}/app.git"),
        format!("git://--upload-pack={touch}/app.git"),
        format!("git@127.0.0.1:--upload-pack={touch}"),
        "-oProxyCommand@127.0.0.1:x".to_owned(),
        format!("{url}#--upload-pack={touch}"),
        format!("{url}?ref=--upload-pack={touch}"),
        format!("{url}?branch=--upload-pack={touch}"),
        format!("{url}?checksum=--upload-pack={touch}"),
        format!("{url}?subdir=../../../../etc"),
        format!("{url}?subdir=outside"),
        format!("{url}#v1:outside/ssh"),
    ] {
        site.onetag.file("add/Dockerfile", format!("FROM scratch\nADD [\"{source}\", \"/a/\"]\n"));
        let agent = format!("default={}", site.onetag.work().display());
        let named = format!("named={source}");
        site.onetag.file("from/Dockerfile", "FROM scratch\nCOPY --from=named . /a/\n");
        for arguments in [vec!["add"], vec![&*source], vec!["--build-context", &*named, "from"], vec!["--ssh", &*agent]]
        {
            site.build(&arguments).failure();
            assert!(!marker.exists(), "{source}");
            assert!(!site.out().join("a/passwd").exists(), "{source}");
        }
    }
}

#[test]
fn passwords_in_addresses_are_shown_and_kept_nowhere() {
    const PASSWORD: &str = "s3cr3t-w0rd";
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    site.repository("app.git", &FILES);
    let server = daemon(&site);
    let (metadata, image) = (site.onetag.work().join("metadata.json"), site.onetag.work().join("image.tar"));
    let url = |scheme: &str, port: u16| format!("{scheme}://me:{PASSWORD}@127.0.0.1:{port}/app.git");
    let git_url = url("git", server.port);
    let dockerfile = format!("FROM scratch\nADD --keep-git-dir=true {git_url} /a/\n");
    site.onetag.file("add/Dockerfile", &dockerfile);
    let encoded = base64::engine::general_purpose::STANDARD.encode(&dockerfile[..60]);
    let secrets = [PASSWORD.to_owned(), encoded];
    for context in ["add", &git_url] {
        for progress in ["plain", "rawjson"] {
            let (metadata, output) = (metadata.display().to_string(), format!("type=oci,dest={}", image.display()));
            let flags = ["build", "--no-cache", "--progress", progress, "--metadata-file", &metadata, "-o", &output];
            let attested = ["--provenance", "mode=max", context];
            let built = site.onetag.run(flags.iter().chain(&attested)).success();
            let mut written = std::fs::read(&image).expect("an image");
            written.extend(std::fs::read(&metadata).expect("metadata"));
            written.extend_from_slice(built.stderr.as_bytes());
            written.extend_from_slice(&built.stdout);
            for secret in &secrets {
                let is_secret = |bytes: &[u8]| bytes == secret.as_bytes();
                assert!(!written.windows(secret.len()).any(is_secret), "{context} {progress}: {secret}\n{built}");
            }
        }
    }
    // Nobody listens there.
    for failing in [url("ssh", 1), url("git", 1), url("http", 1)] {
        let agent = site.onetag.work().display().to_string();
        site.onetag.file("add/Dockerfile", format!("FROM scratch\nADD {failing} /a/\n"));
        for arguments in [vec![&*failing], vec!["add"], vec!["--ssh", &*agent, "add"]] {
            let failed = site.build(&arguments).failure();
            assert!(!failed.stderr.contains(PASSWORD), "{failed}");
        }
    }
}

#[test]
fn servers_that_come_to_no_end_are_given_up() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let configuration = site.onetag.file("config.toml", "[transfer]\nstall = 2\n");
    for mood in [Mood::Silent, Mood::Endless] {
        let url = format!("git://{}/app.git", moody(mood));
        let start = Instant::now();
        build_with(&site, &[("ONETAG_CONFIG", &configuration)], &[&url])
            .failure()
            .says("git fetch failed: nothing arrived for 2 seconds");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

/// A few hundred bytes that name ten thousand million files.
#[test]
fn repositories_of_countless_files_are_refused() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    site.repository("app.git", &FILES);
    let bare = site.served.join("app.git");
    let mut object = ("blob", "100644", git(&bare, &["rev-parse", "HEAD:file"]));
    for _ in 0..10 {
        let (kind, mode, name) = &object;
        let entries: String = (0..10).map(|number| format!("{mode} {kind} {name}\tf{number}\n")).collect();
        let list = site.onetag.file("entries", entries);
        let line = format!("git --git-dir {} mktree < {}", bare.display(), list.display());
        let output = std::process::Command::new("sh").args(["-c", &line]).output().expect("sh starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        object = ("tree", "040000", String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let commit = git(&bare, &["commit-tree", "-m", "many", &object.2]);
    git(&bare, &["update-ref", "refs/heads/many", &commit]);
    let server = daemon(&site);
    let url = format!("git://127.0.0.1:{}/app.git#many", server.port);
    site.build(&[&url]).failure().says("the repository has more than 5000000 files");
}

/// SOURCE_DATE_EPOCH that names a source means the time of its last change.
#[test]
fn the_time_of_a_build_may_be_that_of_a_source() {
    require!(some program("git"), "git is not installed");
    let site = Site::new();
    let commit = site.repository("app.git", &FILES);
    let time: i64 =
        git(&site.served.join("app.git"), &["show", "-s", "--format=%ct", &commit]).parse().expect("a number");
    let server = daemon(&site);
    let url = format!("git://127.0.0.1:{}/app.git", server.port);
    let created = |arguments: &[&str]| {
        let image = site.onetag.work().join("image");
        let _ = std::fs::remove_dir_all(&image);
        let output = format!("type=oci,tar=false,dest={}", image.display());
        site.onetag.run(["build", "--progress", "plain", "-o", &output].iter().chain(arguments)).success();
        let reference = format!("oci:{}", image.display());
        let found = site.onetag.run(["imagetools", "inspect", "--format", "{{json .Image}}", &reference]).success();
        let found: serde_json::Value = serde_json::from_str(found.text()).expect("JSON");
        let config = found.as_object().and_then(|platforms| platforms.values().find(|value| value.is_object()));
        let config = if found["created"].is_string() { &found } else { config.expect("an image") };
        let created = config["created"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
        created.as_second()
    };
    let with = |value: &str| format!("SOURCE_DATE_EPOCH={value}");
    assert_eq!(created(&["--build-arg", &with("context"), &url]), time);

    let stage = format!("FROM scratch AS source\nADD {url}#main /\nFROM scratch\nCOPY --from=source file /f\n");
    site.onetag.file("stage/Dockerfile", stage);
    let named = format!("named={url}#v1");
    assert_eq!(created(&["--build-arg", &with("source"), "stage"]), time);
    assert_eq!(created(&["--build-arg", &with("named"), "--build-context", &named, "stage"]), time);

    // A server that tells no time: the newest file of an archive has one, anything else has none.
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mtime, content) in [("Dockerfile", 1_400_000_000, "FROM scratch\nCOPY a /\n"), ("a", 1_500_000_000, "a")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(mtime);
        archive.append_data(&mut header, name, content.as_bytes()).expect("memory");
    }
    std::fs::write(site.served.join("context.tar"), archive.into_inner().expect("memory")).expect("own folder");
    let context = site.web.url("context.tar");
    assert_eq!(created(&["--build-arg", &with("context"), &context]), 1_500_000_000);

    // A folder of this host has no time of its own, as with BuildKit: the build has the time at which it is made.
    site.onetag.file("plain/Dockerfile", "FROM scratch\nCOPY <<A /a\nx\nA\n");
    assert!(created(&["--build-arg", &with("context"), "plain"]) > time - 600);
    let unknown = site.onetag.run(["build", "--progress", "plain", "--build-arg", &with("nothing"), "plain"]);
    unknown.failure().says("invalid SOURCE_DATE_EPOCH: nothing");
    let line = format!("build --progress plain --build-arg {} --build-context bad={url}#absent stage", with("bad"));
    site.onetag.line(&line).failure().says("repository does not contain ref absent");
}
