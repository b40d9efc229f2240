"""The table and the picture of `tests.benchmarks.instant`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from trainers.benchmark.statistics import interval

Results = dict[str, list[dict[str, Any]]]
KINDS = ("pan", "arc", "zoom", "rotation", "drift", "orbit", "bounce")


def by_clip(results: list[dict[str, Any]], column: str) -> dict[str, float]:
    """The mean of each clip over its prompts and seeds."""
    found: dict[str, list[float]] = defaultdict(list)
    for result in results:
        found[result["clip"]].append(result[column])
    return {clip: sum(values) / len(values) for clip, values in found.items()}


def table(rows: Results) -> str:
    """Markdown. Motion has its interval, and its paired difference to the first row."""
    names = (
        "motion",
        "speed",
        "prompt",
        "contrast",
        "saturation",
        "flicker",
        "consistency",
        "CLIP",
    )
    head = f"| | {' | '.join(names)} | difference | {' | '.join(KINDS)} |"
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    first = by_clip(next(iter(rows.values())), "motion")
    for name, results in rows.items():
        if not results:
            continue
        motion = by_clip(results, "motion")
        inside = interval(list(motion.values()))
        cells = [f"{inside.mean:.2f} [{inside.low:.2f}, {inside.high:.2f}]"]
        for column in names[1:]:
            mean = interval(list(by_clip(results, column).values())).mean
            cells.append(f"{mean:.0%}" if column == "prompt" else f"{mean:.3g}")
        both = [motion[clip] - first[clip] for clip in motion if clip in first]
        gap = interval(both)
        cells.append(f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]")
        for kind in KINDS:
            of_kind = [result for result in results if result["kind"] == kind]
            cells.append(
                f"{_mean(of_kind, 'motion'):.2f} / {_mean(of_kind, 'speed'):.2f}" if of_kind else ""
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_picture(rows: Results, file: Path) -> None:
    """Motion of each row with its interval, and its speed, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = {name: results for name, results in rows.items() if results}
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 1 + 0.32 * len(shown)), sharey=True)
    for place, results in enumerate(shown.values()):
        for axis, column in zip(axes, ("motion", "speed"), strict=True):
            found = interval(list(by_clip(results, column).values()))
            axis.plot([found.low, found.high], [place, place], color="#3b6ea5", linewidth=2)
            axis.plot([found.mean], [place], "o", color="#3b6ea5")
    axes[0].set_yticks(range(len(shown)), list(shown))
    axes[0].set_xlabel("motion cosine, 95 % interval over clips")
    axes[1].set_xlabel("speed, 1 is the reference's")
    axes[1].axvline(1, color="#999999", linewidth=1)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _mean(results: list[dict[str, Any]], column: str) -> float:
    return sum(result[column] for result in results) / len(results)
