//! What a build used: images, repositories, files of the network, local folders; and what its steps may have reached.

use std::collections::BTreeMap;

use onetag_dockerfile::Lowered;
use onetag_dockerfile::lower::UsedImage;
use onetag_llb::{MountKind, NetworkMode, OpKind};
use onetag_oci::{Platform, Reference};
use serde_json::{Map, Value, json};

use super::{Facts, Pin};
use crate::build::BuildContext;
use crate::build::DockerfileSource;

/// What one platform's image was made from.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sources {
    /// Images, repositories and files, each with its digest.
    pub(super) materials: Vec<Value>,
    /// Names of local folders.
    pub(super) locals: Vec<String>,
    /// Ids of secrets, and whether they are optional.
    pub(super) secrets: BTreeMap<String, bool>,
    /// Ids of SSH agents, and whether they are optional.
    pub(super) ssh: BTreeMap<String, bool>,
    /// Whether a step could reach the network.
    pub(super) has_network: bool,
}

impl Sources {
    /// The sources of the image of one platform.
    pub(super) fn of(facts: &Facts<'_>, position: usize) -> Self {
        let lowered = facts.lowered[position];
        let mut sources = Self::default();
        for image in images(facts.lowered, lowered) {
            let digest = json!({ image.digest.algorithm().name(): image.digest.encoded() });
            let uri = purl(&image.reference, Some(&image.digest), Some(&image.platform));
            sources.materials.push(json!({ "uri": uri, "digest": digest }));
        }
        let (mut repositories, mut files) = (BTreeMap::new(), BTreeMap::new());
        for vertex in lowered.graph.vertices() {
            match &vertex.op.kind {
                OpKind::Source(source) => {
                    let (scheme, rest) = source.identifier.split_once("://").unwrap_or(("", ""));
                    match (scheme, facts.pins.get(&vertex.digest)) {
                        ("local", _) => sources.add_local(rest),
                        ("git", Some(Pin::Commit(commit))) => {
                            let remote = source.attributes.get("git.fullurl").map_or(rest, String::as_str);
                            let fragment = source.identifier.split_once('#').map_or("", |(_, fragment)| fragment);
                            let name = fragment.split(':').next().unwrap_or_default();
                            let uri = if name.is_empty() { remote.to_owned() } else { format!("{remote}#{name}") };
                            let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
                            repositories.insert(redacted(&uri), json!({ algorithm: commit }));
                        }
                        ("http" | "https", Some(Pin::File(digest))) => {
                            let digest = json!({ digest.algorithm().name(): digest.encoded() });
                            files.insert(redacted(&source.identifier), digest);
                        }
                        _ => {}
                    }
                }
                OpKind::Exec(exec) => {
                    sources.has_network |= exec.network != NetworkMode::None;
                    for mount in &exec.mounts {
                        match &mount.kind {
                            MountKind::Secret(secret) => add(&mut sources.secrets, &secret.id, secret.optional),
                            MountKind::Ssh(ssh) => {
                                let id = if ssh.id.is_empty() { "default" } else { &ssh.id };
                                add(&mut sources.ssh, id, ssh.optional);
                            }
                            _ => {}
                        }
                    }
                    let environment = &exec.secret_environment;
                    environment.iter().for_each(|secret| add(&mut sources.secrets, &secret.id, secret.optional));
                }
                _ => {}
            }
        }
        let material = |(uri, digest): (String, Value)| json!({ "uri": uri, "digest": digest });
        sources.materials.extend(repositories.into_iter().map(material));
        sources.materials.extend(files.into_iter().map(material));
        if matches!(facts.request.context, BuildContext::Local(_) | BuildContext::Empty) {
            sources.add_local("context");
            sources.add_local("dockerfile");
        } else if matches!(facts.request.dockerfile, DockerfileSource::Content(_)) {
            sources.add_local("dockerfile");
        }
        sources.locals.sort();
        sources
    }

    /// The digest of a repository or file by its address.
    pub(super) fn digest_of(&self, uri: &str) -> Option<&Value> {
        let found = self.materials.iter().find(|material| material["uri"] == uri);
        found.and_then(|material| material.get("digest"))
    }

    fn add_local(&mut self, name: &str) {
        let name = name.strip_prefix("context:").unwrap_or(name);
        if !self.locals.iter().any(|known| known == name) {
            self.locals.push(name.to_owned());
        }
    }
}

/// An id is optional when every use of it is.
fn add(ids: &mut BTreeMap<String, bool>, id: &str, optional: bool) {
    ids.entry(id.to_owned()).and_modify(|known| *known &= optional).or_insert(optional);
}

/// The ids as BuildKit lists them.
pub(super) fn ids(ids: &BTreeMap<String, bool>) -> Vec<Value> {
    let entry = |(id, optional): (&String, &bool)| match optional {
        true => json!({ "id": id, "optional": true }),
        false => json!({ "id": id }),
    };
    ids.iter().map(entry).collect()
}

/// The images that one platform's result used. Of an image that was resolved for every target platform only the one of
/// this platform counts; others, such as those of the build platform, count for all.
fn images<'a>(all: &[&'a Lowered], current: &Lowered) -> Vec<&'a UsedImage> {
    let resolved = || all.iter().flat_map(|lowered| &lowered.images);
    let is_for_all = |image: &UsedImage| {
        let serves = |platform: &Platform| {
            resolved().any(|other| other.reference == image.reference && other.platform == platform.normalize())
        };
        all.len() > 1 && all.iter().all(|lowered| serves(&lowered.platform))
    };
    let current = current.platform.normalize();
    let mut images: Vec<&UsedImage> = Vec::new();
    for image in resolved() {
        let is_known =
            images.iter().any(|known| known.reference == image.reference && known.platform == image.platform);
        let fits = (&image.platform.os, &image.platform.architecture) == (&current.os, &current.architecture);
        if !is_known && (fits || !is_for_all(image)) {
            images.push(image);
        }
    }
    images.sort_by_key(|image| image.reference.familiar());
    images
}

