"""Single containers, beside what only makes a container of an unpacked folder, and what a network of its own costs."""
import itertools
import json
import os
import subprocess
import sys

from .harness import FIXTURES, Row, Unavailable, run

# What a runtime is asked for: the namespaces of a container with the host's network, and the usual mounts.
CONFIG = {
    "ociVersion": "1.0.0",
    "process": {
        "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "noNewPrivileges": True,
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "bench",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ["pid", "ipc", "uts", "mount"]],
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}

RUNTIMES = ["crun", "runc"]

# Times a command where the second version of control groups is not to be seen beside the first: crun refuses to start
# on a host that has both.
ALONE = """
import subprocess, sys, time
subprocess.run(["umount", "/sys/fs/cgroup/unified"], stderr=subprocess.DEVNULL)
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
elapsed = time.perf_counter() - started
print(elapsed if done.returncode == 0 else done.stdout.decode(errors="replace"))
sys.exit(done.returncode)
"""

# Ids of containers: a runtime refuses one that it has seen and not forgotten.
NUMBERS = itertools.count()


def bundle(bench, short):
    """An OCI bundle of a base, unpacked: what a runtime starts from. No image, no snapshot."""
    folder = bench.work / ("bundle-" + short)
    (folder / "rootfs").mkdir(parents=True)
    subprocess.run(["tar", "-xf", FIXTURES / "rootfs" / (short + ".tar"), "-C", folder / "rootfs"], check=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def runtime(bench, program, folder):
    """Runs the bundle's program in a container of this runtime's and removes the container, as one command does."""
    def timed():
        name = "onetag-bench-%d-%d" % (os.getpid(), next(NUMBERS))
        state = bench.work / "state"
        line = [program, "--root", state, "run", "--bundle", folder, name]
        if os.path.exists("/sys/fs/cgroup/unified"):
            return alone(line, bench.environment)
        return run(line, bench.environment)
    return timed


def alone(line, environment):
    done = subprocess.run(["unshare", "--mount", sys.executable, "-c", ALONE, *line], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    words = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        raise Unavailable(words)
    return float(words)


def unshared(bench, folder):
    """The same program in the same namespaces, with a fresh /proc and nothing else."""
    line = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--root", folder / "rootfs", "--mount-proc",
            "/bin/true"]
    return lambda: run(line, bench.environment)


def pasta(bench):
    """A network of its own for a program that does nothing."""
    line = ["pasta", "--quiet", "--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    if os.geteuid() == 0:
        line += ["--runas", "0"]
    return lambda: run(line + ["--", "/bin/true"], bench.environment)


def emulated(bench, short, emulator):
    """QEMU itself, started on a program of the base by name: what emulation costs without any container."""
    program = bench.work / ("bundle-" + short) / "rootfs/bin/busybox"
    return lambda: run([FIXTURES / "qemu/bin" / emulator, program, "true"], bench.environment)


def context(bench, line):
    folder = bench.work / "network"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text("FROM base-amd64\n%s\n" % line)
    return folder


def rows(bench):
    container = ["run", "--rm", "--network", "host"]
    native = lambda: bench.onetag(*container, "base-amd64", "true")
    foreign = lambda: bench.onetag(*container, "--platform", "linux/arm64", "base-arm64", "true")
    folder = bundle(bench, "amd64")
    bundle(bench, "arm64")
    for program in RUNTIMES:
        yield Row("run: an empty native container (peer: of a folder)", native, program,
                  runtime(bench, program, folder))
    yield Row("run: an empty native container (peer: namespaces alone)", native, "unshare", unshared(bench, folder))
    yield Row("run: an empty container under QEMU (arm64; peer: QEMU alone)", foreign,
              "qemu-aarch64-static", emulated(bench, "arm64", "qemu-aarch64-static"))
    build = ["build", "--progress", "quiet", "--no-cache", context(bench, "RUN true")]
    yield Row("run: a build of one empty step, network none", lambda: bench.onetag(*build, "--network", "none"))
    yield Row("run: the same with a network of its own (peer: pasta alone)", lambda: bench.onetag(*build), "pasta",
              pasta(bench))
