//! The window of a terminal as far as builds use one. What they never should send is an error here.

use std::fmt;

use unicode_width::UnicodeWidthChar;

/// Lines of characters, with a cursor.
#[derive(Debug)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    columns: usize,
    /// What has left the window at its top.
    above: Vec<String>,
    line: usize,
    column: usize,
    /// Whether the cursor is shown.
    pub has_cursor: bool,
    /// A sequence or a character of which the rest has not arrived.
    rest: Vec<u8>,
}

/// Stands in the second column of a wide character.
const SECOND_HALF: char = '\0';

impl Screen {
    /// An empty window.
    pub fn new(lines: usize, columns: usize) -> Screen {
        let empty = vec![vec![' '; columns]; lines];
        Screen { lines: empty, columns, above: Vec::new(), line: 0, column: 0, has_cursor: true, rest: Vec::new() }
    }

    /// What stands in each line, without spaces at its end.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|line| text(line)).collect()
    }

    /// The same with all that has left the window at its top.
    pub fn all(&self) -> Vec<String> {
        self.above.iter().cloned().chain(self.lines()).collect()
    }

    /// Another size; lines are cut, and those at the top leave when the cursor would.
    pub fn resize(&mut self, lines: usize, columns: usize) {
        while self.line >= lines {
            self.above.push(text(&self.lines.remove(0)));
            self.line -= 1;
        }
        for line in &mut self.lines {
            line.resize(columns, ' ');
        }
        self.lines.resize(lines, vec![' '; columns]);
        self.columns = columns;
        self.column = self.column.min(columns);
    }

    /// Takes in output.
    ///
    /// # Panics
    /// At a control sequence that no command should send.
    pub fn write(&mut self, bytes: &[u8]) {
        let mut bytes = [std::mem::take(&mut self.rest).as_slice(), bytes].concat();
        let valid = match std::str::from_utf8(&bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => bytes.len(),
        };
        self.rest = bytes.split_off(valid);
        let written = String::from_utf8_lossy(&bytes).into_owned();
        let mut characters = written.char_indices();
        while let Some((position, c)) = characters.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.next_line(),
                '\x1b' => {
                    let sequence = &written[position..];
                    let Some(length) = length(sequence) else {
                        self.rest.splice(0..0, sequence.bytes());
                        return;
                    };
                    self.sequence(&sequence[..length]);
                    characters.by_ref().take(length - 1).for_each(drop);
                }
                c if c.is_control() => panic!("a control character {c:?} in {written:?}"),
                c => self.put(c),
            }
        }
    }

    fn sequence(&mut self, sequence: &str) {
        let (parameters, last) = (&sequence[2..sequence.len() - 1], &sequence[sequence.len() - 1..]);
        match (last, parameters) {
            ("m", _) => {}
            ("A", count) => self.line = self.line.saturating_sub(count.parse().expect("a number")),
            ("K", "") => self.erase(self.line, self.column),
            ("J", "") => {
                self.erase(self.line, self.column);
                (self.line + 1..self.lines.len()).for_each(|line| self.erase(line, 0));
            }
            ("l", "?25") => self.has_cursor = false,
            ("h", "?25") => self.has_cursor = true,
            _ => panic!("a control sequence {sequence:?}"),
        }
    }

    fn erase(&mut self, line: usize, from: usize) {
        self.lines[line].iter_mut().skip(from).for_each(|cell| *cell = ' ');
    }

    fn next_line(&mut self) {
        self.column = 0;
        self.line += 1;
        if self.line == self.lines.len() {
            self.above.push(text(&self.lines.remove(0)));
            self.lines.push(vec![' '; self.columns]);
            self.line -= 1;
        }
    }

    fn put(&mut self, c: char) {
        let width = c.width().unwrap_or(0);
        if width == 0 {
            return;
        }
        if self.column + width > self.columns {
            self.next_line();
        }
        self.lines[self.line][self.column] = c;
        if width == 2 {
            self.lines[self.line][self.column + 1] = SECOND_HALF;
        }
        self.column += width;
    }
}

impl fmt::Display for Screen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(formatter, "|{line}"))
    }
}

fn text(line: &[char]) -> String {
    let text: String = line.iter().filter(|c| **c != SECOND_HALF).collect();
    text.trim_end().to_owned()
}

/// The length of the sequence that a text begins with; nothing when its end is missing.
fn length(sequence: &str) -> Option<usize> {
    let Some(parameters) = sequence.strip_prefix("\x1b[") else {
        assert!(sequence.len() == 1, "no control sequence: {sequence:?}");
        return None;
    };
    Some(2 + parameters.find(|c: char| c.is_ascii_alphabetic())? + 1)
}

#[cfg(test)]
mod tests {
    use super::Screen;

    #[test]
    fn a_frame_is_drawn_over_the_one_before() {
        let mut screen = Screen::new(3, 6);
        screen.write(b"one\r\ntwo\r\n\x1b[2");
        screen.write(b"A\r\x1b[1mnew\x1b[0m\x1b[K\r\n\x1b[J\x1b[?25l");
        assert_eq!(screen.lines(), ["new", "", ""]);
        assert!(!screen.has_cursor);
        screen.write("日本語x\r\nb".as_bytes());
        assert_eq!(screen.lines(), ["日本語", "x", "b"]);
        assert_eq!(screen.all(), ["new", "日本語", "x", "b"]);
        screen.resize(2, 3);
        assert_eq!(screen.all(), ["new", "日本語", "x", "b"]);
    }

    #[test]
    #[should_panic(expected = "a control sequence")]
    fn what_is_never_sent_is_an_error() {
        Screen::new(2, 2).write(b"\x1b[2;2H");
    }
}
