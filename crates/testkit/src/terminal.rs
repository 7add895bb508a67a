//! Commands on a terminal of a given size, and what stands on it.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::send;
use crate::screen::Screen;

/// A command whose standard streams are a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    control: File,
    pieces: Receiver<Vec<u8>>,
    screen: Screen,
    written: Vec<u8>,
}

impl Terminal {
    /// Starts a command in a window of so many lines and columns.
    ///
    /// # Panics
    /// When there is no pseudo-terminal to be had or the command cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, lines: u16, columns: u16) -> Terminal {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&control).and_then(|()| unlockpt(&control)).expect("own pseudo-terminal");
        let side = ioctl_tiocgptpeer(&control, OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("its other side");
        resize(&control, lines, columns);
        let stream = || side.try_clone().expect("a descriptor");
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("the command starts");
        // The command keeps them open until it is dropped; reading ends when nobody has them any more.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        drop(side);
        let control = File::from(control);
        let mut reader = control.try_clone().expect("a descriptor");
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            // The end of a terminal is an error.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let screen = Screen::new(usize::from(lines), usize::from(columns));
        Terminal { child, control, pieces, screen, written: Vec::new() }
    }

    /// Changes the size of the window. What stands on it is kept where it fits.
    pub fn resize(&mut self, lines: u16, columns: u16) {
        resize(&self.control, lines, columns);
        self.screen.resize(usize::from(lines), usize::from(columns));
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        send(name, self.child.id());
    }

    /// What stands in the window.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// All that was written so far.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }

    /// Waits until `is_there` holds of the window, looking after each piece that arrives.
    ///
    /// # Panics
    /// When the command ends before, or does not get there within a minute.
    #[track_caller]
    pub fn wait(&mut self, is_there: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_there(&self.screen) {
            assert!(self.take(deadline), "it never stood there:\n{}\n{}", self.screen, self.written());
        }
    }

    /// Lets the command run to its end; `look` sees the window after each piece.
    ///
    /// # Panics
    /// When it takes longer than ten minutes.
    #[track_caller]
    pub fn finish(&mut self, mut look: impl FnMut(&Screen)) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(600);
        while self.take(deadline) {
            look(&self.screen);
        }
        self.child.wait().expect("a child can be waited for")
    }

    /// Takes in a piece of output; false when there is no more.
    fn take(&mut self, deadline: Instant) -> bool {
        match self.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => {
                self.screen.write(&piece);
                self.written.extend_from_slice(&piece);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("still running:\n{}", self.screen);
            }
        }
    }
}

fn resize(control: &impl std::os::fd::AsFd, lines: u16, columns: u16) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(control, size).expect("own pseudo-terminal");
}
