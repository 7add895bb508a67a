//! The functions templates can call: Go's own and Docker's.

use std::cmp::Ordering;

use thiserror::Error;

use super::value::Value;
use super::{JsonStyle, format};
use onetag_oci::{go_json, go_json_indent};

/// Why a function gave no value.
#[derive(Debug, Error)]
pub enum Failure {
    /// Called with a wrong number of arguments.
    #[error("{0}")]
    Arity(String),
    /// The function itself failed.
    #[error("{0}")]
    Call(String),
}

const NAMES: &[&str] = &[
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "json",
    "split",
    "join",
    "title",
    "lower",
    "upper",
    "pad",
    "truncate",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "replace",
    "trim",
];

/// Whether a template may call `name`.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function.
pub fn call(name: &str, arguments: &[Value], style: JsonStyle) -> Result<Value, Failure> {
    let minimum = match name {
        "print" | "println" => 0,
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "split" | "join" | "truncate" | "contains" | "hasPrefix"
        | "hasSuffix" => 2,
        "pad" | "replace" => 3,
        _ => 1,
    };
    let variadic =
        matches!(name, "print" | "println" | "printf" | "index" | "slice" | "eq" | "html" | "js" | "urlquery");
    if arguments.len() < minimum || (!variadic && arguments.len() > minimum) {
        let want = if variadic { format!("at least {minimum}") } else { minimum.to_string() };
        return Err(Failure::Arity(format!("wrong number of args for {name}: want {want} got {}", arguments.len())));
    }
    compute(name, arguments, style).map_err(Failure::Call)
}

fn compute(name: &str, arguments: &[Value], style: JsonStyle) -> Result<Value, String> {
    let text = |index: usize| match &arguments[index] {
        Value::Text(text) => Ok(text.clone()),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    };
    Ok(match name {
        "not" => Value::Bool(!arguments[0].is_true()),
        "len" => length(&arguments[0])?,
        "index" => index(arguments)?,
        "slice" => slice(arguments)?,
        "print" => Value::Text(format::print(arguments)),
        "println" => Value::Text(arguments.iter().map(Value::printed).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::Text(format::printf(&text(0)?, &arguments[1..])),
        "html" => Value::Text(escape_html(&format::print(arguments))),
        "js" => Value::Text(escape_js(&format::print(arguments))),
        "urlquery" => Value::Text(escape_query(&format::print(arguments))),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => Value::Bool(compare(name, arguments)?),
        "json" => Value::Text(json(&arguments[0], style)?),
        "split" => Value::list(text(0)?.split(&text(1)?).map(Value::from)),
        "join" => Value::Text(join(&arguments[0], &text(1)?)?),
        "title" => Value::Text(title(&text(0)?)),
        "lower" => Value::Text(text(0)?.to_lowercase()),
        "upper" => Value::Text(text(0)?.to_uppercase()),
        "trim" => Value::Text(text(0)?.trim().to_owned()),
        "contains" => Value::Bool(text(0)?.contains(&text(1)?)),
        "hasPrefix" => Value::Bool(text(0)?.starts_with(&text(1)?)),
        "hasSuffix" => Value::Bool(text(0)?.ends_with(&text(1)?)),
        "replace" => Value::Text(text(0)?.replace(&text(1)?, &text(2)?)),
        "pad" => Value::Text(pad(&text(0)?, integer(&arguments[1])?, integer(&arguments[2])?)),
        "truncate" => {
            let limit = usize::try_from(integer(&arguments[1])?).unwrap_or(0);
            Value::Text(text(0)?.chars().take(limit).collect())
        }
        _ => return Err(format!("function {name:?} not defined")),
    })
}

/// A number as a template writes it.
pub fn number(source: &str) -> Option<Value> {
    let plain = source.replace('_', "");
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: &str, radix| {
        let digits = digits.strip_prefix(prefix)?;
        i64::from_str_radix(digits, radix).ok()
    };
    let whole = radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(|| digits.parse().ok());
    match whole {
        Some(value) => Some(Value::Int(sign * value)),
        None => {
            digits.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| Value::Float(sign as f64 * value))
        }
    }
}

