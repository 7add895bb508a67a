//! Flags of `buildx build` and `docker build` that onetag does not honour.

use crate::arguments::{Flag, FlagTable, Treatment};

/// The table.
#[derive(Debug)]
pub struct BuildFlags;

const ACCEPTED: Treatment = Treatment::Accepted;
const NO_LIMIT: Treatment = Treatment::Noted("steps are not limited");

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
        Flag::value(
            "security-opt",
            Treatment::Refused("RUN --security=insecure with --allow security.insecure does it"),
        ),
    ];
}
