"""Means over clips, their intervals, differences on the same clips: against arithmetic and known
distributions.
"""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from ditflow.metrics import make_metrics
from trainers.benchmark.compared import Compared
from trainers.benchmark.folder import Item, RunFolder
from trainers.benchmark.statistics import COSTS, interval, over_clips, paired, values_of
from trainers.benchmark.tables import write_tables
from trainers.benchmark.text import latex, markdown

KINDS = ["caption", "subject"]
RUN = {
    "ditflow": "1.0", "date": "2026-11-20T10:00:00+00:00", "backbone": "tiny",
    "size": [9, 32, 48], "tracker": "lucas-kanade", "clip_model": "tiny-clip",
    "clips": ["a", "b", "c"], "prompt_kinds": KINDS, "baseline": "base",
    "methods": [
        {"name": "base", "label": "base", "zero_shot": False, "optimised": "base"},
        {"name": "x_y", "label": "x_y", "zero_shot": False, "optimised": "x_y"},
        {"name": "x_y-zero-shot", "label": "x_y, zero-shot", "zero_shot": True, "optimised": "x_y"},
    ],
    "metrics": [
        {"name": "motion", "label": "Motion", "better": "higher", "instrument": "lucas-kanade"},
        {"name": "leak", "label": "Leak", "better": "lower", "instrument": "tiny-clip"},
    ],
}  # fmt: skip


def result(
    method: str, clip: str, kind: str, motion: float | None, leak: float | None = 0.5
) -> dict:
    costs = {
        "seconds": 2.0,
        "peak_memory_bytes": 2**30,
        "forward_equivalents": 50.0,
        "entry_bytes": 2048,
    }
    place = {
        "method": method,
        "clip": clip,
        "kind": kind,
        "prompt": "p",
        "seed": 0,
        "zero_shot_from": None,
        "error": None,
    }
    how = {
        "machine": "an abacus",
        "instruments": {"motion": "lucas-kanade", "leak": "tiny-clip"},
        "details": {"motion": {"lost": 0.25}},
    }
    return place | {"metrics": {"motion": motion, "leak": leak}} | how | costs


RESULTS = [
    *(
        result("base", clip, kind, value + add)
        for clip, value in zip("abc", (0.1, 0.2, 0.6), strict=True)
        for kind, add in zip(KINDS, (0.0, 0.1), strict=True)
    ),
    *(
        result("x_y", clip, "caption", value)
        for clip, value in zip("abc", (0.3, 0.4, 0.8), strict=True)
    ),
    result("x_y", "a", "subject", None),
    result("x_y", "b", "subject", math.nan),
    result("x_y-zero-shot", "a", "subject", 0.5),
]


def test_interval_covers_the_mean_in_19_of_20_samples():
    """Of 24 clips, as the synthetic benchmark has; the bootstrap is a little narrow at that size,
    hence 90 to 98 %.
    """
    samples = np.random.default_rng(1).normal(0.3, 0.2, size=(400, 24))
    found = [interval(sample, repeats=500) for sample in samples]
    assert 0.90 <= np.mean([one.low <= 0.3 <= one.high for one in found]) <= 0.98
    assert found[0].mean == pytest.approx(samples[0].mean()) and found[0].clips == 24


def test_interval_is_the_same_every_time_and_a_point_where_nothing_varies():
    assert interval([0.1, 0.5, 0.3]) == interval([0.1, 0.5, 0.3])
    assert interval([0.5] * 3) == interval([0.5]).__class__(0.5, 0.5, 0.5, 3)
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_a_clips_prompts_are_averaged_before_clips_are():
    found = over_clips({("a", "caption"): 0.0, ("a", "subject"): 1.0, ("b", "caption"): 0.1}, KINDS)
    assert (found.mean, found.clips) == (pytest.approx(0.3), 2)
    assert over_clips({("a", "caption"): 1.0}, ["subject"]) is None


def test_unknown_numbers_are_left_out():
    assert values_of(RESULTS, "motion")["x_y"] == {
        ("a", "caption"): 0.3,
        ("b", "caption"): 0.4,
        ("c", "caption"): 0.8,
    }


def test_differences_are_taken_on_common_videos():
    values = values_of(RESULTS, "motion")
    found = paired(values["x_y"], values["base"], KINDS)
    assert (found.mean, found.low, found.high, found.clips) == (
        pytest.approx(0.2),
        pytest.approx(0.2),
        pytest.approx(0.2),
        3,
    )
    assert paired(values["x_y-zero-shot"], values["x_y"], KINDS) is None, (
        "the optimised method has no number there"
    )


def test_tables_are_made_of_what_is_there(tmp_path):
    folder = RunFolder(tmp_path / "run")
    run = folder.claim(RUN)
    for one in RESULTS[:4]:
        folder.write_result(Item(one["method"], one["clip"], one["kind"]), one)
    write_tables(folder, run)
    rows = list(csv.DictReader((tmp_path / "run/rows.csv").open()))
    found = [(row["clip"], row["kind"], float(row["motion"])) for row in rows]
    assert found == [
        ("a", "caption", 0.1),
        ("a", "subject", 0.2),
        ("b", "caption", 0.2),
        ("b", "subject", 0.2 + 0.1),
    ]
    assert {
        (row["motion:instrument"], row["leak:instrument"], row["motion:lost"], row["machine"])
        for row in rows
    } == {("lucas-kanade", "tiny-clip", "0.25", "an abacus")}
    table = list(csv.DictReader((tmp_path / "run/table.csv").open()))
    assert {row["method"] for row in table} == {"base"}
    assert {row["column"]: row["instrument"] for row in table if row["column"] not in COSTS} == {
        "motion": "lucas-kanade",
        "leak": "tiny-clip",
    }
    assert list(csv.DictReader((tmp_path / "run/paired.csv").open())) == []


