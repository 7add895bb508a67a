//! Images of which the store has some platforms only: what every command does with the others, and what it says.

use onetag_testkit::fault::FaultyRegistry;
use onetag_testkit::fixture::{Multi, PLATFORMS};
use onetag_testkit::{Finished, Onetag};

use crate::support::World;

/// The platforms of `images --tree` with whether they are here.
fn here(onetag: &Onetag) -> Vec<(String, bool)> {
    let tree = onetag.ok("images --tree");
    let platforms = tree.text().lines().map(str::to_owned).filter(|line| line.contains("─ "));
    let parse = |line: String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1].to_owned(), words.last() == Some(&"yes"))
    };
    platforms.map(parse).collect()
}

fn only(wanted: &[&str]) -> Vec<(String, bool)> {
    PLATFORMS.iter().map(|platform| ((*platform).to_owned(), wanted.contains(platform))).collect()
}

fn blob_count(onetag: &Onetag) -> usize {
    std::fs::read_dir(onetag.root().join("blobs/sha256")).expect("a store").count()
}

/// The index as the store has it, which is the one of the registry.
fn is_exact(onetag: &Onetag, name: &str, multi: &Multi) {
    let raw = onetag.ok(&format!("imagetools inspect --raw store:{name}"));
    assert_eq!(raw.stdout, multi.index.bytes(), "the index is what it was");
}

#[test]
fn a_platform_goes_and_comes_back_and_the_index_stays_as_it_is() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --all-platforms {name}"));
    onetag.ok(&format!("rmi --platform {} {name}", PLATFORMS[1]));
    is_exact(onetag, &name, &multi);
    let others: Vec<&str> = PLATFORMS.iter().copied().filter(|platform| *platform != PLATFORMS[1]).collect();
    assert_eq!(here(onetag), only(&others));
    assert!(onetag.ok("images").text().contains("(1 not here)"));
    // the content goes with the next collection, and what the others have in common stays
    let before = blob_count(onetag);
    onetag.ok("image prune --force");
    assert_eq!(before - blob_count(onetag), 2, "a config and a layer");
    onetag.ok("fsck");
    is_exact(onetag, &name, &multi);
    let again = onetag.line(&format!("rmi --platform {} {name}", PLATFORMS[1])).failure();
    assert!(again.stderr.contains("its content is not here"), "{again}");
    onetag.line("image inspect --platform linux/riscv64 app:1").failure();
    onetag.ok(&format!("pull --platform {} {name}", PLATFORMS[1]));
    assert_eq!(here(onetag), only(&PLATFORMS));
    // the name goes with the last platform that is here
    onetag.ok(&format!("rmi --platform {} {name}", others.join(",")));
    assert_eq!(here(onetag), only(&[PLATFORMS[1]]));
    let last = onetag.ok(&format!("rmi --platform {} {name}", PLATFORMS[1]));
    assert!(last.text().contains(&format!("Untagged: {name}")), "{last}");
    assert_eq!(here(onetag), Vec::new());
    onetag.ok("image prune --force");
    assert_eq!(blob_count(onetag), 0);
}

#[test]
fn a_platform_that_other_names_have_goes_by_force_only() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --all-platforms {name}"));
    onetag.ok(&format!("tag {name} alias:1"));
    onetag.ok(&format!("tag {name}@{} alone:1", multi.images[0].manifest.digest()));
    let refused = onetag.line(&format!("rmi --platform {} {name}", PLATFORMS[0])).failure();
    assert!(refused.stderr.contains("alias:1, alone:1"), "{refused}");
    let hint = format!("hint: onetag rmi --force --platform {} {name}", PLATFORMS[0]);
    assert!(refused.stderr.contains(&hint), "{refused}");
    assert_eq!(here(onetag).iter().filter(|(_, here)| !here).count(), 0, "nothing went");
    let forced = onetag.ok(&format!("rmi --force --platform {} {name}", PLATFORMS[0]));
    assert!(forced.text().contains("Untagged: alone:1") && !forced.text().contains("alias"), "{forced}");
    is_exact(onetag, "alias:1", &multi);
    assert_eq!(here(onetag).iter().filter(|(_, here)| !here).count(), 2, "of both names");
}

/// Asserts that a command fails for a platform that is not here and tells how to have it.
fn tells_how(finished: Finished, platform: &str, name: &str) {
    let finished = finished.failure();
    assert!(finished.stderr.contains(&format!("{platform} is in the index but its content is not here")), "{finished}");
    assert!(finished.stderr.contains(&format!("hint: onetag pull --platform {platform} {name}\n")), "{finished}");
    assert!(finished.stderr.contains("    (that one is here)\n"), "{finished}");
}

