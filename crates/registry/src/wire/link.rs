//! `Link` (RFC 8288): where the next page of a list is.

/// Longest header value looked at.
const LENGTH_LIMIT: usize = 8 * 1024;

/// The target of the first link whose relation types include `next`.
pub fn next(value: &str) -> Option<&str> {
    if value.len() > LENGTH_LIMIT {
        return None;
    }
    let mut rest = value;
    loop {
        let start = rest.find('<')?;
        rest = rest.get(start + 1..)?;
        let end = rest.find('>')?;
        let target = rest.get(..end)?.trim();
        rest = rest.get(end + 1..)?;
        let (parameters, following) = split_at_comma(rest);
        if parameters.split(';').any(is_next) && !target.is_empty() {
            return Some(target);
        }
        rest = following;
    }
}

/// Writes a link to the next page.
pub fn format_next(target: &str) -> String {
    format!("<{target}>; rel=\"next\"")
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Splits at the first comma outside quotes.
fn split_at_comma(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&text[..index], &text[index + 1..]),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_next_page() {
        assert_eq!(next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next("</a>; rel=prev, </b>; title=\"x, y\"; REL=next"), Some("/b"));
        assert_eq!(next("</a>; rel=\"last next\""), Some("/a"));
        assert_eq!(next("</a>"), None);
        assert_eq!(next("<>; rel=next"), None);
        assert_eq!(next("</a; rel=next"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = next(&text);
        }

        #[test]
        fn written_links_are_read(target in "/[a-zA-Z0-9/?&=%._-]{0,60}") {
            let header = format_next(&target);
            prop_assert_eq!(next(&header), Some(target.as_str()));
        }
    }
}
