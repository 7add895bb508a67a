//! The one-line comma-separated list of `--mount`, `--output`, `--secret` and their kin.

/// Why a list could not be split. Columns count bytes from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// There is nothing.
    #[error("EOF")]
    Empty,
    /// A quote inside a field that did not begin with one.
    #[error("parse error on line 1, column {column}: bare \" in non-quoted-field")]
    BareQuote {
        /// Where the quote is.
        column: usize,
    },
    /// A quoted field that does not end, or goes on after its closing quote.
    #[error("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")]
    Quote {
        /// Where it went wrong.
        column: usize,
    },
}

/// Splits the line at its commas. A field may be put in double quotes, with `""` for a quote
/// inside. One trailing line end is ignored.
pub fn split(line: &str) -> Result<Vec<String>, CsvError> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut position = 0;
    loop {
        let rest = &line[position..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, length) = quoted_field(quoted, position + 1)?;
                (field, length + 1)
            }
            None => {
                let field = rest.split(',').next().unwrap_or_default();
                if let Some(quote) = field.find('"') {
                    return Err(CsvError::BareQuote { column: position + quote + 1 });
                }
                (field.to_owned(), field.len())
            }
        };
        fields.push(field);
        position += length;
        if position >= line.len() {
            return Ok(fields);
        }
        position += 1;
    }
}

/// The field after its opening quote, and how many bytes of `text` it takes up to the comma.
fn quoted_field(text: &str, start: usize) -> Result<(String, usize), CsvError> {
    let mut field = String::new();
    let mut position = 0;
    loop {
        let rest = &text[position..];
        let Some(quote) = rest.find('"') else {
            return Err(CsvError::Quote { column: start + position + 1 });
        };
        field.push_str(&rest[..quote]);
        position += quote + 1;
        match text.as_bytes().get(position) {
            Some(b'"') => {
                field.push('"');
                position += 1;
            }
            None | Some(b',') => return Ok((field, position)),
            Some(_) => return Err(CsvError::Quote { column: start + position }),
        }
    }
}
