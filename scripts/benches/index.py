"""Indexes in registries."""
from .harness import Row


def rows(bench):
    index = bench.registry + "/busybox:latest"
    return [
        Row("inspect: an index of five platforms, local registry",
            lambda: bench.onetag("imagetools", "inspect", "--raw", index),
            "skopeo", ["skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + index]),
    ]
