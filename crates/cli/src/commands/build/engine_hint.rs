//! After `--load`: how a Docker engine on this machine gets the image, which lies in a store that it does not know.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use onetag_engine::build::{BuildOutcome, BuildRequest};
use onetag_engine::export::Target;

use crate::context::variable;

/// What to type where there is an engine and an image with a name for it.
pub fn hint(request: &BuildRequest, outcome: &BuildOutcome) -> Option<String> {
    let is_loaded = request.outputs.iter().any(|output| matches!(output.target, Target::Store));
    let name = outcome.names.first().filter(|_| is_loaded)?;
    let sockets = sockets(variable("DOCKER_HOST"), variable("XDG_RUNTIME_DIR"));
    sockets.iter().any(|path| is_socket(path)).then(|| {
        let name = name.familiar();
        format!("onetag save {name} | docker load    (the image is in the store of onetag, which Docker does not read)")
    })
}

/// Where Docker's client looks for its engine. One that is asked over a network is not looked for.
fn sockets(host: Option<String>, runtime_folder: Option<String>) -> Vec<PathBuf> {
    match host {
        Some(host) => host.strip_prefix("unix://").map(PathBuf::from).into_iter().collect(),
        None => {
            let rootless = runtime_folder.map(|folder| Path::new(&folder).join("docker.sock"));
            std::iter::once(PathBuf::from("/var/run/docker.sock")).chain(rootless).collect()
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::sockets;

    #[test]
    fn the_engine_is_looked_for_where_docker_does() {
        let paths =
            |host: Option<&str>, folder: Option<&str>| sockets(host.map(str::to_owned), folder.map(str::to_owned));
        let usual = PathBuf::from("/var/run/docker.sock");
        assert_eq!(paths(None, None), std::slice::from_ref(&usual));
        assert_eq!(paths(None, Some("/run/user/7")), [usual, PathBuf::from("/run/user/7/docker.sock")]);
        assert_eq!(paths(Some("unix:///other.sock"), Some("/run/user/7")), [PathBuf::from("/other.sock")]);
        assert_eq!(paths(Some("tcp://machine:2375"), None), Vec::<PathBuf>::new());
    }
}
