"""The tests' own tools keep their promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import MARK, free_port, left_behind, port_is_free
from tests.waiting import wait_until


def test_waiting_ends_as_soon_as_the_fact_is_true_and_hands_it_back():
    looks = iter(["", "", "here"])
    assert wait_until(lambda: next(looks), "the third look") == "here"


def test_waiting_in_vain_names_what_was_waited_for():
    with pytest.raises(AssertionError, match=r"waited 0\.01 s for the moon"):
        wait_until(lambda: False, "the moon", timeout=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_left_behind_is_found_even_when_it_left_the_session():
    with subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin", MARK: "mine"}, start_new_session=True) as one:
        wait_until(lambda: left_behind("mine") == {one.pid: "sleep 60 "}, "the marked process to be seen")
        one.kill()
    assert left_behind("mine") == {}


def test_a_free_port_has_no_listener():
    assert port_is_free(free_port())