#[test]
fn an_absent_platform_is_told_alike_by_all_commands() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, _) = world.push_tiny("app:1", &PLATFORMS);
    let (there, absent) = (PLATFORMS[0], PLATFORMS[3]);
    onetag.ok(&format!("pull --platform {there} {name}"));
    for command in ["image inspect", "history", "push", "save -o /dev/null", "run --pull never"] {
        let words = format!("{command} --platform {absent} {name}");
        tells_how(onetag.line(&words), absent, &name);
    }
    // where it is asked for by its digest, a name that a registry understands is told
    let id = onetag.ok("images -q").text().trim().to_owned();
    tells_how(onetag.line(&format!("history --platform {absent} {id}")), absent, &name);
    for command in ["image inspect", "history", "save -o /dev/null"] {
        let unknown = onetag.line(&format!("{command} nothing:1")).failure();
        assert!(unknown.stderr.ends_with("hint: onetag pull nothing:1\n"), "{unknown}");
    }
}

#[test]
fn a_push_takes_from_the_registry_what_is_not_here() {
    let world = World::any();
    let other = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --platform {} {name}", PLATFORMS[0]));
    // the same repository has all of it
    let copy = world.reference("app:2");
    onetag.ok(&format!("tag {name} {copy}"));
    let pushed = onetag.ok(&format!("push {copy}"));
    assert!(pushed.stderr.contains(&format!("{} is not here; the registry had it already", PLATFORMS[1])), "{pushed}");
    assert_eq!(world.raw(&copy), multi.index.bytes());
    // another repository of the same registry has it: mounted, nothing moves
    let proxy = FaultyRegistry::start(world.registry.address());
    let (source, mounted) = (format!("{}/app:1", proxy.name()), format!("{}/mounted:1", proxy.name()));
    onetag.ok(&format!("tag {name} {source}"));
    onetag.ok(&format!("tag {name} {mounted}"));
    onetag.ok(&format!("push {mounted}"));
    let requests = proxy.requests();
    let moved = |request: &&onetag_testkit::fault::Request| request.method == "GET" && request.path.contains("/blobs/");
    assert_eq!(requests.iter().filter(moved).count(), 0, "{requests:?}");
    assert_eq!(world.raw(&world.reference("mounted:1")), multi.index.bytes());
    // another registry is asked only when that is allowed
    let target = other.reference("app:1");
    onetag.ok(&format!("tag {name} {target}"));
    let refused = onetag.line(&format!("push {target}")).failure();
    for platform in &PLATFORMS[1..] {
        assert!(refused.stderr.contains(platform), "{refused}");
    }
    assert!(refused.stderr.contains(&format!("hint: onetag push --platform {} {target}", PLATFORMS[0])), "{refused}");
    assert!(refused.stderr.contains(&format!("hint: onetag push --pull {target}")), "{refused}");
    let before = blob_count(onetag);
    onetag.ok(&format!("push --pull {target}"));
    assert_eq!(blob_count(onetag), before, "nothing of it touched the store");
    assert_eq!(other.raw(&target), multi.index.bytes());
}

#[test]
fn an_archive_of_a_partial_image_says_what_is_not_in_it() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --platform {} {name}", PLATFORMS[0]));
    let blobs = |archive: &str| {
        let listing = onetag.run_program("tar", &format!("tf {archive}")).success();
        listing.text().lines().filter(|line| line.starts_with("blobs/sha256/") && !line.ends_with('/')).count()
    };
    let saved = onetag.ok(&format!("save -o part.tar {name}"));
    assert!(saved.stderr.contains(&format!("not in the archive: {}", PLATFORMS[1..].join(", "))), "{saved}");
    assert!(saved.stderr.contains("hint: onetag save --pull"), "{saved}");
    assert_eq!(blobs("part.tar"), 4, "index, manifest, config, layer");
    let loading = World::any();
    std::fs::copy(onetag.work().join("part.tar"), loading.onetag.work().join("part.tar")).expect("a copy");
    loading.onetag.user().own_tree(&loading.onetag.work());
    loading.onetag.ok("load -i part.tar");
    assert_eq!(here(&loading.onetag), only(&PLATFORMS[..1]));
    is_exact(&loading.onetag, &name, &multi);
    let whole = onetag.ok(&format!("save --pull -o whole.tar {name}"));
    assert!(!whole.stderr.contains("here in part"), "{whole}");
    assert_eq!(blobs("whole.tar"), 1 + 3 * PLATFORMS.len());
    assert_eq!(here(onetag), only(&PLATFORMS));
}

