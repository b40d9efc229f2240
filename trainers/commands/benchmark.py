"""`ditflow test` and `ditflow ablate`: many methods on the same clips and prompts, measured and
compared. Here are their options.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from datamodules.benchmark import KINDS, BenchmarkData
from datamodules.davis import DavisBenchmark
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.methods import chosen_of, methods_of
from trainers.benchmark.options import shared_options
from trainers.benchmark.run import Benchmark, MetricChoices

__all__ = ["DavisBenchmark", "main"]  # DavisBenchmark: so that a configuration may name it shortly


def test(
    out: str,
    data: BenchmarkData,
    setups: list[str],
    zero_shot: list[str] = [],  # noqa: B006  shown by --help and never changed
    zero_shot_from: str = "caption",
    baseline: str = "ditflow-latents",
    model: dict[str, Any] = {},  # noqa: B006
    trainer: dict[str, Any] = {},  # noqa: B006
    metrics: MetricChoices = MetricChoices(),  # noqa: B008  frozen
    batch_size: int = 1,
    seed: int = 0,
    methods: list[str] | None = None,
) -> int:
    """Make the videos of all methods, clips and prompts, measure them, and write tables. What is
    there already is kept.

    Args:
        out: Folder of the benchmark.
        data: Reference clips and their prompts.
        setups: What is compared: names of shipped setups, or paths of .yaml files.
        zero_shot: Setups whose entries, optimised with one kind of prompt, also serve the other
            kinds; the method is called <setup>-zero-shot.
        zero_shot_from: That kind.
        baseline: Method that the others are compared with, clip by clip.
        model: Options of `ditflow fit` that all methods share, such as backbone and steps: see
            `ditflow fit --help`, --model.
            dtype is by default what the device computes natively, bfloat16 or float32.
        trainer: Options of its Trainer, such as devices.
        metrics: What is measured, and with which instruments.
        batch_size: Clips made together; results do not depend on it.
        seed: Of the noise that videos start from.
        methods: Methods to make and measure now; by default all. Other processes may make the
            others in the same folder at the same time.
    """
    if zero_shot_from not in KINDS:
        raise ValueError(
            f"zero_shot_from is {zero_shot_from!r}: give a kind of prompt, {', '.join(KINDS)}."
        )
    every = methods_of(setups, zero_shot, zero_shot_from)
    chosen_of(every, [baseline])
    chosen = chosen_of(every, methods)
    options = shared_options(model, trainer), trainer, metrics, batch_size, seed
    return Benchmark(RunFolder(out), data, every, baseline, *options).run(chosen)


def main(arguments: Sequence[str]) -> int:
    """Run one command, its name first. Raises ValueError for options that cannot be taken."""
    from trainers.benchmark.ablation import ablate

    command, *words = arguments
    function = {"test": test, "ablate": ablate}[command]
    parser = ArgumentParser(
        prog=f"ditflow {command}",
        description=(function.__doc__ or "").partition("\n")[0],
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with these options; one that ships is found by its name.",
    )
    parser.add_function_arguments(function, skip={"methods"})
    if command == "test":
        parser.add_argument(
            "--methods",
            nargs="+",
            default=None,
            metavar="METHOD",
            help="Methods to make and measure now; by default all of them.",
        )
    return int(function(**_options(parser, command, words)))


def _options(parser: ArgumentParser, command: str, words: Sequence[str]) -> dict[str, Any]:
    from trainers.commands.config_files import in_one_sentence, with_shipped_configs

    try:
        parsed = parser.parse_args(with_shipped_configs(words))
    except ArgumentError as error:
        raise ValueError(in_one_sentence(str(error), command)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = parser.instantiate(parsed)
    return {key: value for key, value in vars(options).items() if key != "config"}
