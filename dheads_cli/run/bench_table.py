"""The table of `dheads bench`."""

from __future__ import annotations

from typing import Any

from dheads_cli.run import bench_preprocess
from dheads_cli.run.bench_parts import shown

AIM_OVERHEAD, AIM_PREPROCESS = 0.10, 0.90
COLUMNS = ["what", "fastest", "median", "speed", "remark"]
PARTS = {
    "audio": "encoding the speech",
    "network": "the network",
    "sampler": "the sampler's arithmetic, noise",
    "video": "scaling, encoding, closing the video",
}


def rows(found: dict[str, Any]) -> list[list[str]]:
    """What was found, as the table's rows."""
    table = [
        [
            f"convolution peak, {label}",
            shown(peak["fastest_s"]),
            shown(peak["median_s"]),
            gflops(peak),
            f"3x3, {peak['shape']} (batch, channels, px)",
        ]
        for label, peak in found["peak"].items()
    ]
    for each in found["forward"]:
        what = f"network, {each['precision']}, batch {each['batch_size']}"
        remark = f"{each['share_of_peak']:.0%} of the peak; {each['gflop']:.3g} GFLOP"
        table.append([what, shown(each["fastest_s"]), shown(each["median_s"]), gflops(each), remark])
    loop = found["animate"]
    overhead = f"{loop['overhead']:+.1%} over {loop['forwards_per_frame']:g} bare forwards a frame"
    table.append(
        [
            f"animate loop, {loop['precision']}, a frame of {loop['frames']}",
            shown(loop["fastest_s"]),
            shown(loop["median_s"]),
            f"{loop['frames_per_s']:.3g} frames/s",
            f"{overhead} (aim: below {AIM_OVERHEAD:.0%})",
        ]
    )
    for part, share in loop["shares"].items():
        table.append([f"  {PARTS[part]}", "", shown(share * loop["median_s"]), "", f"{share:.1%} of the loop"])
    step = found["train"]
    what = f"training step, {step['precision']}, batch {step['batch_size']}"
    table.append(
        [what, shown(step["fastest_s"]), shown(step["median_s"]), f"{step['samples_per_s']:.3g} samples/s", ""]
    )
    if work := found["preprocess"]:
        table += preprocessing_rows(work)
    return table


def preprocessing_rows(work: dict[str, Any]) -> list[list[str]]:
    """What measure_preprocessing found, as the table's rows."""
    n_workers, hours = work["workers"], work["estimated_lrw_h"]
    alone = f"{work['alone_clips_per_h']:.4g} clips/h of {work['frames_per_clip']:.3g} frames"
    together = f"{work['together_clips_per_h']:.4g} clips/h"
    aim = f"(aim: {AIM_PREPROCESS:.0%})"
    table = []
    for what, name, remark in (
        ("landmark detector alone", "detector", ""),
        ("preprocessing, 1 worker", "alone", f"{work['share_of_detector_alone']:.0%} of the detector {aim}; {alone}"),
        (
            f"preprocessing, {n_workers} workers",
            "together",
            f"{work['share_of_detector']:.0%} of {n_workers} x the detector {aim}; {together}",
        ),
    ):
        speed = work[f"{name}_frames_per_s"]
        times = (shown(1 / max(work["rounds"][name])), shown(1 / speed))
        table.append([what, *times, f"{speed:.3g} frames/s", remark])
    cores, n_clips = bench_preprocess.LRW_CORES, bench_preprocess.LRW_CLIPS
    remark = f"an estimate: {n_clips} clips of {bench_preprocess.LRW_FRAMES_PER_CLIP} frames at this speed a core"
    return [*table, [f"LRW on {cores} such cores", "", "", f"{hours:.3g} h", remark]]


def gflops(each: dict[str, Any]) -> str:
    return f"{each['gflops']:.4g} GFLOP/s"