#[test]
fn what_is_attested_is_shown_when_asked_for_and_goes_with_its_platform() {
    let world = World::any();
    let onetag = &world.onetag;
    let context = world.context("app", "FROM scratch\nCOPY f /\n", &[("f", "a file")]);
    onetag.ok(&format!("build --platform linux/amd64,linux/arm64 --provenance=true --load -t app:1 {context}"));
    let lines = |arguments: &str| onetag.ok(arguments).text().lines().count();
    assert_eq!(lines("images --tree"), 4);
    assert!(onetag.ok("images --tree -a").text().contains("linux/arm64 attested"));
    let row =
        |arguments: &str| -> serde_json::Value { serde_json::from_slice(&onetag.ok(arguments).stdout).expect("JSON") };
    assert_eq!(row("images --format json")["Manifests"].as_array().map(Vec::len), Some(2));
    let all = row("images -a --format json");
    assert_eq!(all["Manifests"].as_array().map(Vec::len), Some(4), "{all}");
    assert_eq!(all["Manifests"][0]["Available"], true);
    // both have the layer; configs are their own
    let (size, shared) = (&all["Manifests"][0]["Size"], &all["Manifests"][0]["SharedSize"]);
    assert!(shared.as_u64() > Some(0) && shared.as_u64() < size.as_u64(), "{all}");
    let removed = onetag.ok("rmi --platform linux/arm64 app:1");
    assert_eq!(removed.text().matches("Deleted: ").count(), 2, "{removed}");
    onetag.ok("fsck");
}

#[test]
fn platforms_are_counted_and_pruned_by_themselves() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --all-platforms {name}"));
    let listed = |filter: &str| {
        let shown = onetag.run(["du", "--filter", filter, "--format", "{{.ID}}", "--verbose"]).success();
        shown.text().lines().count()
    };
    assert_eq!(listed(&format!("platform={}", PLATFORMS[2])), 3, "manifest, config, layer");
    assert_eq!((listed("unused=true"), listed("unused=false")), (0, 1 + 3 * PLATFORMS.len()));
    onetag.line("image prune --force --filter platform=linux/arm64").failure().says("--all");
    onetag.ok(&format!("image prune --all --force --filter platform={}", PLATFORMS[2]));
    assert_eq!(listed(&format!("platform={}", PLATFORMS[2])), 0);
    let others: Vec<&str> = PLATFORMS.iter().copied().filter(|platform| *platform != PLATFORMS[2]).collect();
    assert_eq!(here(onetag), only(&others));
    is_exact(onetag, &name, &multi);
}

#[test]
fn a_base_whose_platform_is_not_here_and_not_to_be_had_says_so() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, _) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --platform {} {name}", PLATFORMS[0]));
    // a registry that does not have it
    let base = world.reference("elsewhere:1");
    onetag.ok(&format!("tag {name} {base}"));
    let context = world.context("based", &format!("FROM {base}\nLABEL a=b\n"), &[]);
    onetag.ok(&format!("build --platform {} {context}", PLATFORMS[0]));
    let failed = onetag.line(&format!("build --platform {} {context}", PLATFORMS[3])).failure();
    assert!(
        failed.stderr.contains(&format!("{} is in the index but its content is not here", PLATFORMS[3])),
        "{failed}"
    );
    assert!(failed.stderr.contains(&format!("hint: onetag pull --platform {} {base}", PLATFORMS[3])), "{failed}");
}

/// Copies an archive to where another user's commands find it.
fn hand_over(from: &Onetag, to: &Onetag, archive: &str) {
    std::fs::copy(from.work().join(archive), to.work().join(archive)).expect("a copy");
    to.user().own_tree(&to.work());
}

