import contextlib
import threading

import openai
import pytest

from tests import tiny
from tsdi.engines.transformers import TransformersEngine
from tsdi.serving import app

NAME = "org/tiny"
STRENGTH = 2.0


def engine(tokenizer=None, **changes):
    known = tiny.tokenizer() if tokenizer is None else tokenizer
    return TransformersEngine(tiny.model("llama", **changes), known, tiny.bias(), STRENGTH)


@contextlib.contextmanager
def running(served):
    """The address of an app that is served by a thread until the end of the block."""
    place = app.bind("127.0.0.1", 0)
    place.listen()  # what connects before the thread accepts is kept
    server = app.server(served)
    thread = threading.Thread(target=server.run, args=([place],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        place.close()


@pytest.fixture(scope="session")
def url():
    with running(app.make_app(engine(), NAME)) as address:
        yield address


@pytest.fixture(scope="session")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made
