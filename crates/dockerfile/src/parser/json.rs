//! JSON arrays of strings, as strict as Go's decoder and as lenient about surrogates.

/// Why a text is no array of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrayError {
    /// Not a JSON array.
    NotArray,
    /// A JSON array with other values in it.
    NotStrings,
}

/// How deep arrays and objects may nest.
const MAX_DEPTH: usize = 10_000;

/// The strings of a JSON array.
pub(super) fn string_array(text: &str) -> Result<Vec<String>, ArrayError> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Err(ArrayError::NotArray);
    }
    let mut reader = Reader { text: text.as_bytes(), position: 1 };
    let (strings, all_strings) = reader.array().ok_or(ArrayError::NotArray)?;
    if all_strings { Ok(strings) } else { Err(ArrayError::NotStrings) }
}

struct Reader<'a> {
    text: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.position += usize::from(taken);
        taken
    }

    /// The array after its bracket up to the end of the text: its strings, and whether there are
    /// only strings. None for what is no JSON.
    fn array(&mut self) -> Option<(Vec<String>, bool)> {
        let (mut strings, mut all_strings) = (Vec::new(), true);
        self.skip_space();
        if !self.take(b']') {
            loop {
                self.skip_space();
                if self.peek() == Some(b'"') {
                    strings.push(self.string()?);
                } else {
                    self.value()?;
                    all_strings = false;
                }
                self.skip_space();
                if self.take(b']') {
                    break;
                }
                if !self.take(b',') {
                    return None;
                }
            }
        }
        self.skip_space();
        self.peek().is_none().then_some((strings, all_strings))
    }

    /// Skips any value. Nesting is followed with a stack of closing brackets.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_space();
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                bracket @ (b'[' | b'{') => {
                    self.position += 1;
                    open.push(if bracket == b'[' { b']' } else { b'}' });
                    if open.len() > MAX_DEPTH {
                        return None;
                    }
                    self.skip_space();
                    if self.peek() != open.last().copied() {
                        if bracket == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value is complete: close what closes with it, or go on behind a comma.
            loop {
                let Some(closing) = open.last().copied() else { return Some(()) };
                self.skip_space();
                if self.take(closing) {
                    open.pop();
                    continue;
                }
                if !self.take(b',') {
                    return None;
                }
                if closing == b'}' {
                    self.skip_space();
                    self.name()?;
                }
                break;
            }
        }
    }

    /// The name of a member with its colon.
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.skip_space();
        self.take(b':').then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.position..].starts_with(word).then(|| self.position += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.position;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.position += 1;
        }
        (self.position > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.position;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.text[start..self.position]).ok()?;
        text.parse::<f64>().is_ok_and(f64::is_finite).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        if !self.take(b'"') {
            return None;
        }
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek()?;
            self.position += 1;
            match byte {
                b'"' => return String::from_utf8(bytes).ok(),
                0..0x20 => return None,
                b'\\' => {
                    let c = self.escape()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte => bytes.push(byte),
            }
        }
    }

    /// The character after a backslash. Half a surrogate pair stands for the replacement character.
    fn escape(&mut self) -> Option<char> {
        let byte = self.peek()?;
        self.position += 1;
        Some(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex()?;
                let after = self.position;
                let is_high = (0xd800..0xdc00).contains(&unit);
                if is_high
                    && self.take(b'\\')
                    && self.take(b'u')
                    && let Some(low) = self.hex().filter(|low| (0xdc00..0xe000).contains(low))
                {
                    return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                }
                self.position = after;
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.position..self.position + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.position += 4;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arrays_of_strings_count() {
        assert_eq!(
            string_array(r#" ["a", "\u00e9\n\ud83d\ude00\ud83d" ] "#),
            Ok(vec!["a".into(), "é\n😀\u{fffd}".into()])
        );
        assert_eq!(string_array("[]"), Ok(vec![]));
        for text in [r#"[1]"#, r#"["a", {"b": [null, {}, []], "c": -1.5e3}]"#, "[[]]", "[true,false]"] {
            assert_eq!(string_array(text), Err(ArrayError::NotStrings), "{text}");
        }
        for text in
            ["", "a", "[", "[\"a\",]", "['a']", "[\"a\"] x", "[\"\t\"]", "[01]", "[1e999]", "[{\"a\" 1}]", "[\"\\x\"]"]
        {
            assert_eq!(string_array(text), Err(ArrayError::NotArray), "{text}");
        }
    }
}