def test_markdown_and_latex_say_the_same():
    text, tex = markdown(Compared(RUN, RESULTS)), latex(Compared(RUN, RESULTS))
    assert (
        "| base | 3 | 0.350 [0.150, 0.650] | 0.500 [0.500, 0.500] | 2.0 | 1024 | 50 | 2 |" in text
    )
    assert r"base & 3 & 0.350 [0.150, 0.650] & 0.500 [0.500, 0.500] & 2.0 & 1024 & 50 & 2 \\" in tex
    assert "| x_y | base | 3 | +0.200 [+0.200, +0.200] | +0.000 [+0.000, +0.000] |" in text
    assert r"x\_y & base & 3 & +0.200 [+0.200, +0.200] & +0.000 [+0.000, +0.000] \\" in tex
    for written in (text.splitlines()[0], tex.splitlines()[0]):
        assert (
            "tracker lucas-kanade" in written
            and "Seconds and memory: an abacus." in written
            and "3 clips of 9 frames" in written
        )
    assert text.count("have no videos of the prompts that their entries were optimised with") == 1
    assert "Zero-shot" not in markdown(Compared(RUN | {"methods": RUN["methods"][:2]}, RESULTS))
    assert r"x\_y, zero-shot" in tex and "Motion (+)" in text and "Leak (-)" in text


def test_a_mean_over_fewer_clips_says_of_how_many():
    few = [one for one in RESULTS if (one["method"], one["clip"]) != ("base", "c")] + [
        result("base", "c", kind, None) for kind in KINDS
    ]
    assert "| base | 3 | 0.200 [0.150, 0.250] (2) | 0.500 [0.500, 0.500] |" in markdown(
        Compared(RUN, few)
    )


def test_costs_that_differ_have_an_interval():
    slow = [
        one | {"seconds": 2.0 + 2 * (one["clip"] == "a")}
        for one in RESULTS
        if one["method"] == "base"
    ]
    assert "| 2.7 [2.0, 4.0] | 1024 | 50 | 2 |" in markdown(Compared(RUN, slow))


def test_looking_like_the_reference_is_no_leak_where_the_prompt_describes_it():
    results = [
        one | {"metrics": {"appearance_leakage": 0.9 if one["kind"] == "caption" else 0.1}}
        for one in RESULTS
    ]
    assert set(values_of(results, "appearance_leakage")["base"].values()) == {0.1}


def test_every_metric_and_cost_has_a_column():
    metrics = [
        {
            "name": name,
            "label": metric.label,
            "better": metric.better,
            "instrument": metric.instrument,
        }
        for name, metric in make_metrics().items()
    ]
    results = [one | {"metrics": {metric["name"]: 0.5 for metric in metrics}} for one in RESULTS]
    run = RUN | {"metrics": metrics}
    header = (
        "| method | Clips | Motion fidelity (+) | Motion cosine (+) | Prompt fidelity (+) "
        "| Temporal consistency (+) | Appearance leakage (-) |"
    )
    assert f"{header} Seconds | Peak memory, MiB | Forwards | Entry, KiB |" in markdown(
        Compared(run, results)
    )
    assert (
        r"Appearance leakage (-) & Seconds & Peak memory, MiB & Forwards & Entry, KiB \\"
        in latex(Compared(run, results))
    )
    assert all(metric["label"] in markdown(Compared(run, results)) for metric in metrics)


def test_metrics_that_the_first_tables_leave_out_have_their_own():
    metrics = [
        {"name": name, "label": name, "better": "higher", "instrument": "ruler"}
        for name in ("motion_fidelity", "leak")
    ]
    results = [
        one | {"metrics": {"motion_fidelity": one["metrics"]["motion"], "leak": 0.5}}
        for one in RESULTS
    ]
    first, others = markdown(Compared(RUN | {"metrics": metrics}, results)).split(
        "## Other metrics, all prompts"
    )
    assert "leak" not in first and "| method | Clips | motion_fidelity (+) | Seconds |" in first
    assert "| base | 3 | 0.500 [0.500, 0.500] |" in others.split("## Paired")[0]


def test_a_run_may_get_more_methods_but_no_other_clips(tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = folder.claim(RUN | {"methods": RUN["methods"][:1]})
    assert [
        row["name"] for row in folder.claim(RUN | {"methods": RUN["methods"][1:]})["methods"]
    ] == ["base", "x_y", "x_y-zero-shot"]
    assert folder.claim(RUN)["date"] == first["date"]
    with pytest.raises(
        ValueError, match=r"holds a benchmark with clips \['a', 'b', 'c'\] instead of \['a'\]"
    ):
        folder.claim(RUN | {"clips": ["a"]})
