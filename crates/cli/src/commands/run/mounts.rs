//! `--volume`, `--mount` and `--tmpfs`.

use std::path::Path;

use onetag_dockerfile::flags::csv;
use onetag_sandbox::{Mount, MountKind, RootFs};

use crate::arguments::{go_bool, parse_size};
use crate::error::{CommandError, CommandResult};

/// What a tmpfs is mounted with when nothing else is said.
const TMPFS_MODE: u32 = 0o1777;

fn bind(source: &str, target: &str, read_only: bool, make_source: bool) -> CommandResult<Mount> {
    if !target.starts_with('/') {
        return Err(CommandError::new(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let source = std::path::absolute(source)?;
    if !source.exists() {
        if !make_source {
            return Err(CommandError::new(format!("bind source path does not exist: {}", source.display())));
        }
        std::fs::create_dir_all(&source)
            .map_err(|error| CommandError::from(error).context(format!("cannot make {}", source.display())))?;
    }
    let kind = MountKind::Bind { source: RootFs::Directory(source), subpath: None, read_only, recursive: true };
    Ok(Mount { target: target.to_owned(), kind })
}

/// `-v FOLDER:PATH[:OPTIONS]`. As Docker does, a folder that is not there is made.
///
/// # Errors
/// For named volumes, and paths that are not absolute.
pub fn volume(text: &str) -> CommandResult<Mount> {
    let mut parts = text.splitn(3, ':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(CommandError::new(format!("--volume {text}: anonymous volumes are not supported"))
            .with_hint("--tmpfs PATH gives an empty folder, -v FOLDER:PATH one of yours"));
    };
    if !source.contains('/') && source != "." && source != ".." && source != "~" {
        return Err(CommandError::new(format!("--volume {text}: named volumes are not supported"))
            .with_hint(format!("-v ./{source}:{target} binds the folder of that name")));
    }
    let mut read_only = false;
    for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" | "rprivate" | "private" | "rslave" | "slave" | "rshared" | "shared" | "cached"
            | "delegated" | "consistent" | "nocopy" => {}
            other => return Err(CommandError::new(format!("invalid mode: {other}"))),
        }
    }
    bind(source, target, read_only, true)
}

/// `--device DEVICE[:PATH[:PERMISSIONS]]`.
///
/// # Errors
/// For what is no device node, and for permissions that only a control group could enforce.
pub fn device(text: &str) -> CommandResult<Mount> {
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    if !source.starts_with('/') {
        return Err(CommandError::new(format!("--device {text}: devices by name (CDI) are not supported"))
            .with_hint("--device /dev/NAME takes a node of the host's"));
    }
    let (target, permissions) = match (parts.next(), parts.next()) {
        (None, _) => (source, "rwm"),
        (Some(second), None) if is_permissions(second) => (source, second),
        (Some(target), permissions) => (target, permissions.unwrap_or("rwm")),
    };
    if !target.starts_with('/') {
        return Err(CommandError::new(format!("invalid device path: '{target}' must be absolute")));
    }
    if !is_permissions(permissions) {
        return Err(CommandError::new(format!("invalid device mode: {permissions}")));
    }
    if !(permissions.contains('r') && permissions.contains('w')) {
        return Err(CommandError::new(format!("--device {text}: the permissions {permissions} are not supported"))
            .with_hint("the device's own mode says who may read and write it: leave the permissions out"));
    }
    let kind = std::fs::metadata(source)
        .map_err(|error| CommandError::from(error).context(format!("cannot find the device {source}")))?
        .file_type();
    use std::os::unix::fs::FileTypeExt;
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(CommandError::new(format!("{source} is not a device node")));
    }
    Ok(Mount { target: target.to_owned(), kind: MountKind::Device { source: source.into() } })
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter))
}

