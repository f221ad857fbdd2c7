"""Whatever a body holds, it is a request or refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdi.serving.access import RefusedError
from tsdi.serving.request_body import ChatBody, TextBody, read_body

FIELDS = [*ChatBody.model_fields, "n", "logit_bias", "user", "echo", "num_beams"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tsdi_strength"]), inner
        )
    ),
    max_leaves=6,
)
GOOD = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def refused(data, kind=ChatBody):
    with pytest.raises(RefusedError) as caught:
        read_body(kind, data)
    assert caught.value.status == 400
    return caught.value


@given(st.binary(max_size=60))
def test_any_bytes(data):
    refused(data)


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_any_values_of_known_fields(changes):
    data = json.dumps({**GOOD, **changes}).encode()
    try:
        body = read_body(ChatBody, data)
    except RefusedError:
        assert "\n" not in refused(data).message
        return
    assert body.strength is None or 0 <= body.strength <= 100
    assert body.most_tokens is None or 1 <= body.most_tokens <= 16_384
    assert all(isinstance(one.content, str) for one in body.messages)
    assert changes.get("num_beams") is None


def test_a_temperature_is_zero_or_warm_enough():
    error = refused(json.dumps({**GOOD, "temperature": 1e-40}).encode())
    assert "temperature" in error.message
    assert "greedy" in error.message


def test_null_is_as_absent():
    body = read_body(ChatBody, json.dumps(GOOD | dict.fromkeys(["stop", "n", "x"])).encode())
    assert body == read_body(ChatBody, json.dumps(GOOD).encode())


def test_the_field_is_named():
    error = refused(json.dumps(GOOD | {"stop": ["a", 3]}).encode())
    assert error.param == "stop.1"
    assert error.body["error"]["param"] == "stop.1"


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], "", None])
def test_a_text_is_one_text(prompt):
    refused(json.dumps({"model": "m", "prompt": prompt}).encode(), TextBody)