fn json(value: &Value, style: JsonStyle) -> Result<String, String> {
    let json = value.to_json()?;
    let bytes = match style {
        JsonStyle::Compact => go_json(&json),
        JsonStyle::Indented => go_json_indent(&json, "  "),
    };
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.len(),
        Value::Missing | Value::Nil(_) => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

fn integer(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(value) => Ok(*value),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for key in &arguments[1..] {
        value = match &value {
            Value::Missing | Value::Nil("interface {}") => return Err("index of untyped nil".to_owned()),
            Value::Nil(_) => return Err("index of nil pointer".to_owned()),
            Value::Map(members) => match key {
                Value::Text(key) => members.get(key).cloned().unwrap_or_else(|| absent(members.values().next())),
                other => return Err(format!("value has type {}; should be string", other.type_name())),
            },
            Value::List(items) => {
                let at = integer(key)?;
                let item = usize::try_from(at).ok().and_then(|at| items.get(at));
                item.cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::Text(text) => {
                let at = integer(key)?;
                let byte = usize::try_from(at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*byte.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

/// What indexing a map gives for a key it has not: the zero value of its element type, told from an element.
fn absent(sibling: Option<&Value>) -> Value {
    match sibling {
        Some(Value::Text(_)) => Value::Text(String::new()),
        Some(Value::Int(_)) => Value::Int(0),
        Some(Value::Bool(_)) => Value::Bool(false),
        Some(Value::Struct(structure)) => Value::Nil(structure.type_name),
        _ => Value::Missing,
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let length = match &arguments[0] {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |index: usize, default: usize| match arguments.get(index) {
        None => Ok(default),
        Some(value) => {
            let at = integer(value)?;
            usize::try_from(at).ok().filter(|at| *at <= length).ok_or_else(|| format!("index out of range: {at}"))
        }
    };
    let (start, end) = (bound(1, 0)?, bound(2, length)?);
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    match &arguments[0] {
        Value::Text(text) => text.get(start..end).map(Value::from).ok_or_else(|| "slice splits a character".to_owned()),
        Value::List(items) => Ok(Value::list(items[start..end].iter().cloned())),
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

fn compare(name: &str, arguments: &[Value]) -> Result<bool, String> {
    let incompatible = || "incompatible types for comparison".to_owned();
    let equal = |a: &Value, b: &Value| -> Result<bool, String> {
        Ok(match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Nil(_) | Value::Missing, Value::Nil(_) | Value::Missing) => true,
            (Value::Nil(_) | Value::Missing, _) | (_, Value::Nil(_) | Value::Missing) => false,
            (Value::List(_) | Value::Map(_) | Value::Struct(_), _) => {
                return Err(format!("non-comparable type {}: {}", a.printed(), a.type_name()));
            }
            _ => return Err(incompatible()),
        })
    };
    let order = |a: &Value, b: &Value| match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Equal)),
        (Value::Int(a), Value::Float(b)) => Ok((*a as f64).partial_cmp(b).unwrap_or(Ordering::Equal)),
        (Value::Float(a), Value::Int(b)) => Ok(a.partial_cmp(&(*b as f64)).unwrap_or(Ordering::Equal)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (Value::Bool(_) | Value::List(_) | Value::Map(_), _) => Err("invalid type for comparison".to_owned()),
        _ => Err(incompatible()),
    };
    let (first, second) = (&arguments[0], &arguments[1]);
    Ok(match name {
        "eq" => {
            for other in &arguments[1..] {
                if equal(first, other)? {
                    return Ok(true);
                }
            }
            false
        }
        "ne" => !equal(first, second)?,
        "lt" => order(first, second)?.is_lt(),
        "le" => order(first, second)?.is_le(),
        "gt" => order(first, second)?.is_gt(),
        _ => order(first, second)?.is_ge(),
    })
}

fn join(value: &Value, separator: &str) -> Result<String, String> {
    match value {
        Value::List(items) => Ok(items.iter().map(Value::printed).collect::<Vec<_>>().join(separator)),
        other => Err(format!("wrong type for value; expected []string; got {}", other.type_name())),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .flat_map(|c| {
            let upper = start && c.is_alphabetic();
            start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn pad(text: &str, before: i64, after: i64) -> String {
    if text.is_empty() {
        return String::new();
    }
    let blanks = |count: i64| " ".repeat(usize::try_from(count).unwrap_or(0).min(4096));
    format!("{}{text}{}", blanks(before), blanks(after))
}

fn escape_html(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '\'' => "&#39;".to_owned(),
            '"' => "&#34;".to_owned(),
            '\0' => '\u{fffd}'.to_string(),
            c => c.to_string(),
        })
        .collect()
}

fn escape_js(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\\' | '\'' | '"' => format!("\\{c}"),
            '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
            c if c.is_ascii_control() => format!("\\u{:04X}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

fn escape_query(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
