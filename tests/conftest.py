import gc
import os

# Tiny models run six times faster on one thread; this must be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
from hypothesis import settings

# A machine that is busy with other things is no reason for a test to fail.
settings.register_profile("tsdi", deadline=None, max_examples=50)
settings.load_profile("tsdi")


# What imports and lists of tests allocate lives to the end. The collector, which would look through
# it again and again, is off until all is there, and passes over it then.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _no_signs_of_life():
    """What a test takes longer on a busy machine adds no lines to what a command says."""
    from tsdi.cli import console

    console._SIGN_EVERY = 1e6
