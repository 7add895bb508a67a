"""Indexes in registries."""
import itertools

from .harness import Row, run


def rows(bench):
    index = bench.registry + "/busybox:latest"
    process, other = bench.serve(bench.work / "other-registry")
    bench.at_end(lambda: (process.terminate(), process.wait()))
    numbers = itertools.count()

    def fresh(registry):
        """A repository that nobody has copied to."""
        return "%s/copy/%d:1" % (registry, next(numbers))

    def skopeo(registry):
        return run(["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
                    "docker://" + index, "docker://" + fresh(registry)], bench.environment)

    return [
        Row("inspect: an index of five platforms, local registry",
            lambda: bench.onetag("imagetools", "inspect", "--raw", index),
            "skopeo", ["skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + index]),
        Row("copy: five platforms within one local registry",
            lambda: bench.onetag("copy", "--quiet", index, fresh(bench.registry)),
            "skopeo", lambda: skopeo(bench.registry)),
        Row("copy: five platforms from one local registry to another",
            lambda: bench.onetag("copy", "--quiet", index, fresh(other)),
            "skopeo", lambda: skopeo(other)),
    ]