/// A reference as a package URL of type `docker`.
pub(super) fn purl(reference: &Reference, digest: Option<&onetag_oci::Digest>, platform: Option<&Platform>) -> String {
    let name = reference.familiar_name();
    let path: Vec<String> = name.split('/').map(|part| encoded(part, b"")).collect();
    let mut text = format!("pkg:docker/{}", path.join("/"));
    let mut qualifiers = Vec::new();
    match (reference.tag(), digest) {
        (Some(tag), _) => text.push_str(&format!("@{}", encoded(tag, b""))),
        // Named by digest alone.
        (None, Some(digest)) => qualifiers.push(format!("digest={digest}")),
        (None, None) => text.push_str("@latest"),
    }
    if let Some(platform) = platform {
        qualifiers.push(format!("platform={}", encoded(&platform.normalize().to_string(), b":")));
    }
    if !qualifiers.is_empty() {
        text.push_str(&format!("?{}", qualifiers.join("&")));
    }
    text
}

fn encoded(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            byte if kept.contains(&byte) => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// An address without the credentials in it.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else { return url.to_owned() };
    let user = match user.contains(':') {
        true => "xxxxx:xxxxx",
        // The user of an SSH address alone is no secret.
        false if user.is_empty() || scheme == "ssh" => user,
        false => "xxxxx",
    };
    format!("{scheme}://{user}@{host}{}", &rest[end..])
}

/// What the front end was told, under BuildKit's names for it.
pub(super) fn arguments(facts: &Facts<'_>) -> Map<String, Value> {
    let request = facts.request;
    let mut arguments: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(arguments.insert(name.to_owned(), value));
    for (name, value) in &request.build_args {
        set(&format!("build-arg:{name}"), value.clone());
    }
    for (name, value) in &request.labels {
        set(&format!("label:{name}"), value.clone());
    }
    for (name, value) in &request.build_contexts {
        let is_local = !value.contains("://") && !value.starts_with("target:");
        let value = if is_local { format!("local:{name}") } else { redacted(value) };
        set(&format!("context:{name}"), value);
    }
    if let Some(target) = &request.target {
        set("target", target.clone());
    }
    match &request.no_cache {
        onetag_dockerfile::NoCache::Never => {}
        onetag_dockerfile::NoCache::Always => set("no-cache", String::new()),
        onetag_dockerfile::NoCache::Stages(stages) => set("no-cache", stages.join(",")),
    }
    match request.network {
        NetworkMode::Sandbox => {}
        NetworkMode::Host => set("force-network-mode", "host".to_owned()),
        NetworkMode::None => set("force-network-mode", "none".to_owned()),
    }
    let hosts: Vec<String> = request.extra_hosts.iter().map(|host| format!("{}={}", host.host, host.ip)).collect();
    if !hosts.is_empty() {
        set("add-hosts", hosts.join(","));
    }
    if request.shm_size_bytes != 0 {
        set("shm-size", request.shm_size_bytes.to_string());
    }
    let limits: Vec<String> =
        request.ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)).collect();
    if !limits.is_empty() {
        set("ulimit", limits.join(","));
    }
    for (name, value) in &request.vcs {
        set(&format!("vcs:{name}"), redacted(value));
    }
    arguments.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_package_urls() {
        let purl = |text: &str, platform: Option<&str>| {
            let reference = Reference::parse(text).unwrap();
            let digest = reference.digest().cloned();
            let platform = platform.map(|platform| platform.parse().unwrap());
            super::purl(&reference.without_digest(), digest.as_ref(), platform.as_ref())
        };
        assert_eq!(purl("alpine:3.15", None), "pkg:docker/alpine@3.15");
        assert_eq!(purl("alpine", None), "pkg:docker/alpine@latest");
        assert_eq!(purl("ghcr.io/foo/bar:v2", None), "pkg:docker/ghcr.io/foo/bar@v2");
        assert_eq!(
            purl("localhost:5000/busybox:latest", Some("linux/arm/v7")),
            "pkg:docker/localhost%3A5000/busybox@latest?platform=linux%2Farm%2Fv7"
        );
        let digest = onetag_oci::Digest::sha256(b"");
        assert_eq!(
            purl(&format!("busybox@{digest}"), Some("linux/amd64")),
            format!("pkg:docker/busybox?digest={digest}&platform=linux%2Famd64")
        );
    }

    #[test]
    fn credentials_stay_out() {
        assert_eq!(redacted("https://user:token@example.com/a.git#main"), "https://xxxxx:xxxxx@example.com/a.git#main");
        assert_eq!(redacted("https://token@example.com/a"), "https://xxxxx@example.com/a");
        assert_eq!(redacted("https://example.com/a@b"), "https://example.com/a@b");
        assert_eq!(redacted("ssh://git@example.com/a"), "ssh://git@example.com/a");
        assert_eq!(redacted("ssh://git:pw@example.com/a"), "ssh://xxxxx:xxxxx@example.com/a");
        assert_eq!(redacted("git://me:pw@example.com/a@b"), "git://xxxxx:xxxxx@example.com/a@b");
    }
}
