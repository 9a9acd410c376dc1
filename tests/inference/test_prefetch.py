"""One item is made while another is in use, and nothing else changes."""

import threading
from queue import SimpleQueue

import pytest

from modeling_refavs.inference.segment import prefetch


def test_the_items_are_the_same():
    assert list(prefetch(iter(range(5)))) == list(range(5))
    assert list(prefetch(iter(()))) == []


def test_the_next_one_is_made_meanwhile_and_no_more():
    made = SimpleQueue()
    items = prefetch(number for number in range(5) if made.put(number) is None)
    next(items)
    assert [made.get(timeout=10) for _ in range(2)] == [0, 1]
    items.close()
    assert made.empty()


def test_an_error_comes_where_its_item_would():
    def make():
        yield 1
        raise ValueError("broken")

    items = prefetch(make())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_who_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    items = prefetch(iter(range(100)))
    next(items)
    items.close()
    assert threading.active_count() == before
