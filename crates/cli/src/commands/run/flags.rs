//! Flags of `docker run` that onetag does not honour.

use crate::arguments::{Flag, FlagTable, Treatment};

/// The table.
#[derive(Debug)]
pub struct RunFlags;

const ACCEPTED: Treatment = Treatment::Accepted;
const FOREGROUND: Treatment =
    Treatment::Refused("onetag runs in the foreground: let the shell put it in the background with &");
const NO_PORTS: Treatment =
    Treatment::Refused("the container has the host's network: what it listens on is reachable as it is");
const NO_BLKIO: Treatment = Treatment::Noted("block IO is not limited");
const NO_CPU: Treatment = Treatment::Noted("not limited; --cpus is");
const NO_HEALTH: Treatment = Treatment::Noted("health checks are not run");
const WINDOWS: Treatment = Treatment::Noted("has a meaning on Windows only");
const NO_DNS: Treatment = Treatment::Noted("the host's resolver configuration is used");
const NO_NETWORKS: Treatment = Treatment::Refused("onetag has no networks: --network host or none");
const HOSTS: Treatment = Treatment::Noted("the container has a namespace of its own");

impl FlagTable for RunFlags {
    const FLAGS: &'static [Flag] = &[
        Flag::value("annotation", ACCEPTED),
        Flag::value("attach", ACCEPTED).short('a'),
        Flag::value("blkio-weight", NO_BLKIO),
        Flag::value("blkio-weight-device", NO_BLKIO),
        Flag::value("cgroup-parent", Treatment::Noted("the container stays in this process's control group")),
        Flag::value("cgroupns", ACCEPTED),
        Flag::value("cidfile", Treatment::Noted("containers have no ids; no file is written")),
        Flag::value("cpu-count", WINDOWS),
        Flag::value("cpu-percent", WINDOWS),
        Flag::value("cpu-period", NO_CPU),
        Flag::value("cpu-quota", NO_CPU),
        Flag::value("cpu-rt-period", NO_CPU),
        Flag::value("cpu-rt-runtime", NO_CPU),
        Flag::value("cpu-shares", NO_CPU).short('c'),
        Flag::value("cpuset-cpus", Treatment::Noted("not limited; `taskset` before onetag does it")),
        Flag::value("cpuset-mems", NO_CPU),
        Flag::switch("detach", FOREGROUND).short('d'),
        Flag::value("detach-keys", ACCEPTED),
        Flag::value("device-cgroup-rule", Treatment::Noted("devices are named with --device")),
        Flag::value("device-read-bps", NO_BLKIO),
        Flag::value("device-read-iops", NO_BLKIO),
        Flag::value("device-write-bps", NO_BLKIO),
        Flag::value("device-write-iops", NO_BLKIO),
        Flag::switch("disable-content-trust", ACCEPTED),
        Flag::value("dns", NO_DNS),
        Flag::value("dns-option", NO_DNS),
        Flag::value("dns-search", NO_DNS),
        Flag::value("domainname", Treatment::Noted("the NIS domain name is not set")),
        Flag::value("expose", ACCEPTED),
        Flag::value("gpus", Treatment::Refused("GPUs are not supported yet")),
        Flag::value("health-cmd", NO_HEALTH),
        Flag::value("health-interval", NO_HEALTH),
        Flag::value("health-retries", NO_HEALTH),
        Flag::value("health-start-interval", NO_HEALTH),
        Flag::value("health-start-period", NO_HEALTH),
        Flag::value("health-timeout", NO_HEALTH),
        Flag::value("io-maxbandwidth", WINDOWS),
        Flag::value("io-maxiops", WINDOWS),
        Flag::value("ip", NO_NETWORKS),
        Flag::value("ip6", NO_NETWORKS),
        Flag::value("ipc", HOSTS),
        Flag::value("isolation", WINDOWS),
        Flag::value("kernel-memory", ACCEPTED),
        Flag::value("label", ACCEPTED).short('l'),
        Flag::value("label-file", ACCEPTED),
        Flag::value("link", NO_NETWORKS),
        Flag::value("link-local-ip", NO_NETWORKS),
        Flag::value("log-driver", Treatment::Noted("output goes to this terminal")),
        Flag::value("log-opt", ACCEPTED),
        Flag::value("mac-address", NO_NETWORKS),
        Flag::value("memory-reservation", Treatment::Noted("not limited; --memory is")),
        Flag::value("memory-swap", Treatment::Noted("not limited; --memory is")),
        Flag::value("memory-swappiness", ACCEPTED),
        Flag::value("network-alias", NO_NETWORKS),
        Flag::switch("no-healthcheck", ACCEPTED),
        Flag::switch("oom-kill-disable", Treatment::Noted("the kernel decides")),
        Flag::value("oom-score-adj", ACCEPTED),
        Flag::value("pid", HOSTS),
        Flag::value("publish", NO_PORTS).short('p'),
        Flag::switch("publish-all", NO_PORTS).short('P'),
        Flag::value("restart", Treatment::Noted("the container runs once")),
        Flag::value("runtime", Treatment::Noted("onetag is its own runtime")),
        Flag::value("stop-signal", ACCEPTED),
        Flag::value("stop-timeout", ACCEPTED),
        Flag::value("storage-opt", Treatment::Noted("the store has no options")),
        Flag::value("sysctl", Treatment::Noted("not set")),
        Flag::switch("use-api-socket", Treatment::Refused("there is no Docker API")),
        Flag::value("userns", ACCEPTED),
        Flag::value("uts", HOSTS),
        Flag::value("volume-driver", Treatment::Refused("-v FOLDER:PATH binds a folder; there are no named volumes")),
        Flag::value("volumes-from", Treatment::Refused("containers are not kept; name the folder with -v again")),
    ];
}
