//! Owners, set-id bits, links, attributes and devices: through builds, a registry and back; and what a user with a single id may do.

use std::collections::BTreeMap;
use std::path::Path;

use onetag_store::layer::{EntryHeader, EntryKind, Limits, TarReader, TarWriter};
use onetag_testkit::require;
use onetag_testkit::user::User;
use onetag_testkit::{Onetag, fixture};

use crate::support::{BINARY, World, local_name, native_and_foreign, said};

/// `CAP_NET_RAW`, permitted and effective, in the form without an owner (version 2).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What an archive says of each path: kind, mode, owners, link, attributes.
type Listing = BTreeMap<String, (EntryKind, u32, u32, u32, String, Vec<(String, Vec<u8>)>)>;

fn listing(archive: &Path) -> Listing {
    let file = std::fs::File::open(archive).expect("an exported archive");
    let mut reader = TarReader::new(std::io::BufReader::new(file), Limits::default());
    let mut listing = Listing::new();
    while let Some(header) = reader.next_entry().expect("an archive") {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('/').to_owned();
        let mut attributes: Vec<_> = header.xattrs.iter().map(|(name, value)| (text(name), value.clone())).collect();
        attributes.sort();
        let entry = (header.kind, header.mode & 0o7777, header.uid, header.gid, text(&header.link), attributes);
        listing.insert(text(&header.path), entry);
        while reader.next_data().expect("an archive").is_some() {}
    }
    listing
}

/// The base's program.
fn busybox(platform: &str) -> Result<Vec<u8>, String> {
    let mut archive =
        tar::Archive::new(std::fs::File::open(fixture::rootfs(platform)?).map_err(|error| error.to_string())?);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if entry.path().is_ok_and(|path| path.ends_with("bin/busybox")) {
            let mut program = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut program).map_err(|error| error.to_string())?;
            return Ok(program);
        }
    }
    Err("the base has no busybox".to_owned())
}

/// An archive with what Dockerfile instructions cannot make: attributes.
fn attributes(program: &[u8]) -> Vec<u8> {
    let mut archive = TarWriter::new(Vec::new());
    let capability = [(b"security.capability".to_vec(), NET_RAW.to_vec()), (b"user.note".to_vec(), b"kept".to_vec())];
    for (path, mode, owner, xattrs) in
        [("caps/cat", 0o755, (0, 0), &capability[..]), ("caps/note", 0o640, (7, 65_535), &capability[1..])]
    {
        let content = if path.ends_with("cat") { program } else { b"note" };
        let header = EntryHeader {
            kind: EntryKind::File,
            path: path.as_bytes(),
            link: b"",
            mode,
            uid: owner.0,
            gid: owner.1,
            size: content.len() as u64,
            mtime: 0,
            device: (0, 0),
            xattrs,
        };
        archive.header(&header).expect("memory");
        archive.data(content).expect("memory");
        archive.pad(content.len() as u64).expect("memory");
    }
    archive.finish().expect("memory")
}

#[test]
fn everything_of_a_file_survives_a_round_trip_as_root() {
    round_trip(&require!(ok World::root()));
}

#[test]
fn everything_of_a_file_survives_a_round_trip_as_an_ordinary_user() {
    round_trip(&require!(ok World::ordinary()));
}

fn round_trip(world: &World) {
    let (native, _) = native_and_foreign();
    let base = require!(ok world.push_base(&[native]));
    let program = require!(ok busybox(native));
    let lines = format!(
        "FROM {base}\nADD attributes.tar /\n\
         RUN mkdir /d && echo a > /d/a && ln /d/a /d/b && chown 1234:5678 /d/a && chmod 4755 /d/a \
         && echo c > /d/c && chown 65535:60000 /d/c && chmod 2750 /d/c && chmod 1777 /d && mkfifo -m 600 /d/p && ln -s a /d/l \
         && chown -h 9:9 /d/l && cp /bin/busybox /d/su && chmod 4711 /d/su\n\
         RUN echo more >> /caps/note && mv /caps/cat /d/cat && ln /d/cat /d/same\n"
    );
    let context = world.context("trip", &lines, &[]);
    world.onetag.file("trip/attributes.tar", attributes(&program));
    let image = world.reference("trip:1");
    world.onetag.ok(&format!("build --progress plain --network none --push -t {image} {context}"));
    // Somebody else's store.
    let other = Onetag::new(BINARY, world.onetag.user().clone());
    let export = |name: &str, dockerfile: &str| {
        other.file(&format!("{name}/Dockerfile"), dockerfile);
        let archive = other.work().join(format!("{name}.tar"));
        let (folder, output) = (other.work().join(name), format!("type=tar,dest={}", archive.display()));
        let folder = folder.display().to_string();
        other.run(["build", "--progress", "plain", "--network", "none", "-o", &output, &folder]).success();
        listing(&archive)
    };
    let first = export("first", &format!("FROM {image}\n"));
    let attribute = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    let capable = vec![attribute("security.capability", &NET_RAW), attribute("user.note", b"kept")];
    let expected: Listing = [
        ("d", (EntryKind::Directory, 0o1777, 0, 0, String::new(), vec![])),
        ("d/a", (EntryKind::File, 0o4755, 1234, 5678, String::new(), vec![])),
        ("d/b", (EntryKind::HardLink, 0o4755, 1234, 5678, "d/a".to_owned(), vec![])),
        ("d/c", (EntryKind::File, 0o2750, 65_535, 60_000, String::new(), vec![])),
        ("d/p", (EntryKind::Fifo, 0o600, 0, 0, String::new(), vec![])),
        ("d/l", (EntryKind::Symlink, 0o777, 9, 9, "a".to_owned(), vec![])),
        ("d/su", (EntryKind::File, 0o4711, 0, 0, String::new(), vec![])),
        ("d/cat", (EntryKind::File, 0o755, 0, 0, String::new(), capable)),
        ("caps/note", (EntryKind::File, 0o640, 7, 65_535, String::new(), vec![attribute("user.note", b"kept")])),
    ]
    .into_iter()
    .map(|(path, entry)| (path.to_owned(), entry))
    .collect();
    for (path, entry) in &expected {
        let mut found = first.get(path).cloned().unwrap_or_else(|| panic!("{path} is missing: {:?}", first.keys()));
        // Of a link's own attributes archives differ; what it names counts.
        if found.0 == EntryKind::HardLink {
            found.5.clear();
        }
        assert_eq!(&found, entry, "{path}");
    }
    assert_eq!((first["d/same"].0, first["d/same"].4.as_str()), (EntryKind::HardLink, "d/cat"));
    assert!(!first.contains_key("caps/cat"));
    // Once more through overlay, which copies a file up when a step only opens it; their links would part there.
    let second =
        export("second", &format!("FROM {image}\nRUN for file in /d/c /d/su /caps/note; do : >> $file; done\n"));
    assert_eq!(first, second);
    // And it has the effect that it says.
    let user = "--user 1000:1000";
    let rights = other.ok(&format!("run --rm {user} {image} /d/cat /proc/self/status"));
    assert!(rights.text().contains("CapEff:\t0000000000002000\n"), "{rights}");
    let shown = other.ok(&format!("run --rm {image} stat -c %u:%g:%a:%h /d/a /d/c"));
    assert_eq!(shown.text(), "1234:5678:4755:2\n65535:60000:2750:1\n");
}

