//! Splitting of an expanded text into words.

/// Words, one after another in one text: a list of strings would cost tens of bytes for a word of one letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    text: String,
    /// Where each word ends.
    ends: Vec<u32>,
}

impl Words {
    /// The words in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start as usize..self.ends[index] as usize]
        })
    }

    /// The one word that there is; None where there are none or several.
    pub fn only(&self) -> Option<&str> {
        (self.ends.len() == 1).then_some(self.text.as_str())
    }
}

/// Collects words. Quoted and escaped characters belong to a word whatever they are.
#[derive(Default)]
pub(super) struct WordList {
    /// The words, and behind them the current one.
    words: Words,
    in_word: bool,
}

impl WordList {
    /// An unquoted character: space ends a word.
    pub(super) fn character(&mut self, c: char) {
        if !c.is_whitespace() {
            self.raw_character(c);
        } else if self.in_word && self.end() {
            self.in_word = false;
        }
    }

    /// A character that belongs to the word in any case.
    pub(super) fn raw_character(&mut self, c: char) {
        self.words.text.push(c);
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
        self.words.text.push_str(text);
        self.in_word = true;
    }

    /// Drops what has been read of the current word. BuildKit reads the argument of `${name…}` into
    /// the very buffer that holds the word around it, and the EXPOSE words and heredoc delimiters of
    /// existing Dockerfiles are split that way.
    pub(super) fn forget_if(&mut self, argument_was_read: bool) {
        if argument_was_read {
            self.words.text.truncate(self.start());
        }
    }

    pub(super) fn finish(mut self) -> Words {
        self.end();
        self.words
    }

    /// Where the current word starts.
    fn start(&self) -> usize {
        self.words.ends.last().map_or(0, |&end| end as usize)
    }

    /// Ends the current word, unless there is nothing of it. Texts are far shorter than what the number holds: see
    /// [`super::MAX_OUTPUT`] and the limits of files.
    fn end(&mut self) -> bool {
        let end = u32::try_from(self.words.text.len()).unwrap_or(u32::MAX);
        let is_word = end as usize > self.start();
        if is_word {
            self.words.ends.push(end);
        }
        is_word
    }
}
