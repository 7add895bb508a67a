//! The live view as it stands in a terminal's window, and what the environment changes about it.

use onetag_testkit::screen::Screen;
use onetag_testkit::{Terminal, require};

use crate::support::{World, native_and_foreign};

/// Talks while it runs: wide characters, what would move the cursor, lines that are longer than any window.
const TALKS: &str = "RUN for i in 1 2 3 4 5 6; do echo \"✅ 日本語 ❤️ $i $(seq -s x 1 200)\"; \
                     printf '10%%\\r99%%\\033[2J\\033[5A\\033]0;ti''tle\\007\\a\\t%s\\n' \"end $i\"; sleep 0.1; done";

/// A context with a stage that all platforms share, and a stage that talks.
fn context(world: &World, base: &str, last: &str) -> String {
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS build\nRUN echo shared > /shared; sleep 0.3\nFROM {base}\n\
         COPY --from=build /shared /\n{TALKS}\n{last}\n"
    );
    world.context("view", &dockerfile, &[])
}

/// However often it is drawn anew, the title stands there once.
fn assert_drawn_once(screen: &Screen) {
    let titles = screen.all().iter().filter(|line| line.starts_with("[+] ")).count();
    assert!(titles <= 1, "drawn twice:\n{}", screen.all().join("\n"));
}

/// Whether the last line is left to the cursor.
fn has_room(screen: &Screen) -> bool {
    screen.lines().last().is_some_and(String::is_empty)
}

#[test]
fn the_view_fits_every_window() {
    let world = World::any();
    let (native, foreign) = native_and_foreign();
    let base = require!(ok world.push_base(&[native, foreign]));
    let platforms = if world.runs_foreign().is_ok() { format!("{native},{foreign}") } else { native.to_owned() };
    let context = context(&world, &base, "");
    for (lines, columns) in [(24, 80), (10, 20), (50, 200), (5, 7)] {
        let line = format!("build --progress tty --no-cache --platform {platforms} {context}");
        let mut command = world.onetag.command(line.split_whitespace());
        let mut terminal = Terminal::start(&mut command, lines, columns);
        let status = terminal.finish(|screen| {
            // The last frame is whole, whatever the window holds.
            let has_ended = columns < 80 || screen.all().iter().any(|line| line.contains("FINISHED"));
            assert_drawn_once(screen);
            assert!(has_ended || has_room(screen), "{screen}");
        });
        assert!(status.success() && terminal.screen().has_cursor, "{}", terminal.written());
        let all = terminal.screen().all().join("\n");
        assert!(!all.contains("title"), "{all}");
        if columns == 80 {
            assert!(all.contains(" FINISHED"), "{all}");
            assert!(platforms == native || all.contains("shared by all 2 platforms (native) 2/2"), "{all}");
            assert!(platforms == native || all.contains(&format!(" {foreign} (emulated) ")), "{all}");
        }
    }
}

#[test]
fn a_window_may_change_its_size() {
    let world = World::any();
    let base = require!(ok world.push_base(&[native_and_foreign().0]));
    let context = context(&world, &base, "RUN sleep 0.5");
    let line = format!("build --progress tty --no-cache {context}");
    let mut terminal = Terminal::start(&mut world.onetag.command(line.split_whitespace()), 12, 40);
    let shows = |screen: &Screen, text: &str| screen.lines().iter().any(|line| line.contains(text));
    terminal.wait(|screen| shows(screen, "99% end "));
    assert_drawn_once(terminal.screen());
    terminal.resize(30, 120);
    terminal.wait(|screen| screen.lines().iter().any(|line| line.chars().count() > 60));
    assert_drawn_once(terminal.screen());
    terminal.resize(12, 60);
    terminal.wait(|screen| shows(screen, "RUN sleep"));
    assert!(terminal.finish(|_| ()).success(), "{}", terminal.written());
    assert!(terminal.screen().all().iter().any(|line| line.contains("FINISHED")), "{}", terminal.written());
}

#[test]
fn a_failure_and_an_interruption_are_told_on_the_terminal() {
    let world = World::any();
    let base = require!(ok world.push_base(&[native_and_foreign().0]));
    let failing = context(&world, &base, "RUN printf 'why\\033[2J \\033[31mred'; exit 3");
    let line = format!("build --progress tty {failing}");
    let mut terminal = Terminal::start(&mut world.onetag.command(line.split_whitespace()), 24, 80);
    assert_eq!(terminal.finish(|_| ()).code(), Some(1));
    let all = terminal.screen().all();
    for text in [" => ERROR [stage-1 4/4] RUN printf", " > [stage-1 4/4] RUN printf", "why red", ">>> RUN printf"] {
        assert!(all.iter().any(|line| line.contains(text)), "{text}\n{}", all.join("\n"));
    }
    assert!(terminal.written().contains("\x1b[31mred\x1b[0m"), "colours of steps stay, and end");
    assert!(terminal.screen().has_cursor);

    let sleeping = world.context("sleeping", &format!("FROM {base}\nRUN sleep 60\n"), &[]);
    let line = format!("build --progress tty {sleeping}");
    let mut terminal = Terminal::start(&mut world.onetag.command(line.split_whitespace()), 24, 80);
    terminal.wait(|screen| screen.lines().iter().any(|line| line.contains("RUN sleep 60")));
    terminal.signal("INT");
    assert_eq!(terminal.finish(|_| ()).code(), Some(130));
    let all = terminal.screen().all().join("\n");
    assert!(all.contains(" => CANCELED [2/2] RUN sleep 60"), "{all}");
    assert!(!all.contains("WARNING") && terminal.screen().has_cursor, "{all}");
}

#[test]
fn the_environment_chooses_mode_and_colours() {
    let world = World::any();
    let context = world.context("quick", "FROM scratch\nCOPY Dockerfile /\n", &[]);
    let written = |variables: &[(&str, &str)], arguments: &str| {
        let line = format!("build --no-cache {arguments} {context}");
        let mut command = world.onetag.command(line.split_whitespace());
        let mut terminal = Terminal::start(command.envs(variables.iter().copied()), 24, 80);
        assert!(terminal.finish(|_| ()).success(), "{}", terminal.written());
        terminal.written()
    };
    let colours = "run=green:warning=yellow:error=red:cancel=255,165,0";
    assert!(written(&[], "").contains("\x1b[34m => "), "blue is the usual colour");
    assert!(written(&[("BUILDKIT_COLORS", colours)], "").contains("\x1b[32m => "));
    let plain = "#1 [internal] load build definition from Dockerfile";
    for variables in [("NO_COLOR", "1"), ("BUILDKIT_COLORS", "run=")] {
        let coloured = written(&[variables], "").contains("\x1b[34m");
        assert_eq!(coloured, variables.0 != "NO_COLOR", "{variables:?}");
    }
    for (variables, arguments, expected) in [
        (("TERM", "dumb"), "", plain),
        (("BUILDKIT_PROGRESS", "plain"), "", plain),
        (("BUILDKIT_PROGRESS", "rawjson"), "", "{\"vertexes\":"),
        (("BUILDKIT_PROGRESS", "plain"), "--progress tty", "[+] Building"),
        (("BUILDKIT_PROGRESS", "plain"), "--progress auto", plain),
        (("TERM", "dumb"), "--progress tty", "[+] Building"),
    ] {
        let written = written(&[variables], arguments);
        assert!(written.contains(expected), "{variables:?} {arguments}\n{written}");
    }
    assert!(!written(&[("BUILDKIT_PROGRESS", "quiet")], "").contains("load build definition"));
}