#[test]
fn a_user_with_a_single_id_builds_what_needs_one() {
    let world = World::new(require!(ok User::without_ranges()));
    let (native, _) = native_and_foreign();
    let base = require!(ok world.push_base(&[native]));
    let build = |name: &str, lines: &str| {
        let context = world.context(name, &format!("FROM {base}\n{lines}\n"), &[]);
        world.onetag.line(&format!("build --progress plain --network none {context}"))
    };
    let fine =
        build("fine", "WORKDIR /w\nCOPY Dockerfile .\nRUN id -u && echo x > /w/x && cat /w/x\nRUN chmod 1777 /tmp")
            .success();
    assert_eq!(said(&fine, "0"), 1, "{fine}");
    let hint = "usermod --add-subuids";
    for (name, lines) in [
        ("user", "USER 1000\nRUN id"),
        ("chown", "RUN echo x > /x && chown 1000:1000 /x"),
        ("workdir", "USER 1000:1000\nWORKDIR /w\nRUN touch x"),
    ] {
        let refused = build(name, lines).failure().says(hint);
        assert_eq!(refused.stderr.matches(hint).count(), 1, "{refused}");
    }
    world.onetag.line(&format!("run --rm -u 1000 {base} id")).code(125).says(hint);
    // What executes nothing needs no ids.
    let context = world.context("files", "FROM scratch\nCOPY --chown=1000:1000 Dockerfile /x\n", &[]);
    let archive = world.onetag.work().join("files.tar");
    world.onetag.ok(&format!("build --progress plain -o type=tar,dest={} {context}", archive.display()));
    let entry = &listing(&archive)["x"];
    assert_eq!((entry.2, entry.3), (1000, 1000));
}

#[test]
fn root_makes_devices_in_native_and_foreign_steps() {
    let world = require!(ok World::root());
    require!(ok world.runs_foreign());
    let (native, foreign) = native_and_foreign();
    require!(ok world.push_base(&[native, foreign]));
    for platform in [native, foreign] {
        let base = local_name(platform);
        let lines = format!(
            "FROM {base}\nRUN mkdir /n && mknod -m 640 /n/null c 1 3 && mknod /n/disk b 8 300 && mknod /n/pipe p\n"
        );
        let context = world.context(&base, &lines, &[]);
        let archive = world.onetag.work().join(format!("{base}-devices.tar"));
        let output = format!("type=tar,dest={}", archive.display());
        world.onetag.ok(&format!("build --progress plain --network none --platform {platform} -o {output} {context}"));
        let mut reader = TarReader::new(std::fs::File::open(&archive).unwrap(), Limits::default());
        let mut found = Vec::new();
        while let Some(header) = reader.next_entry().unwrap() {
            if header.path.starts_with(b"n/") && header.path.len() > 2 {
                let path = String::from_utf8_lossy(&header.path).into_owned();
                found.push((path, header.kind, header.mode & 0o777, header.device));
            }
            while reader.next_data().unwrap().is_some() {}
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("n/disk".to_owned(), EntryKind::BlockDevice, 0o644, (8, 300)),
            ("n/null".to_owned(), EntryKind::CharacterDevice, 0o640, (1, 3)),
            ("n/pipe".to_owned(), EntryKind::Fifo, 0o644, (0, 0)),
        ];
        assert_eq!(found, expected, "{platform}");
    }
    let ordinary = require!(ok World::ordinary());
    let base = require!(ok ordinary.push_base(&[native]));
    let context = ordinary.context("devices", &format!("FROM {base}\nRUN mknod /null c 1 3\n"), &[]);
    ordinary
        .onetag
        .line(&format!("build --progress plain --network none {context}"))
        .failure()
        .says("Operation not permitted");
}
