"""Signals as messages: heard whatever the main thread does, and nothing left changed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from swamp.signals import heard
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def handlers_are_as_by_default() -> Iterator[None]:
    """Before each test, whoever runs them; and behind it, but for what the test has set itself."""
    default = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL) | {
        signal.SIGINT: signal.default_int_handler
    }
    outer = {number: signal.signal(number, handler) for number, handler in default.items()}
    yield
    left = {number: signal.getsignal(number) for number in default}
    for number, handler in outer.items():
        signal.signal(number, handler)
    assert left == default


def test_a_signal_is_heard_while_the_main_thread_waits_in_a_read_that_it_does_not_wake() -> None:
    reading, writing = os.pipe()
    told: list[signal.Signals] = []

    def hear(number: signal.Signals) -> None:
        told.append(number)
        os.write(writing, b".")

    with heard({signal.SIGTERM}, hear):
        # Given to another thread, as is one that comes right before the read: no read of this one is interrupted.
        press = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        press.start()
        assert os.read(reading, 1) == b"."
        press.join()
    assert told == [signal.SIGTERM]
    os.close(reading)
    os.close(writing)


def test_signals_are_heard_in_their_order_and_raise_nothing() -> None:
    told: list[signal.Signals] = []
    with heard({signal.SIGINT, signal.SIGHUP}, told.append):
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGINT):
            before = len(told)
            signal.raise_signal(number)
            wait_until(lambda: len(told) > before, "it to be heard")  # noqa: B023
    assert told == [signal.SIGINT, signal.SIGHUP, signal.SIGINT]


def test_what_is_ignored_or_handled_by_others_is_left_to_them() -> None:
    told: list[object] = []
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: told.append("x"))
    try:
        with heard({signal.SIGHUP, signal.SIGTERM}, told.append):
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert told == ["x"]
    finally:
        signal.signal(signal.SIGHUP, previous[0])
        signal.signal(signal.SIGTERM, previous[1])


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with heard({signal.SIGTERM}, lambda _: None):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, previous)
