//! Splitting of an expanded text into words.

/// Collects words. Quoted and escaped characters belong to a word whatever they are.
#[derive(Default)]
pub(super) struct WordList {
    words: Vec<String>,
    current: String,
    in_word: bool,
}

impl WordList {
    /// An unquoted character: space ends a word.
    pub(super) fn character(&mut self, c: char) {
        if !c.is_whitespace() {
            self.raw_character(c);
        } else if self.in_word && !self.current.is_empty() {
            self.words.push(std::mem::take(&mut self.current));
            self.in_word = false;
        }
    }

    /// A character that belongs to the word in any case.
    pub(super) fn raw_character(&mut self, c: char) {
        self.current.push(c);
        self.in_word = true;
    }

    /// The value of an unquoted variable, which is split.
    pub(super) fn text(&mut self, text: &str) {
        for c in text.chars() {
            self.character(c);
        }
    }

    /// Quoted text.
    pub(super) fn raw_text(&mut self, text: &str) {
        self.current.push_str(text);
        self.in_word = true;
    }

    /// Drops what has been read of the current word. BuildKit reads the argument of `${name…}` into
    /// the very buffer that holds the word around it, and the EXPOSE words and heredoc delimiters of
    /// existing Dockerfiles are split that way.
    pub(super) fn forget_if(&mut self, argument_was_read: bool) {
        if argument_was_read {
            self.current.clear();
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.words.push(self.current);
        }
        self.words
    }
}
