"""Whole builds."""
import subprocess

from .harness import PLATFORMS, Row

BUILD = ["build", "--progress", "quiet", "--allow", "network.host", "--network", "host"]


def rows(bench):
    platforms = ",".join(PLATFORMS)
    hello = bench.work / "hello"
    hello.mkdir()
    (hello / "file").write_text("content\n")
    (hello / "Dockerfile").write_text(
        "FROM %s/busybox:latest\nRUN uname -m > /machine\nCOPY file /file\n" % bench.registry)
    steps = bench.work / "steps"
    steps.mkdir()
    (steps / "Dockerfile").write_text(
        "FROM %s/busybox:latest\n" % bench.registry + "".join("RUN echo %d > /f%d\n" % (n, n) for n in range(50)))
    bench.at_end(lambda: forget("steps"))
    return [
        Row("build: five platforms, RUN and COPY, no cache, pushed",
            lambda: bench.onetag(*BUILD, "--no-cache", "--platform", platforms, "--push", "-t",
                                 bench.registry + "/hello:cold", hello)),
        Row("build: the same, all cached, pushed",
            lambda: bench.onetag(*BUILD, "--platform", platforms, "--push", "-t", bench.registry + "/hello:warm", hello)),
        Row("build: 50 native RUN, no cache, into the local store",
            lambda: bench.onetag(*BUILD, "--no-cache", "--load", "-t", "steps", steps),
            "buildah", ["buildah", "build", "-q", "--tls-verify=false", "--no-cache", "--layers", "--isolation", "chroot",
                        "--network", "host", "-t", "steps", str(steps)]),
    ]


def forget(name):
    """Removes what buildah keeps outside our folder."""
    try:
        subprocess.run(["buildah", "rmi", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        pass
