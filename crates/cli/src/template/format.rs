//! Go's `fmt` verbs over template values.

use super::value::Value;
use onetag_oci::go_json;

/// Widths and precisions beyond this are cut.
const MAXIMUM_WIDTH: usize = 4096;

/// A float as `%v` prints it.
pub fn shortest(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return exponent(format!("{value:e}"));
    }
    value.to_string()
}

/// Go writes at least two digits of exponent, with its sign.
fn exponent(text: String) -> String {
    match text.split_once('e') {
        Some((mantissa, power)) => match power.strip_prefix('-') {
            Some(power) => format!("{mantissa}e-{power:0>2}"),
            None => format!("{mantissa}e+{power:0>2}"),
        },
        None => text,
    }
}

/// `fmt.Sprint`: a blank between two operands when neither is a string.
pub fn print(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut previous_is_text = true;
    for (index, argument) in arguments.iter().enumerate() {
        let is_text = matches!(argument, Value::Text(_));
        if index > 0 && !is_text && !previous_is_text {
            out.push(' ');
        }
        out.push_str(&argument.printed());
        previous_is_text = is_text;
    }
    out
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`.
pub fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut characters = format.chars().peekable();
    let mut next = arguments.iter();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = characters.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            characters.next();
        }
        flags.width = amount(&mut characters, &mut next);
        if characters.next_if_eq(&'.').is_some() {
            flags.precision = Some(amount(&mut characters, &mut next).unwrap_or(0));
        }
        match characters.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match next.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(argument) => out.push_str(&padded(verb_text(verb, argument, &flags), &flags, argument)),
            },
        }
    }
    let extra: Vec<_> = next.map(|value| format!("{}={}", value.type_name(), value.printed())).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn amount<'a>(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    next: &mut impl Iterator<Item = &'a Value>,
) -> Option<usize> {
    if characters.next_if_eq(&'*').is_some() {
        return match next.next() {
            Some(Value::Int(value)) => usize::try_from(*value).ok().map(|value| value.min(MAXIMUM_WIDTH)),
            _ => None,
        };
    }
    let mut value = None;
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        characters.next();
        value = Some((value.unwrap_or(0) * 10 + digit as usize).min(MAXIMUM_WIDTH));
    }
    value
}

fn verb_text(verb: char, value: &Value, flags: &Flags) -> String {
    let wrong = || format!("%!{verb}({}={})", value.type_name(), value.printed());
    match (verb, value) {
        ('v', Value::Missing | Value::Nil("interface {}")) => "<nil>".to_owned(),
        ('v', Value::Text(text)) if flags.sharp => quoted(text),
        ('v', value) => cut(value.printed(), flags, false),
        ('s', Value::Text(_)) => cut(value.printed(), flags, true),
        ('s', Value::List(_) | Value::Map(_) | Value::Struct(_)) => value.printed(),
        ('q', Value::Text(text)) => quoted(text),
        ('q', Value::List(items)) => {
            let items: Vec<_> = items.iter().map(|item| quoted(&item.printed())).collect();
            format!("[{}]", items.join(" "))
        }
        ('T', value) => value.type_name().to_owned(),
        ('t', Value::Bool(value)) => value.to_string(),
        ('d', Value::Int(value)) => signed(value.to_string(), *value >= 0, flags),
        ('x', Value::Int(value)) if flags.sharp => format!("{value:#x}"),
        ('x', Value::Int(value)) => format!("{value:x}"),
        ('X', Value::Int(value)) => format!("{value:X}"),
        ('o', Value::Int(value)) => format!("{value:o}"),
        ('b', Value::Int(value)) => format!("{value:b}"),
        ('c', Value::Int(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('f' | 'F', Value::Float(value)) => {
            signed(format!("{value:.*}", flags.precision.unwrap_or(6)), *value >= 0.0, flags)
        }
        ('e', Value::Float(value)) => {
            signed(exponent(format!("{value:.*e}", flags.precision.unwrap_or(6))), *value >= 0.0, flags)
        }
        ('g', Value::Float(value)) => signed(shortest(*value), *value >= 0.0, flags),
        _ => wrong(),
    }
}

fn cut(text: String, flags: &Flags, always: bool) -> String {
    match flags.precision {
        Some(precision) if always => text.chars().take(precision).collect(),
        _ => text,
    }
}

fn signed(text: String, positive: bool, flags: &Flags) -> String {
    match (positive, flags.plus, flags.space) {
        (true, true, _) => format!("+{text}"),
        (true, false, true) => format!(" {text}"),
        _ => text,
    }
}

/// A string in Go's double quotes.
fn quoted(text: &str) -> String {
    // JSON's escapes are Go's but for `<`, `>` and `&`, which Go's quoting leaves alone
    let json = String::from_utf8(go_json(&serde_json::Value::String(text.to_owned()))).unwrap_or_default();
    json.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")
}

fn padded(text: String, flags: &Flags, value: &Value) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if flags.minus {
        return text + &" ".repeat(missing);
    }
    if flags.zero && matches!(value, Value::Int(_) | Value::Float(_)) {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (&text[..1], digits),
            None => ("", text.as_str()),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}
