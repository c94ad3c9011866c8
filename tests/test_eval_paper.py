"""The paper's table beside ours, and `--metrics all`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import dheads
from sample_folder import write_film

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
    told = table["not_measured"]["conf."]
    assert told.startswith("metric sync gave no value 'AV confidence'; it looked with sync-grid. The paper's")
    assert "--metrics '{use: sync, network: syncnet}'` fetches it from https://" in told
    assert table["not_measured"]["OFM"] == "metric smoothness gave no value 'OFM as released'"
    assert "FVD" not in table["not_measured"]
    cells = paper_cells(table, "LRW")
    assert cells[0] == ["generated", "100.00", "-", "0.25", "0.20", "-", "-", "-2", "-", "-"]
    assert cells[7][0] == "paper: Diffused Heads"
    assert cells[7][1:] == ["71.88", "3.94", "0.35", "0.28", "70.71", "19.69", "-2", "4.61", "0.77"]
    show_paper(table)
    shown = capsys.readouterr().out
    assert "CREMA-D" in shown
    assert "WER is not measured: no lips are read" in shown


def test_a_lip_reader_of_its_own_name_is_no_wer_and_the_line_says_what_would_be() -> None:
    told = paper_table({"generated": {"lips-grid WER": 0.2}}, {}, {"wer": "lips-grid"})["not_measured"]["WER"]
    assert told.startswith("metric wer gave no value 'WER'; it looked with lips-grid: the lip-reader would have to be")
    assert "{use: wer, reader: NAME}" in told


def test_what_is_not_measured_is_told_once_with_the_network_that_looked(tmp_path: Path) -> None:
    for name in ("ours", "real"):
        write_film(tmp_path / name / "a.mp4", [90, 120, 150])
    ours, real = tmp_path / "ours", tmp_path / "real"
    ended = dheads("eval", ours, "--reference", real, "--metrics", "paper", "--no-ground-truth")
    assert ended.code == 0, ended.stderr
    assert "conf. is not measured: metric sync gave no value 'AV confidence'; it looked with " in ended.stdout
    assert ended.stdout.count("FID is not measured: ") == 1
    assert "no fid" not in ended.stdout.replace("it is no fid", "")


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
