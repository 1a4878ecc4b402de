"""A finder before a fake API server."""

import random
from functools import partial

from router.clock import WallClock
from router.config.discovery_settings import KubernetesPlace
from router.discovery.kubernetes.cluster import Cluster
from router.discovery.kubernetes.finder import KubernetesFinder


def place(**changes):
    wanted = {
        "namespace": "inference", "service": "vllm", "inference_pool": "", "port": "",
        "nodes": True, "kubeconfig": None, "context": "",
    }  # fmt: skip
    return KubernetesPlace(**{**wanted, **changes})


def finder_of(server, folder, **changes):
    connect = partial(Cluster, server.kubeconfig(folder))
    return KubernetesFinder(place(**changes), connect, WallClock(), random.Random(1))
