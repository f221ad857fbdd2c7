"""Callers wait for one answer each; they are answered together, each with its own."""

import time

import anyio
import pytest

from tsdi.harness.batching import Combiner


def run(items, answer, size=4):
    """What each of many callers at once gets, an answer or an error."""
    got = {}

    async def ask(combiner, item):
        try:
            got[item] = await combiner(item)
        except ValueError as error:
            got[item] = error

    async def all_at_once():
        combiner = Combiner(answer, size)
        async with anyio.create_task_group() as group:
            for item in items:
                group.start_soon(ask, combiner, item)

    anyio.run(all_at_once)
    return got


def test_each_caller_gets_its_own_answer_in_batches_of_at_most_the_size():
    batches = []

    def square(items):
        batches.append(list(items))
        return [item**2 for item in items]

    assert run(range(11), square) == {item: item**2 for item in range(11)}
    assert sorted(item for batch in batches for item in batch) == list(range(11))
    assert max(map(len, batches)) == 4
    assert len(batches) <= 4  # together, not one by one


def test_an_error_reaches_all_of_its_batch_and_no_other():
    def odd(items):
        if 0 in items:
            raise ValueError("zero")
        return [-item for item in items]

    got = run(range(9), odd)
    failed = {item for item, outcome in got.items() if isinstance(outcome, ValueError)}
    assert 0 in failed
    assert len(failed) <= 4
    assert all(got[item] == -item for item in set(range(9)) - failed)


def test_a_cancelled_caller_leaves_the_others_their_answers():
    got = []

    def slow(items):
        time.sleep(0.05)
        return list(items)

    async def scenario():
        combiner = Combiner(slow, 2)

        async def ask(item):
            got.append(await combiner(item))

        async with anyio.create_task_group() as group:
            with anyio.move_on_after(0.01):  # is answering the first batch when it is cancelled
                async with anyio.create_task_group() as doomed:
                    doomed.start_soon(ask, "doomed")
                    await anyio.sleep(0)
            for item in "abc":
                group.start_soon(ask, item)

    anyio.run(scenario)
    assert sorted(set(got) - {"doomed"}) == ["a", "b", "c"]


def test_the_number_of_answers_must_be_that_of_the_items():
    with pytest.raises(ValueError, match="zip"):
        raise run([1], lambda items: [])[1]
