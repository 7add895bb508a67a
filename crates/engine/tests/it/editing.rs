//! Random small edits of a Dockerfile and its context: a build that uses the cache gives, byte for byte, what a build
//! of the same in an empty store gives.

use std::fmt::Write as _;
use std::path::Path;

use onetag_engine::build::BuildRequest;
use onetag_engine::progress::Cancellation;
use onetag_oci::Digest;
use onetag_testkit::require;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::setup::{Setup, build, steps, text, try_build};

/// A line of a stage.
#[derive(Clone, Debug)]
enum Line {
    /// Copies a file or all of them.
    Copy(u8, u8),
    /// Writes what it is told and what it finds.
    Run(u8, u8),
    /// Copies from the stage before.
    From(u8),
    /// Makes a folder the current one.
    Workdir(u8),
    /// Changes the environment.
    Env(u8, u8),
    /// Links a file in as a layer of its own.
    Link(u8),
    /// Removes a file that may be there.
    Remove(u8),
}

/// A file of the context: its content and whether it may be executed.
type File = (u8, bool);

#[derive(Clone, Debug)]
struct Project {
    shared: Vec<Line>,
    last: Vec<Line>,
    files: Vec<File>,
}

/// One change of a project.
#[derive(Clone, Debug)]
enum Edit {
    File(usize, File),
    Replace(bool, usize, Line),
    Insert(bool, usize, Line),
    Drop(bool, usize),
    Touch(usize),
}

fn line() -> impl Strategy<Value = Line> {
    let small = || 0..4_u8;
    prop_oneof![
        (small(), small()).prop_map(|(from, to)| Line::Copy(from, to)),
        (small(), small()).prop_map(|(word, to)| Line::Run(word, to)),
        small().prop_map(Line::From),
        small().prop_map(Line::Workdir),
        (small(), small()).prop_map(|(name, value)| Line::Env(name, value)),
        small().prop_map(Line::Link),
        small().prop_map(Line::Remove),
    ]
}

fn project() -> impl Strategy<Value = Project> {
    let lines = || prop::collection::vec(line(), 1..4);
    let files = prop::collection::vec((0..4_u8, any::<bool>()), 4);
    (lines(), lines(), files).prop_map(|(shared, last, files)| Project { shared, last, files })
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = || (any::<bool>(), 0..8_usize);
    prop_oneof![
        3 => (0..4_usize, (0..4_u8, any::<bool>())).prop_map(|(file, content)| Edit::File(file, content)),
        2 => (place(), line()).prop_map(|((shared, at), line)| Edit::Replace(shared, at, line)),
        1 => (place(), line()).prop_map(|((shared, at), line)| Edit::Insert(shared, at, line)),
        1 => place().prop_map(|(shared, at)| Edit::Drop(shared, at)),
        1 => (0..4_usize).prop_map(Edit::Touch),
    ]
}

impl Project {
    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::File(file, content) => self.files[*file] = *content,
            Edit::Replace(is_shared, at, line) => {
                let lines = self.lines(*is_shared);
                let at = at % lines.len().max(1);
                if let Some(known) = lines.get_mut(at) {
                    *known = line.clone();
                }
            }
            Edit::Insert(is_shared, at, line) => {
                let lines = self.lines(*is_shared);
                lines.insert(at % (lines.len() + 1), line.clone());
            }
            Edit::Drop(is_shared, at) => {
                let lines = self.lines(*is_shared);
                if !lines.is_empty() {
                    lines.remove(at % lines.len());
                }
            }
            Edit::Touch(_) => {}
        }
    }

    fn lines(&mut self, is_shared: bool) -> &mut Vec<Line> {
        if is_shared { &mut self.shared } else { &mut self.last }
    }

    fn dockerfile(&self, base: &str) -> String {
        let mut text = format!("FROM --platform=$BUILDPLATFORM {base} AS shared\nARG TARGETARCH\n");
        stage(&mut text, &self.shared, false);
        let _ =
            writeln!(text, "FROM --platform=$BUILDPLATFORM {base}\nCOPY --from=shared /out /shared\nARG TARGETARCH");
        stage(&mut text, &self.last, true);
        text
    }

    fn write(&self, folder: &Path, base: &str, touched: Option<usize>) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        std::fs::write(folder.join("Dockerfile"), self.dockerfile(base)).unwrap();
        for (number, (content, is_executable)) in self.files.iter().enumerate() {
            let path = folder.join(name(number));
            let is_equal = std::fs::read(&path).is_ok_and(|known| known == [b'a' + content; 3]);
            if !is_equal || touched == Some(number) {
                std::fs::write(&path, [b'a' + content; 3]).unwrap();
            }
            let mode = if *is_executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
    }
}

/// The path of a file of the context; two lie in a folder.
fn name(number: usize) -> String {
    if number < 2 { format!("f{number}") } else { format!("folder/f{number}") }
}

