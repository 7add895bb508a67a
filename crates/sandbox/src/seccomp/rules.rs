//! From the profile to what happens to each call number.

use super::Architecture;
use super::calls::{CALLS, COLUMNS};
use crate::capabilities::{CapabilitySet, number};

/// When a call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Always.
    Always,
    /// With a capability, or by another rule for the same call.
    With(u32),
    /// `clone`: without new namespaces, unless privileged.
    Clone,
    /// `clone3`: its flags are out of the filter's reach, so programs are sent to `clone`, unless privileged.
    Clone3,
    /// `personality`: with harmless values.
    Personality,
    /// `socket`: all families but AF_ALG and AF_VSOCK.
    Socket,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is made.
    Allow,
    /// It fails with "operation not permitted".
    Deny,
    /// It fails with "function not implemented".
    Missing,
    /// The argument with this index is looked at: allowed when none of these bits is set.
    WithoutBits { argument: u8, bits: u32 },
    /// Allowed when the first argument is one of these.
    OneOf(&'static [u32]),
    /// Denied when the first argument is one of these.
    NoneOf(&'static [u32]),
    /// Handed over when the argument with this index is the mode of a device, else allowed.
    HandOverDevices { mode: u8 },
}

/// All namespace flags of `clone` but CLONE_NEWTIME, which shares its bit with the exit signal.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// The actions for an architecture's call numbers: each holds from its number up to the next one's.
pub(super) fn segments(architecture: Architecture, capabilities: CapabilitySet, hand_over: bool) -> Vec<(u32, Action)> {
    let column = COLUMNS.iter().position(|known| *known == architecture).unwrap_or_default();
    let mut calls: Vec<(u32, Action)> = Vec::with_capacity(CALLS.len());
    for (rule, name, numbers) in CALLS {
        let Ok(number) = u32::try_from(numbers[column]) else { continue };
        let mode = match *name {
            "mknod" if hand_over => Some(1),
            "mknodat" if hand_over => Some(2),
            _ => None,
        };
        let handed = mode.map(|mode| Action::HandOverDevices { mode });
        calls.extend(handed.or_else(|| action(*rule, architecture, capabilities)).map(|action| (number, action)));
    }
    // Of several rules for one call the most generous comes first.
    calls.sort_by_key(|(number, action)| (*number, *action != Action::Allow));
    calls.dedup_by_key(|(number, _)| *number);
    let mut segments: Vec<(u32, Action)> = Vec::new();
    let mut next = 0;
    let mut push = |from: u32, action: Action| {
        if segments.last().is_none_or(|(_, last)| *last != action) {
            segments.push((from, action));
        }
    };
    for (number, action) in calls {
        if number > next {
            push(next, Action::Deny);
        }
        push(number, action);
        next = number + 1;
    }
    push(next, Action::Missing);
    segments
}

fn action(rule: Rule, architecture: Architecture, capabilities: CapabilitySet) -> Option<Action> {
    let privileged = capabilities.has(number::SYS_ADMIN);
    Some(match rule {
        Rule::Always => Action::Allow,
        Rule::With(capability) if capabilities.has(capability) => Action::Allow,
        // Known, so that it is denied rather than missing.
        Rule::With(_) => Action::Deny,
        Rule::Clone | Rule::Clone3 if privileged => Action::Allow,
        Rule::Clone => {
            // On s390x the stack comes first.
            let argument = u8::from(architecture == Architecture::S390x);
            Action::WithoutBits { argument, bits: NEW_NAMESPACES }
        }
        Rule::Clone3 => Action::Missing,
        Rule::Personality => Action::OneOf(&[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff]),
        Rule::Socket => Action::NoneOf(&[38, 40]),
    })
}