/// `--mount type=bind|tmpfs,…`.
///
/// # Errors
/// For unknown types and keys.
pub fn mount(text: &str) -> CommandResult<Mount> {
    let (mut kind, mut source, mut target) = ("volume".to_owned(), String::new(), String::new());
    let (mut read_only, mut size, mut mode) = (false, None, TMPFS_MODE);
    let bad = |field: &str| CommandError::new(format!("invalid field '{field}' in --mount {text}"));
    for field in csv::split(text)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, "true"));
        match key.to_lowercase().as_str() {
            "type" => value.clone_into(&mut kind),
            "source" | "src" => value.clone_into(&mut source),
            "target" | "dst" | "destination" => value.clone_into(&mut target),
            "readonly" | "ro" => read_only = go_bool(value).map_err(|_| bad(&field))?,
            "tmpfs-size" => size = Some(parse_size(value)?),
            "tmpfs-mode" => mode = u32::from_str_radix(value, 8).map_err(|_| bad(&field))?,
            "bind-propagation" | "consistency" | "bind-recursive" | "bind-nonrecursive" => {}
            _ => return Err(bad(&field)),
        }
    }
    match kind.as_str() {
        "bind" => bind(&source, &target, read_only, false),
        "tmpfs" if target.starts_with('/') => Ok(Mount { target, kind: MountKind::Tmpfs { size_bytes: size, mode } }),
        "tmpfs" => Err(CommandError::new(format!("invalid mount path: '{target}' mount path must be absolute"))),
        other => {
            Err(CommandError::new(format!("--mount type={other} is not supported"))
                .with_hint("types are bind and tmpfs"))
        }
    }
}

/// `--tmpfs PATH[:OPTIONS]`.
///
/// # Errors
/// For paths that are not absolute and bad options.
pub fn tmpfs(text: &str) -> CommandResult<Mount> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    if !Path::new(target).is_absolute() {
        return Err(CommandError::new(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let (mut size_bytes, mut mode) = (None, TMPFS_MODE);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size_bytes = Some(parse_size(value)?),
            Some(("mode", value)) => {
                mode = u32::from_str_radix(value, 8)
                    .map_err(|_| CommandError::new(format!("invalid tmpfs option {option:?}")))?;
            }
            // the rest is how the kernel mounts a tmpfs for a container anyway
            _ => {}
        }
    }
    Ok(Mount { target: target.to_owned(), kind: MountKind::Tmpfs { size_bytes, mode } })
}

#[cfg(test)]
mod tests {
    use onetag_sandbox::MountKind;

    use super::{device, mount, tmpfs, volume};

    #[test]
    fn volumes_bind_folders() {
        let parsed = volume("/tmp:/data:ro").unwrap();
        assert_eq!(parsed.target, "/data");
        assert!(matches!(parsed.kind, MountKind::Bind { read_only: true, recursive: true, .. }));
        for bad in ["name:/data", "/tmp", "/tmp:data", "/tmp:/data:xx"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_are_nodes() {
        for (text, target) in
            [("/dev/null", "/dev/null"), ("/dev/null:/dev/x", "/dev/x"), ("/dev/null:rwm", "/dev/null")]
        {
            let parsed = device(text).unwrap();
            assert_eq!(parsed.target, target);
            assert!(matches!(parsed.kind, MountKind::Device { source } if source.ends_with("null")));
        }
        for bad in
            ["/tmp", "/dev/absent", "/dev/null:x", "/dev/null:/x:q", "/dev/null:/x:r", "vendor.com/class=name", ""]
        {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_have_types() {
        assert!(matches!(
            mount("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700").unwrap().kind,
            MountKind::Tmpfs { size_bytes: Some(1_048_576), mode: 0o700 }
        ));
        assert!(mount("type=bind,src=/tmp,target=/x,readonly").is_ok());
        for bad in
            ["type=volume,src=a,dst=/b", "type=bind,src=/nonexistent/x,dst=/b", "type=tmpfs,dst=x", "type=bind,foo=1"]
        {
            assert!(mount(bad).is_err(), "{bad}");
        }
        assert!(matches!(
            tmpfs("/run:size=64k,noexec").unwrap().kind,
            MountKind::Tmpfs { size_bytes: Some(65_536), .. }
        ));
    }
}