fn stage(text: &mut String, lines: &[Line], is_last: bool) {
    let _ = writeln!(text, "RUN mkdir -p /out");
    for line in lines {
        let _ = match line {
            Line::Copy(3, to) => writeln!(text, "COPY folder /out/folder{to}/"),
            Line::Copy(from, to) => writeln!(text, "COPY {} /out/c{to}", name(usize::from(*from))),
            Line::Run(word, to) => {
                writeln!(text, "RUN echo {word} $TARGETARCH $E0 $E1 > /out/r{to}; ls -R /out >> /out/list")
            }
            Line::From(to) if is_last => writeln!(text, "COPY --from=shared /out/ /out/from{to}/"),
            Line::From(to) => writeln!(text, "COPY --chown={to}:{to} f0 /out/owned"),
            Line::Workdir(to) => writeln!(text, "WORKDIR /out/w{to}"),
            Line::Env(name, value) => writeln!(text, "ENV E{}={value}", name % 2),
            Line::Link(to) => writeln!(text, "COPY --link f1 /out/linked{to}"),
            Line::Remove(what) => writeln!(text, "RUN rm -rf /out/c{what} /out/r{what}"),
        };
    }
}

fn request(setup: &Setup, context: &Path) -> BuildRequest {
    let mut request = setup.pushed(context, &["linux/amd64", "linux/arm64"], "edited:1");
    request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1000000000".to_owned());
    request.network = onetag_llb::NetworkMode::None;
    request
}

/// The layers of each platform of a pushed image, one a line.
fn layers(setup: &Setup, index: Option<&Digest>) -> String {
    let pulled = |digest: &Digest| setup.pulled(&format!("edited@{digest}"));
    let Some(document) = index.map(pulled) else { return String::new() };
    let mut text = String::new();
    for child in &document.as_index().expect("an index").manifests {
        let manifest = pulled(&child.digest);
        let _ = writeln!(text, "{}", child.platform.as_ref().map(ToString::to_string).unwrap_or_default());
        let manifest = manifest.as_manifest().expect("a manifest");
        for layer in &manifest.layers {
            let _ = writeln!(text, "  {} {}", layer.digest, layer.size);
        }
        let mut config = Vec::new();
        let fetched = setup
            .engine
            .client()
            .map(|client| client.fetch_blob(&setup.reference("edited"), &manifest.config, &mut config));
        let _ = writeln!(text, "  {fetched:?} {}", String::from_utf8_lossy(&config));
    }
    text
}

#[test]
fn a_build_after_an_edit_equals_one_from_nothing() {
    let base = require!(ok steps());
    let rounds = std::env::var("ONETAG_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    let config = Config { cases: rounds, failure_persistence: None, max_shrink_iters: 30, ..Config::default() };
    let strategy = (project(), prop::collection::vec(edit(), 3));
    let checked = TestRunner::new(config).run(&strategy, |(mut project, edits)| {
        let setup = Setup::new();
        setup.publish(&base, "busybox:1");
        let name = setup.reference("busybox:1").to_string();
        let context = setup.context("context", &[]);
        let request = request(&setup, &context);
        let (mut touched, mut hits) = (None, 0);
        for number in 0..=edits.len() {
            project.write(&context, &name, touched);
            let (cached, log) = try_build(&setup.engine, &request, &Cancellation::new());
            let cached = cached.map_err(|error| TestCaseError::fail(text(&error)))?;
            hits += log.found("RUN") + log.found("COPY");
            let (fresh, _) = build(&setup.another(&format!("fresh {number}")), &request);
            let digest = |outcome: &onetag_engine::build::BuildOutcome| {
                outcome.descriptor.as_ref().map(|descriptor| descriptor.digest.clone())
            };
            let (cached, fresh) = (digest(&cached), digest(&fresh));
            let told = || format!("{}\n{}", layers(&setup, cached.as_ref()), layers(&setup, fresh.as_ref()));
            prop_assert!(cached == fresh, "edit {} of {:?}\n{}\n{}", number, edits, project.dockerfile(&name), told());
            if let Some(edit) = edits.get(number) {
                project.apply(edit);
                touched = if let Edit::Touch(file) = edit { Some(*file) } else { None };
            }
        }
        prop_assert!(hits > 0, "the cache was never used");
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}

/// Of a base without history not all layers are accounted for; what history then says of them is not how the Dockerfile stood
/// that made them first.
#[test]
fn history_tells_nothing_of_the_build_that_made_a_layer_first() {
    let base = require!(ok steps());
    let setup = Setup::new();
    setup.publish(&base, "busybox:1");
    let name = setup.reference("busybox:1");
    let context = setup.context("context", &[("a", "a"), ("b", "b")]);
    let request = request(&setup, &context);
    let write = |lines: &str| std::fs::write(context.join("Dockerfile"), format!("FROM {name}\n{lines}")).unwrap();
    write("COPY a /a\nCOPY b /b\nENV x=y\nRUN echo x > /x\nRUN echo y > /y\n");
    build(&setup.engine, &request);
    write("COPY a /a\nCOPY b /b\n");
    let (cached, log) = build(&setup.engine, &request);
    assert!(log.found("COPY") > 0);
    let (fresh, _) = build(&setup.another("fresh"), &request);
    let digests = [cached, fresh].map(|outcome| outcome.descriptor.expect("an index").digest);
    assert_eq!(digests[0], digests[1], "{}\n{}", layers(&setup, Some(&digests[0])), layers(&setup, Some(&digests[1])));
}