#[test]
fn several_platforms_of_an_image_are_saved_loaded_and_pushed() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, multi) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --all-platforms {name}"));
    let (some, list) = (&PLATFORMS[1..3], PLATFORMS[1..3].join(","));

    // the index stays what it is, in an archive of some platforms and in one of all of which some are loaded
    let saved = onetag.ok(&format!("save --platform {list} -o some.tar {name}"));
    assert_eq!(saved.stderr, "", "what is left out was not asked for");
    onetag.ok(&format!("save -o all.tar {name}"));
    for (archive, flags) in [("some.tar", String::new()), ("all.tar", format!("--platform {list}"))] {
        let other = World::any();
        hand_over(onetag, &other.onetag, archive);
        let loaded = other.onetag.ok(&format!("load {flags} -i {archive}"));
        assert_eq!(here(&other.onetag), only(some), "{archive}");
        is_exact(&other.onetag, &name, &multi);
        let is_told = loaded.stderr.contains(&format!("not in the archive: {}", PLATFORMS[0]));
        assert_eq!(is_told, flags.is_empty(), "{loaded}");
        other.onetag.ok("image prune --force");
        assert_eq!(blob_count(&other.onetag), 1 + 3 * some.len(), "{archive}");
        other.onetag.ok("fsck");
        // what is here stays when some of it is loaded again
        hand_over(onetag, &other.onetag, "all.tar");
        other.onetag.ok(&format!("load --platform {},{} -i all.tar", PLATFORMS[0], PLATFORMS[1]));
        assert_eq!(here(&other.onetag), only(&PLATFORMS[..3]), "{archive}");
    }

    // a registry takes no index that names what it does not have
    let smaller = world.reference("smaller:1");
    onetag.ok(&format!("tag {name} {smaller}"));
    let pushed = onetag.ok(&format!("push --platform {list} {smaller}"));
    assert!(pushed.stderr.contains("is a smaller index there"), "{pushed}");
    let index: serde_json::Value = serde_json::from_slice(&world.raw(&smaller)).expect("an index");
    let digests: Vec<_> =
        index["manifests"].as_array().expect("manifests").iter().map(|entry| &entry["digest"]).collect();
    let expected: Vec<_> = multi.images[1..3].iter().map(|image| image.manifest.digest().as_str()).collect();
    assert_eq!(digests, expected);

    let inspected =
        onetag.run(["image", "inspect", "--platform", &list, "--format", "{{.Architecture}}", &name]).success();
    let architectures: Vec<_> =
        some.iter().map(|platform| platform.split('/').nth(1).expect("an architecture")).collect();
    assert_eq!(inspected.text().lines().collect::<Vec<_>>(), architectures);

    onetag.ok(&format!("tag --platform {} {name} alone:1", PLATFORMS[2]));
    let alone = onetag.run(["images", "--format", "{{.Digest}} {{.Platforms}}", "alone"]).success();
    let expected = format!("{} {}\n", multi.images[2].manifest.digest(), PLATFORMS[2]);
    assert_eq!(alone.text(), expected);
}

#[test]
fn one_absent_platform_of_several_is_told_before_anything_moves() {
    let world = World::any();
    let onetag = &world.onetag;
    let (name, _) = world.push_tiny("app:1", &PLATFORMS);
    onetag.ok(&format!("pull --platform {} {name}", PLATFORMS[0]));
    let (target, absent) = (world.reference("other:1"), PLATFORMS[3]);
    onetag.ok(&format!("tag {name} {target}"));
    let list = format!("{},{absent}", PLATFORMS[0]);
    tells_how(onetag.line(&format!("push --platform {list} {target}")), absent, &target);
    onetag.line(&format!("imagetools inspect {target}")).failure();
    for command in ["image inspect", "save -o some.tar"] {
        tells_how(onetag.line(&format!("{command} --platform {list} {name}")), absent, &name);
    }
    assert!(!onetag.work().join("some.tar").exists());
    tells_how(onetag.line(&format!("tag --platform {absent} {name} other:2")), absent, &name);
}

#[test]
fn a_docker_engine_on_this_machine_is_told_how_to_get_what_was_loaded() {
    let world = World::any();
    let onetag = &world.onetag;
    let context = world.context("app", "FROM scratch\nCOPY f /\n", &[("f", "a file")]);
    let build = |output: &str| onetag.ok(&format!("build {output} -t app:1 {context}")).stderr;
    assert!(!build("--load").contains("docker load"), "there is no engine");
    let socket = onetag.work().parent().expect("a folder").join("run/docker.sock");
    let _engine = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let hint = "hint: onetag save app:1 | docker load ";
    assert!(build("--load").contains(hint), "{}", build("--load"));
    assert!(!build("--load --quiet").contains("docker load"));
    assert!(!build(&format!("-o type=oci,dest={}", onetag.work().join("app.tar").display())).contains("docker load"));
}
