"""The table shows what was measured."""

from __future__ import annotations

import json

import pytest

from bench.figures import Contender, Row, Samples, document, percentile, table


def never():
    raise AssertionError("nothing is measured to be shown")


ROW = Row("a", "some work", ("steps/s", "ms"), (Contender("swamp", never), Contender("other", never)), ("other",))
SWAMP = Samples(
    "swamp",
    [{"steps/s": 300, "ms": 1.0, "cpu:worker": 0.1}, {"steps/s": 100, "ms": 1.0}, {"steps/s": 200, "ms": 1.0}],
)
OTHER = Samples("other", [{"steps/s": 400, "cpu:worker": 0.5}])


def test_a_contender_is_shown_by_its_median_its_extremes_and_its_ratio_to_the_other():
    assert table(ROW, [SWAMP, OTHER]).splitlines() == [
        "a. some work",
        "          steps/s        ms  × other  CPU s per 1,000 steps",
        "   swamp  200 (100–300)  1   0.50     worker 0.10",
        "   other  400                         worker 0.50",
    ]


def test_without_the_other_there_is_no_ratio():
    assert "×" not in table(ROW, [SWAMP])


def test_the_document_has_every_sample():
    swamp, other = json.loads(json.dumps(document(ROW, [SWAMP, OTHER])))["contenders"]
    assert swamp["figures"]["steps/s"] == {"median": 200, "min": 100, "max": 300, "samples": [300, 100, 200]}
    assert swamp["ratios"] == {"other": 0.5}
    assert "ms" not in other["figures"]


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.95, 96), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, value: int):
    assert percentile(list(range(1, 101)), share) == value
