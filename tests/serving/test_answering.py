"""One answer at a time, in order; whoever leaves or waits too long holds nobody up."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import engine
from tsdi.engines.base import Request
from tsdi.serving.access import RefusedError
from tsdi.serving.answering import Answerer, Asked, End, settled


class Gate:
    """An engine whose answers go on token by token, when they are told to."""

    context = None

    def __init__(self):
        self.real = engine()
        self.go = threading.Semaphore(0)
        self.begun = threading.Event()
        self.prompts = []
        self.tokens = 0

    def encode(self, prompt):
        self.prompts.append(prompt)
        return self.real.encode(prompt)

    def stream(self, prompt, sampling, seen, strength, top_p):
        def slowly(answer):
            self.begun.set()
            self.go.acquire()
            self.tokens += 1
            return seen(answer)

        return self.real.stream(prompt, sampling, slowly, strength, top_p)


def asked(text="bread", tokens=4):
    return Asked(Request.from_text(text), most_tokens=tokens, temperature=0)


async def never():
    await asyncio.Event().wait()


async def whole(answerer, one):
    return [part async for part in answerer.answer(one, never)][-1]


def test_requests_are_answered_in_their_order():
    gate = Gate()
    answerer = Answerer(gate)
    gate.go.release(100)

    async def all_of_them():
        return await asyncio.gather(*(whole(answerer, asked(text)) for text in "abcdef"))

    ends = asyncio.run(all_of_them())
    assert all(isinstance(end, End) for end in ends)
    assert [prompt.messages[0]["content"] for prompt in gate.prompts] == list("abcdef")


def test_a_client_that_leaves_ends_its_answer_at_the_next_token():
    gate = Gate()
    answerer = Answerer(gate)

    async def scene():
        leaving = asyncio.Event()
        parts = answerer.answer(asked(tokens=100), leaving.wait)
        await anext(parts)
        await asyncio.to_thread(gate.begun.wait)
        leaving.set()
        with pytest.raises(RefusedError, match="gone"):
            await anext(parts)
        gate.go.release(200)
        return await whole(answerer, asked(tokens=2))  # the next one's turn has come

    assert asyncio.run(scene()).tokens == 2
    assert gate.tokens == 1 + 2


def test_a_client_that_leaves_before_its_turn_costs_nothing():
    gate = Gate()
    answerer = Answerer(gate)

    async def gone():
        return None

    async def scene():
        first = asyncio.create_task(whole(answerer, asked("first")))
        await asyncio.to_thread(gate.begun.wait)
        with pytest.raises(RefusedError, match="gone"):
            await anext(answerer.answer(asked("second"), gone))
        gate.go.release(100)
        await first
        await whole(answerer, asked("third"))

    asyncio.run(scene())
    assert [prompt.messages[0]["content"] for prompt in gate.prompts] == ["first", "third"]


def test_an_answer_that_nobody_reads_on_ends():
    gate = Gate()
    answerer = Answerer(gate)

    async def scene():
        parts = answerer.answer(asked(tokens=100), never)
        await anext(parts)
        await asyncio.to_thread(gate.begun.wait)
        await parts.aclose()
        gate.go.release(200)
        await whole(answerer, asked(tokens=2))

    asyncio.run(scene())
    assert gate.tokens == 1 + 2


def test_more_than_may_wait_are_refused():
    gate = Gate()
    answerer = Answerer(gate, most_waiting=2)

    async def scene():
        waiting = [asyncio.create_task(whole(answerer, asked())) for _ in range(3)]
        await asyncio.to_thread(gate.begun.wait)
        with pytest.raises(RefusedError, match="Too many") as refused:
            await whole(answerer, asked())
        gate.go.release(100)
        assert len(await asyncio.gather(*waiting)) == 3
        return refused.value.status, await whole(answerer, asked())

    assert asyncio.run(scene())[0] == 503


def test_nobody_waits_for_ever():
    gate = Gate()
    answerer = Answerer(gate, longest_wait=0.05)

    async def scene():
        first = asyncio.create_task(whole(answerer, asked()))
        await asyncio.to_thread(gate.begun.wait)
        with pytest.raises(RefusedError, match="busy"):
            await whole(answerer, asked())
        gate.go.release(100)
        return await first

    assert asyncio.run(scene()).tokens == 4


class TestSettledText:
    @pytest.mark.parametrize(
        ("text", "stops", "expected"),
        [
            ("a text", (), ("a text", False)),
            ("a text", ("te",), ("a ", True)),
            ("a te", ("text",), ("a ", False)),
            ("a tet", ("text", "et"), ("a t", True)),
            ("half \ufffd", (), ("half ", False)),
            ("half \ufffd\ufffd", (), ("half ", False)),
            ("a \ufffd b", (), ("a \ufffd b", False)),
        ],
    )
    def test_what_may_still_change_is_kept_back(self, text, stops, expected):
        assert settled(text, stops) == expected

    @given(
        st.text("ab\ufffd", max_size=12),
        st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple),
    )
    def test_pieces_make_the_text_before_the_first_stop(self, text, stops):
        sent = ""
        for length in range(len(text) + 1):
            now, ended = settled(text[:length], stops)
            assert now.startswith(sent)
            sent = now
            if ended:
                break
        last, ended = settled(text[:length], stops, whole=True)
        assert last.startswith(sent)
        assert not any(stop in last for stop in stops)
        assert ended == any(stop in text for stop in stops)
        if not ended:
            assert last == text
