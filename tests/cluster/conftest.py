"""One local Ray cluster of two CPUs for all tests here; it takes many seconds to start."""

import os
import warnings

import pytest

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


@pytest.fixture(scope="session")
def two_cpus():
    """A cluster that `Cluster("local", 2)` finds, as this process is connected to it."""
    from tsdi.cluster import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of its future and of sockets left open
        import ray

        from tsdi.cluster import workers

        workers.take_token()
        workers.begin("local", num_cpus=2)
        yield Cluster("local", 2)
        ray.shutdown()
