//! JSON as Go's `encoding/json` writes it, and readers as lenient about `null` as Go's.

use serde::{Deserialize, Deserializer, Serialize};

/// Compact JSON with Go's escaping: `<`, `>`, `&`, U+2028 and U+2029 inside strings become `\u` escapes.
///
/// # Panics
/// When `value` has a map whose keys are not strings, which no type of this workspace has.
pub fn go_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let plain = serde_json::to_vec(value).expect("a value with string keys serializes");
    escape(plain)
}

/// As [`go_json`], indented by `indent` as `json.MarshalIndent` with an empty prefix does.
///
/// # Panics
/// As [`go_json`].
pub fn go_json_indent<T: Serialize + ?Sized>(value: &T, indent: &str) -> Vec<u8> {
    let mut plain = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut plain, formatter);
    value.serialize(&mut serializer).expect("a value with string keys serializes");
    escape(plain)
}

/// Outside strings JSON has none of the escaped characters, so the whole text can be rewritten blindly.
fn escape(plain: Vec<u8>) -> Vec<u8> {
    if !plain.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return plain;
    }
    let mut escaped = Vec::with_capacity(plain.len() + 32);
    let mut rest = plain.as_slice();
    while let Some((&first, after)) = rest.split_first() {
        let (replacement, taken): (&[u8], usize) = match first {
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            b'&' => (b"\\u0026", 1),
            0xe2 if after.starts_with(&[0x80, 0xa8]) => (b"\\u2028", 3),
            0xe2 if after.starts_with(&[0x80, 0xa9]) => (b"\\u2029", 3),
            _ => {
                escaped.push(first);
                rest = after;
                continue;
            }
        };
        escaped.extend_from_slice(replacement);
        rest = &rest[taken..];
    }
    escaped
}

/// Reads `null` as the default, as Go does for slices, maps, strings and numbers.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads an absent, `null` or empty text as none: Go's `omitempty` cannot tell them apart.
pub(crate) fn non_empty<'de, D>(deserializer: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// For `skip_serializing_if` on booleans.
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        let value = serde_json::json!({"k<": "a<b>&c\u{2028}\u{2029}\u{2030}\u{7f}\n\u{8}"});
        let text = String::from_utf8(go_json(&value)).unwrap();
        assert_eq!(text, "{\"k\\u003c\":\"a\\u003cb\\u003e\\u0026c\\u2028\\u2029\u{2030}\u{7f}\\n\\b\"}");
    }

    #[test]
    fn indents_as_go_does() {
        let value = serde_json::json!({"a": [], "b": {}, "c": [1, {"d": null}]});
        let text = String::from_utf8(go_json_indent(&value, "  ")).unwrap();
        assert_eq!(text, "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ]\n}");
    }
}
