//! `--security-opt`.

use crate::error::{CommandError, CommandResult};
use crate::output;

/// What the options come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// No program gains rights by being executed.
    pub no_new_privileges: bool,
    /// System calls are not filtered.
    pub unfiltered: bool,
    /// No path of `/proc` and `/sys` is hidden.
    pub unmasked: bool,
}

/// Parses all of them; the older form with a colon is Docker's too.
///
/// # Errors
/// For those that cannot be honoured: a container would be less confined than was asked for.
pub fn options(texts: &[String]) -> CommandResult<Options> {
    let mut options = Options::default();
    for text in texts {
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        let refused = |hint: &str| {
            Err(CommandError::new(format!("--security-opt {text} is not supported")).with_hint(hint.to_owned()))
        };
        match (name, value) {
            ("no-new-privileges", "" | "true") => options.no_new_privileges = true,
            ("no-new-privileges", "false") | ("seccomp", "builtin") | ("apparmor", "unconfined") => {}
            ("label", _) => output::note("note: --security-opt label: containers have no SELinux labels of their own"),
            ("seccomp", "unconfined") => options.unfiltered = true,
            ("systempaths", "unconfined") => options.unmasked = true,
            ("seccomp", _) => {
                return refused(
                    "profiles of one's own are not read: seccomp=builtin is Docker's default one, seccomp=unconfined none",
                );
            }
            ("apparmor", _) => return refused("no AppArmor profile is applied: apparmor=unconfined says so"),
            _ => {
                return refused(
                    "options are no-new-privileges, seccomp=unconfined, systempaths=unconfined, apparmor=unconfined and label=…",
                );
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::{Options, options};

    #[test]
    fn each_option_loosens_or_tightens_one_thing() {
        let parse = |texts: &[&str]| options(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            parse(&["seccomp=builtin", "apparmor:unconfined", "no-new-privileges=false"]).unwrap(),
            Options::default()
        );
        let all = parse(&["no-new-privileges", "seccomp:unconfined", "systempaths=unconfined"]).unwrap();
        assert_eq!(all, Options { no_new_privileges: true, unfiltered: true, unmasked: true });
        for text in [
            "seccomp=/profile.json",
            "apparmor=docker-default",
            "no-new-privileges=maybe",
            "writable-cgroups",
            "credentialspec=x",
        ] {
            assert!(parse(&[text]).unwrap_err().render(crate::error::Voice::Own).contains(text), "{text}");
        }
    }
}
