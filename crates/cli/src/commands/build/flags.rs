//! Flags of `buildx build` and `docker build` that onetag does not honour.

use crate::arguments::{Flag, FlagTable, Treatment};

/// The table.
#[derive(Debug)]
pub struct BuildFlags;

const ACCEPTED: Treatment = Treatment::Accepted;
const NO_LIMIT: Treatment = Treatment::Noted("steps are not limited");
const BY_STEP: Treatment =
    Treatment::Refused("`RUN --security=insecure` in the Dockerfile and --allow security.insecure do it for one step");
const OWN_NAMESPACES: Treatment = Treatment::Noted("each step has namespaces of its own");
const BY_MOUNT: Treatment =
    Treatment::Refused("`RUN --mount=type=bind` or `--mount=type=cache` in the Dockerfile does it for one step");

impl FlagTable for BuildFlags {
    const FLAGS: &'static [Flag] = &[
        Flag::value("policy", Treatment::Refused("policies are not supported")),
        Flag::value("resource", NO_LIMIT),
        Flag::switch("detach", Treatment::Refused("a build runs in the foreground: `onetag build … &`")),
        Flag::value(
            "invoke",
            Treatment::Refused("build with --load, then `onetag run -it IMAGE` runs a command in what was built"),
        ),
        Flag::value(
            "print",
            Treatment::Refused("--call=outline, --call=targets and --call=check tell about a Dockerfile"),
        ),
        Flag::value("root", Treatment::Noted("there is no builder's server to give it to")),
        Flag::value("server-config", Treatment::Noted("there is no builder's server to give it to")),
        Flag::switch("rm", ACCEPTED),
        Flag::switch("force-rm", ACCEPTED),
        Flag::switch("compress", ACCEPTED),
        Flag::switch("disable-content-trust", ACCEPTED),
        Flag::switch(
            "squash",
            Treatment::Refused("squashing is not supported: a last stage `FROM scratch` with `COPY --from` does it"),
        ),
        Flag::value("isolation", Treatment::Noted("has a meaning on Windows only")),
        Flag::value("memory", NO_LIMIT).short('m'),
        Flag::value("memory-swap", NO_LIMIT),
        Flag::value("cpu-shares", NO_LIMIT).short('c'),
        Flag::value("cpu-period", NO_LIMIT),
        Flag::value("cpu-quota", NO_LIMIT),
        Flag::value("cpuset-cpus", NO_LIMIT),
        Flag::value("cpuset-mems", NO_LIMIT),
        Flag::value("security-opt", BY_STEP),
        Flag::switch("privileged", BY_STEP),
        Flag::value("cap-add", BY_STEP),
        Flag::value(
            "cap-drop",
            Treatment::Refused("steps have Docker's default capabilities; `USER` in the Dockerfile leaves them"),
        ),
        Flag::value("device", Treatment::Refused("steps have no devices of the host's; `onetag run --device` has")),
        Flag::value("userns", OWN_NAMESPACES),
        Flag::value("pid", OWN_NAMESPACES),
        Flag::value("ipc", OWN_NAMESPACES),
        Flag::value("uts", OWN_NAMESPACES),
        Flag::value("cgroupns", OWN_NAMESPACES),
        Flag::value("runtime", Treatment::Noted("onetag is its own runtime")),
        Flag::value("volume", BY_MOUNT).short('v'),
    ];
}
