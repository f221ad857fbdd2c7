import gc
import os
import shutil
from importlib.util import find_spec

# Tiny models run six times faster on one thread; this must be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
from hypothesis import settings

from tests.waiting import HANGS

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

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


@pytest.fixture(scope="session")
def browser():
    """A browser without a window."""
    if not (BROWSER and DRIVER and find_spec("selenium")):
        pytest.skip("chromium, chromedriver or selenium is not installed, so not run")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    made.set_page_load_timeout(HANGS)
    made.set_script_timeout(HANGS)
    made.command_executor.client_config.timeout = HANGS
    yield made
    made.quit()
