"""Metrics as torchmetrics classes: rows, failures, and sums over uneven and empty shards."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from datamodules.synthetic import World
from ditflow.core.sizes import VideoSize
from ditflow.metrics import METRICS, Metric, MetricError, Row, Sample, Tracks, make_metrics
from ditflow.metrics.trackers import grid_points
from tests.ditflow.metrics import shards
from tests.ditflow.metrics.colours import Colours, video

WORLD = World(VideoSize(6, 48, 48))
FLAT = torch.full((6, 3, 48, 48), 90, dtype=torch.uint8)
IDENTITY = {
    "motion_fidelity": 1,
    "motion_fidelity_speed": 1,
    "frechet_trajectory_distance": 0,
    "hybrid_motion_fidelity": 1,
    "appearance_leakage": 1,
    "prompt_fidelity": 1,
    "temporal_consistency": 1,
}


def samples() -> list[Sample]:
    """Five pairs; the reference of the fourth is flat."""
    clips = [WORLD.clip(seed, "pan") for seed in range(6)]
    pairs = [
        Sample(a.frames, b.frames, "red", f"clip-{number}")
        for number, (a, b) in enumerate(zip(clips, clips[1:], strict=False))
    ]
    return [
        replace(sample, reference=FLAT) if sample.clip == "clip-3" else sample for sample in pairs
    ]


def metric_of(name: str) -> Metric:
    return make_metrics([name], clip=Colours())[name]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = metric_of(name)
    metric.update([])
    lower = name in ("frechet_trajectory_distance", "appearance_leakage")
    assert metric.better == ("lower" if lower else "higher")
    assert metric.label and metric.instrument
    assert math.isnan(metric.compute()) and metric.rows() == []


@pytest.mark.parametrize(("name", "value"), IDENTITY.items())
def test_a_video_against_itself(name: str, value: float) -> None:
    frames = (
        video("red", "red")
        if name in ("prompt_fidelity", "temporal_consistency")
        else WORLD.clip(0, "arc").frames
    )
    assert metric_of(name).score(Sample(frames, frames, "red")) == pytest.approx(value, abs=1e-6)


def test_rows_are_kept_and_a_failure_loses_nothing() -> None:
    metric = metric_of("motion_fidelity")
    metric.update(samples()[::-1])
    rows = metric.rows()
    assert [row.clip for row in rows] == [f"clip-{number}" for number in range(5)]
    assert [row.value is None for row in rows] == [False, False, False, True, False]
    assert rows[3].error == (
        "clip 'clip-3': no point of the reference can be followed from one frame to the next "
        "(256 were tried): it is flat or changes completely between frames. "
        "Leave this clip out, or measure it with another tracker."
    )
    assert {row.instrument for row in rows} == {"lucas-kanade"}
    assert rows[0].details["reference_points"] == 256
    values = [row.value for row in rows if row.value is not None]
    assert metric.compute().item() == pytest.approx(sum(values) / 4, abs=1e-12)
    for row, sample in zip(rows, samples(), strict=True):
        if row.value is not None:
            assert metric.score(sample) == row.value
    metric.reset()
    assert metric.rows() == []


def test_score_raises_what_a_row_says() -> None:
    with pytest.raises(MetricError, match="clip 'clip-3': no point"):
        metric_of("motion_fidelity").score(samples()[3])


def test_published_number_says_how_much_of_it_is_undefined() -> None:
    frames = WORLD.clip(0, "pan").frames
    row = _row("motion_fidelity_published", Sample(frames, frames[[0, 0, 0, 1, 2, 3]]))
    assert row.value is not None and row.details["undefined_steps"] >= 2 * 256 * 0.9


def test_exact_motion_is_used_where_it_is_known() -> None:
    clip = WORLD.clip(1, "rotation")
    sample = Sample(
        clip.frames,
        clip.frames,
        clip="a",
        tracks=Tracks(*clip.tracks(grid_points((48, 48), 10)), (48, 48)),
        flows=clip.flows(),
    )
    metric = make_metrics(["motion_fidelity"], tracker="exact")["motion_fidelity"]
    metric.update([sample, replace(sample, tracks=None, clip="b")])
    known, unknown = metric.rows()
    assert known.value is not None and known.value > 0.9
    assert known.details["reference_points"] == 100 and "exact" in known.instrument
    assert unknown.value is None and "exact tracks are not known" in str(unknown.error)
    assert _row("motion_cosine", sample).details == {"exact": 1.0}
    assert _row("motion_cosine", replace(sample, flows=None)).details == {"exact": 0.0}


def test_diversity_is_of_entries() -> None:
    metric = metric_of("diversity")
    for colour, clip, entry in (
        ("red", "a", "x/a"),
        ("green", "a", "x/a"),
        ("red", "a", "y/a"),
        ("red", "a", "y/a"),
        ("red", "b", ""),
    ):
        metric.update([Sample(video("blue"), video(colour), colour, clip, entry)])
    rows = {row.entry: row for row in metric.rows()}
    assert rows["x/a"].value == pytest.approx(1) and rows["y/a"].value == pytest.approx(0)
    assert rows["b"].value is None and rows["b"].error == (
        "entry 'b': diversity compares the videos of one entry with each other, but there is 1; "
        "make videos for at least 2 prompts."
    )
    assert metric.compute() == pytest.approx(0.5)
    with pytest.raises(MetricError, match="diversity is of several videos"):
        metric.score(Sample(video("red"), video("red")))


@pytest.mark.parametrize("name", ["motion_fidelity", "motion_cosine"])
def test_videos_that_do_not_fit_together(name: str) -> None:
    a, b = WORLD.clip(0, "pan").frames, World(VideoSize(6, 32, 48)).clip(0, "pan").frames
    for generated in (a[:5], b, a.float(), a[0]):
        said = (
            r"generated video [56] frames of (48|32)x48 pixels"
            r"|is float32 of shape|of shape \(3, 48, 48\)"
        )
        with pytest.raises(MetricError, match=said):
            metric_of(name).score(Sample(a, generated))
    with pytest.raises(MetricError, match="one frame|of 1 frames"):
        metric_of(name).score(Sample(a[:1], a[:1]))


def test_unknown_names_are_told_before_anything_is_loaded() -> None:
    said = "unknown metric 'fvd'; there are motion_fidelity, .*diversity"
    with pytest.raises(MetricError, match=said):
        make_metrics(["motion_fidelity", "fvd"])
    with pytest.raises(MetricError, match="unknown tracker 'x'"):
        make_metrics(["motion_fidelity"], tracker="x")
    unused = make_metrics(["motion_cosine"], tracker="not loaded", clip="nor this")
    assert list(unused) == ["motion_cosine"]


def test_metrics_share_their_instruments() -> None:
    metrics = make_metrics(clip=Colours())
    assert list(metrics) == list(METRICS)
    assert metrics["motion_fidelity"].tracker is metrics["hybrid_motion_fidelity"].tracker
    assert metrics["prompt_fidelity"].clip is metrics["diversity"].clip


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(shards.process, args=(str(tmp_path),), nprocs=2)
    alone = shards.measure(range(5))
    missing = [row["value"] is None for row in alone["prompt_fidelity"][1]]
    assert missing == [False, False, False, True, False]
    for case in ("uneven", "empty"):
        for rank in range(2):
            assert json.loads((tmp_path / f"{case}-{rank}.json").read_text()) == alone, case
    nothing = json.loads((tmp_path / "nothing-1.json").read_text())
    assert nothing == {name: [None, []] for name in alone}


def _row(name: str, sample: Sample) -> Row:
    metric = metric_of(name)
    metric.update([sample])
    (row,) = metric.rows()
    return row
