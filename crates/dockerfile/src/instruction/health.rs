//! `HEALTHCHECK`.

use super::builder_flags::{FlagKind, Flags};
use super::error::{Focus, InstructionError, InstructionErrorKind as Kind};
use super::{Command, Healthcheck};
use crate::parser::Node;
use crate::values::parse_duration;

const FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::Text),
    ("timeout", FlagKind::Text),
    ("start-period", FlagKind::Text),
    ("start-interval", FlagKind::Text),
    ("retries", FlagKind::Text),
];

const MINIMUM_NANOSECONDS: i64 = 1_000_000;

pub(super) fn parse(node: &Node) -> Result<Command, InstructionError> {
    let Some((kind, args)) = node.args.split_first() else {
        return Err(Kind::AtLeastOne("HEALTHCHECK").into());
    };
    let kind = kind.text.to_uppercase();
    if kind == "NONE" {
        if !args.is_empty() {
            return Err(Kind::HealthNone.at(Focus::Argument(1)));
        }
        return Ok(Command::Healthcheck(Box::new(Healthcheck { test: vec![kind], ..Healthcheck::default() })));
    }
    let (flags, mut mistakes) = Flags::read(&node.flags, &FLAGS);
    if kind != "CMD" {
        mistakes.note::<()>(Err(Kind::HealthType(kind).at(Focus::Argument(0))));
    } else if args.is_empty() {
        mistakes.note::<()>(Err(Kind::HealthNoCommand.into()));
    }
    let mut time = |name| mistakes.note(interval(&flags, name)).unwrap_or_default();
    let (interval, timeout) = (time("interval"), time("timeout"));
    let (start_period, start_interval) = (time("start-period"), time("start-interval"));
    let retries = mistakes.note(retries(&flags)).unwrap_or_default();
    mistakes.finish()?;
    let words = args.iter().map(|word| word.text.clone());
    let test = if node.json {
        std::iter::once("CMD".to_owned()).chain(words).collect()
    } else {
        vec!["CMD-SHELL".to_owned(), words.collect::<Vec<_>>().join(" ")]
    };
    Ok(Command::Healthcheck(Box::new(Healthcheck { test, interval, timeout, start_period, start_interval, retries })))
}

fn interval(flags: &Flags<'_>, name: &'static str) -> Result<i64, InstructionError> {
    let Some((value, focus)) = flags.find(name).filter(|(value, _)| !value.is_empty()) else { return Ok(0) };
    let nanoseconds = parse_duration(value).map_err(|error| Kind::Duration(error).at(focus))?;
    if nanoseconds != 0 && nanoseconds < MINIMUM_NANOSECONDS {
        return Err(Kind::Interval(name).at(focus));
    }
    Ok(nanoseconds)
}

fn retries(flags: &Flags<'_>) -> Result<i32, InstructionError> {
    let Some((value, focus)) = flags.find("retries").filter(|(value, _)| !value.is_empty()) else { return Ok(0) };
    let retries: i32 = value.parse().map_err(|_| {
        let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = if is_number { "value out of range" } else { "invalid syntax" };
        Kind::Retries { value: value.to_owned(), reason }.at(focus)
    })?;
    if retries < 0 {
        return Err(Kind::NegativeRetries(retries).at(focus));
    }
    Ok(retries)
}
