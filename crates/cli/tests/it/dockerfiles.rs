//! Dockerfiles of one odd thing each, with what BuildKit makes of them.

use std::path::Path;

use onetag_testkit::Onetag;
use onetag_testkit::user::User;

use crate::support::BINARY;

/// Writes a context, builds it into a folder, and looks at that.
struct Case {
    onetag: Onetag,
}

impl Case {
    fn new() -> Case {
        Case { onetag: Onetag::new(BINARY, User::ordinary().unwrap_or_else(|_| User::current())) }
    }

    /// Builds and compares: a content of `-` means that the path must not be there.
    #[track_caller]
    fn gives(&self, dockerfile: &str, files: &[(&str, &str)], expected: &[(&str, &str)]) {
        for folder in ["context", "out"] {
            let _ = std::fs::remove_dir_all(self.onetag.work().join(folder));
        }
        self.onetag.file("context/Dockerfile", dockerfile);
        for (path, content) in files {
            self.onetag.file(&format!("context/{path}"), content);
        }
        self.onetag.ok("build --progress plain -o out context");
        for (path, content) in expected {
            let found = std::fs::read_to_string(self.onetag.work().join("out").join(Path::new(path)));
            match *content {
                "-" => assert!(found.is_err(), "{dockerfile}\n{path} is there"),
                content => assert_eq!(found.ok().as_deref(), Some(content), "{dockerfile}\n{path}"),
            }
        }
    }
}

#[test]
fn patterns_that_match_nothing_copy_nothing() {
    let case = Case::new();
    case.gives("FROM scratch\nCOPY absent* /o/\nCOPY a nomatch* /o/\n", &[("a", "a")], &[("o/a", "a")]);
    case.onetag.file("missing/Dockerfile", "FROM scratch\nCOPY absent /o/\n");
    case.onetag.line("build missing").failure().says("\"/absent\": not found");
}

#[test]
fn parents_and_exclude_reach_into_folders() {
    let case = Case::new();
    let files = [("a/b/c/1.txt", "1"), ("a/b/c/2.md", "2"), ("m.go", "m"), ("p/q/x.go", "x"), ("keep.md", "k")];
    case.gives(
        "FROM scratch\nCOPY --parents a/./b/c/*.txt /d/\n",
        &files,
        &[("d/b/c/1.txt", "1"), ("d/a", "-"), ("d/b/c/2.md", "-")],
    );
    case.gives(
        "FROM scratch\nCOPY --parents **/*.go /src/\n",
        &files,
        &[("src/m.go", "m"), ("src/p/q/x.go", "x"), ("src/keep.md", "-")],
    );
    case.gives(
        "FROM scratch\nCOPY --exclude=*.md --exclude=p/** --exclude=!keep.md . /o/\n",
        &files,
        &[("o/keep.md", "k"), ("o/a/b/c/1.txt", "1"), ("o/p/q/x.go", "-")],
    );
}

#[test]
fn variables_are_cut_and_replaced() {
    let case = Case::new();
    let dockerfile = "FROM scratch\nARG a\nARG b=\nARG c=x\nARG p=/usr/local/lib.tar.gz\nCOPY <<E <<\"F\" /o/\n\
        ${a:-1} ${b:-2} ${b-3} ${c:+4} ${a:+5} ${b+6} ${a-7} \\$c\n\
        ${p##*/} ${p#*/} ${p%.*} ${p%%.*} ${p/local/x} ${p//l/L}\nE\n${c} \\$c\nF\n";
    let expected = "1 2  4  6 7 $c\n\
        lib.tar.gz usr/local/lib.tar.gz /usr/local/lib.tar /usr/local/lib /usr/x/lib.tar.gz /usr/LocaL/Lib.tar.gz\n";
    case.gives(dockerfile, &[], &[("o/E", expected), ("o/F", "${c} \\$c\n")]);
}

#[test]
fn ignore_files_take_back_what_they_excluded() {
    let case = Case::new();
    case.gives(
        "FROM scratch\nCOPY . /o/\n",
        &[
            (".dockerignore", "*\n!keep\n!d/**/x\nd/no\n# c\n"),
            ("keep", "k"),
            ("drop", ""),
            ("d/a/x", "x"),
            ("d/a/y", ""),
            ("d/no/x", ""),
        ],
        &[("o/keep", "k"), ("o/d/a/x", "x"), ("o/drop", "-"), ("o/d/a/y", "-"), ("o/d/no/x", "-")],
    );
}

#[test]
fn text_is_read_as_editors_write_it() {
    let case = Case::new();
    case.gives("FROM scratch\r\nCOPY f \\\r\n  /g\r\n", &[("f", "f")], &[("g", "f")]);
    case.gives("\u{feff}FROM scratch\nCOPY f /\n", &[("f", "f")], &[("f", "f")]);
    case.gives("# escape=`\nFROM scratch\nCOPY f `\n # between\n C:\\x\n", &[("f", "f")], &[("C:\\x", "f")]);
    case.gives("FROM scratch\nCOPY <<-E /a\n\t\tx\n\t y\n\tE\n", &[], &[("a", "x\n y\n")]);
}

#[test]
fn the_last_stage_of_a_name_counts() {
    let case = Case::new();
    case.gives(
        "FROM scratch AS a\nCOPY f /1\nFROM scratch AS a\nCOPY f /2\nFROM a\n",
        &[("f", "f")],
        &[("2", "f"), ("1", "-")],
    );
    case.gives("FROM scratch\nCOPY f /f\nFROM scratch\nCOPY --from=0 /f ../../g\n", &[("f", "f")], &[("g", "f")]);
}

/// As many instructions as bytes allow: what one costs is what a hostile file costs.
#[test]
fn memory_stays_in_proportion_to_the_dockerfile() {
    const BYTES: usize = 4 << 20;
    let onetag = Onetag::new(BINARY, User::current());
    let heads = [("run", "RUN\n"), ("arg", "ARG a a a a a a a a a a a a a\n"), ("env", "ENV a= b= c= d= e= f=\n")];
    for (name, line) in heads {
        let text = format!("FROM scratch\n{}", line.repeat(BYTES / line.len()));
        let path = onetag.file(&format!("{name}/Dockerfile"), &text);
        // Sixty-four times the file, and what the program takes without one.
        let limit_kilobytes = (64 * BYTES + (64 << 20)) >> 10;
        let script = format!(
            "ulimit -d {limit_kilobytes} && exec {} build --call=targets {}",
            onetag.binary().display(),
            path.with_file_name("").display()
        );
        let mut command = onetag.program("sh");
        command.args(["-c", &script]);
        let output = command.output().expect("a shell");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
