"""The paper's table beside ours, and `--metrics all`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dheads_cli import downloads, registry
from dheads_cli.run.eval_paper import (
    COLUMNS,
    PAPER,
    STAND_INS,
    all_metrics,
    paper_cells,
    paper_metrics,
    paper_table,
    show_paper,
)


@pytest.fixture(autouse=True)
def _nothing_is_fetched() -> Iterator[None]:
    with downloads.none():
        yield


def test_the_columns_are_the_paper_s_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"FVD": 100.0, "blinks [1/s]": 0.25, "blink duration [s]": 0.2, "AV offset [frames]": -2.0}
    rows = {"generated": values, "ground truth": {"blinks [1/s]": 0.5}}
    table = paper_table(rows, {"wer": "no lips are read"}, {"sync": "sync-grid", "blinks": ""})
    assert table["ours"]["generated"] == [100.0, None, 0.25, 0.2, None, None, -2.0, None, None]
    assert table["not_measured"]["WER"] == "no lips are read"
    assert table["not_measured"]["conf."] == "metric sync of sync-grid gave no value called 'AV confidence'"
    assert "FVD" not in table["not_measured"]
    cells = paper_cells(table, "LRW")
    assert cells[0] == ["generated", "100.00", "-", "0.25", "0.20", "-", "-", "-2", "-", "-"]
    assert cells[7][0] == "paper: Diffused Heads"
    assert cells[7][1:] == ["71.88", "3.94", "0.35", "0.28", "70.71", "19.69", "-2", "4.61", "0.77"]
    show_paper(table)
    shown = capsys.readouterr().out
    assert "CREMA-D" in shown
    assert "WER is not measured: no lips are read" in shown


def test_every_row_of_the_paper_has_every_column() -> None:
    assert {len(row) for table in PAPER.values() for row in table.values()} == {len(COLUMNS)}


def test_what_is_not_installed_is_named() -> None:
    known = registry.entries("metrics")
    choice = paper_metrics()
    asked = {column.metric for column in COLUMNS}
    stand_ins = {STAND_INS[name] for name in choice.missing if name in STAND_INS}
    named = {metric.use for metric in choice.metrics} | set(choice.missing)
    assert asked <= named <= asked | stand_ins
    assert all(name in choice.missing for name in asked - set(known))
    assert {"blinks", "smoothness"} <= {metric.use for metric in choice.metrics}


def test_all_is_every_metric_that_can_be_built() -> None:
    choice = all_metrics()
    named = [metric.use for metric in choice.metrics] + list(choice.missing)
    assert sorted(named) == list(registry.entries("metrics"))
    assert {"mouth", "psnr"} <= {metric.use for metric in choice.metrics}
