"""Clips a second against the batch size, of `fit` and of `predict`, and what `auto` picks.

    python -m tests.benchmarks.batches tiny-rope

All sizes take turns in one process, so that a machine that slows down slows all. Each round gives a
ratio to one clip at a time, and the median of the rounds is told, with the least and the most.
Processor time counts the work of one thread on a machine that is shared; it is not what a GPU gains
by being busy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from datamodules.synthetic import World
from ditflow.compatibility import draft_injection, videos_of
from ditflow.fields import field_of
from ditflow.models import Model, load_backbone
from ditflow.sampling.recipe import Choices
from trainers.motion import batch_size

SIZES = (1, 2, 4, 8)
Work = Callable[[], object]


def fits(model: Model) -> dict[int, Work]:
    """A guided step as recommended, with the look at the clips."""
    recipe = Choices().on(model)
    return {count: batch_size.step_of(model, model.spec.size, count, recipe) for count in SIZES}


def predictions(model: Model, steps: int) -> dict[int, Work]:
    """Videos with motions of the synthetic world, decoded."""
    drafts = []
    for seed in range(max(SIZES)):
        clip = World(model.spec.size).clip(seed)
        field = field_of(clip.frames)
        drafts.append(draft_injection(model, field, clip.prompt, seed=seed, steps=steps))
    return {count: lambda count=count: videos_of(model, drafts[:count]) for count in SIZES}  # type: ignore[misc]


def seconds(work: Work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(works: dict[int, Work], rounds: int) -> list[dict[int, float]]:
    """Clips a second by batch size, against one at a time, for each round."""
    for work in works.values():
        work()
    found = []
    for number in range(rounds):
        order = list(works)[:: 1 if number % 2 else -1]
        rates = {count: count / seconds(works[count]) for count in order}
        found.append({count: rates[count] / rates[1] for count in SIZES})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a video")
    options = parser.parse_args()
    model = load_backbone(options.model, device="cpu")
    print("| | 1 | 2 | 4 | 8 | auto | of the best |")
    print("|---|---|---|---|---|---|---|")
    cases = {"fit": fits(model), "predict": predictions(model, options.steps)}
    for name, works in cases.items():
        rounds = measured(works, options.rounds)
        ratios = {count: [one[count] for one in rounds] for count in SIZES}
        middle = {count: statistics.median(ratios[count]) for count in SIZES}
        recipe = Choices().on(model) if name == "fit" else None
        rates = batch_size.measured(model, model.spec.size, max(SIZES), recipe)
        picked = batch_size.fastest(rates)
        cells = [
            f"{middle[count]:.2f} ({min(ratios[count]):.2f} to {max(ratios[count]):.2f})"
            for count in SIZES
        ]
        share = middle[picked] / max(middle.values())
        print(f"| {name} | {' | '.join(cells)} | {picked} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
