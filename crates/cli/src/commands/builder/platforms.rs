//! The platforms of a builder: found by trying, listed as buildx lists them.

use onetag_engine::builders::Node;
use onetag_oci::Platform;

use crate::context::Context;
use crate::error::CommandResult;

/// Architectures that the short list of `ls` shows first.
const MAJOR: [&str; 7] =
    ["linux/amd64", "linux/arm64", "linux/arm", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/mips64"];
/// So many groups the short list shows.
const MAXIMUM_GROUPS: usize = 4;

/// The platforms that this host can execute, natively or emulated, found by executing a probe of each.
pub fn found(context: &Context) -> CommandResult<Vec<Platform>> {
    context.enter_namespace()?;
    let support = context.engine()?.sandbox().platforms();
    Ok(support.into_iter().filter(|support| support.is_supported()).map(|support| support.platform).collect())
}

/// A node's platforms for people: those fixed for it first, marked; then those found.
pub fn listed(node: &Node, found: &[Platform]) -> Vec<String> {
    let fixed: Vec<String> = node.platforms.iter().map(|platform| platform.normalize().to_string()).collect();
    let mut out: Vec<String> = fixed.iter().map(|platform| format!("{platform}*")).collect();
    out.extend(found.iter().map(ToString::to_string).filter(|platform| !fixed.contains(platform)));
    out
}

fn architecture(platform: &str) -> String {
    platform.trim_end_matches('*').splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
}

/// The list cut to a few groups: `linux/amd64 (+4), linux/arm64, (5 more)`.
pub fn shortened(platforms: &[String]) -> String {
    let mut groups: Vec<(String, Vec<&String>)> = Vec::new();
    let is_major = |platform: &&String| MAJOR.contains(&architecture(platform).as_str());
    let (mut major, minor): (Vec<&String>, Vec<&String>) = platforms.iter().partition(is_major);
    major.sort_by_key(|platform| MAJOR.iter().position(|major| *major == architecture(platform)));
    for platform in major.into_iter().chain(minor) {
        let key = architecture(platform);
        match groups.iter().position(|(known, _)| *known == key) {
            Some(position) => groups[position].1.push(platform),
            None if groups.len() < MAXIMUM_GROUPS => groups.push((key, vec![platform])),
            None => {}
        }
    }
    let shown: usize = groups.iter().map(|(_, members)| members.len()).sum();
    let mut out: Vec<String> = groups
        .into_iter()
        .map(|(key, members)| match members.as_slice() {
            [only] => (*only).clone(),
            several => {
                let mark = if several.iter().any(|platform| platform.ends_with('*')) { "*" } else { "" };
                format!("{key}{mark} (+{})", several.len())
            }
        })
        .collect();
    if platforms.len() > shown {
        out.push(format!("({} more)", platforms.len() - shown));
    }
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn the_short_list_is_the_recorded_one() {
        let all = "linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/amd64/v4, linux/arm64, linux/riscv64, linux/ppc64, \
                   linux/ppc64le, linux/s390x, linux/386, linux/loong64, linux/arm/v7, linux/arm/v6";
        let all: Vec<String> = all.split(", ").map(str::to_owned).collect();
        assert_eq!(shortened(&all), "linux/amd64 (+4), linux/arm64, linux/arm (+2), linux/ppc64le, (5 more)");
        assert_eq!(shortened(&all[4..5]), "linux/arm64");
    }
}
