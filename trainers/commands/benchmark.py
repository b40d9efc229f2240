"""`ditflow test` and `ditflow ablate`: compare methods on the same clips and prompts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from datamodules.benchmark import BenchmarkData
from datamodules.davis import DavisBenchmark
from trainers.benchmark.folder import RunFolder
from trainers.benchmark.methods import chosen_of, methods_of
from trainers.benchmark.options import MetricChoices, Settings, shared_options
from trainers.benchmark.run import Benchmark
from trainers.commands.config_files import with_shipped_configs
from trainers.parser_errors import in_one_sentence

__all__ = ["DavisBenchmark", "main"]  # a configuration may name DavisBenchmark without its module


def test(
    out: str,
    data: BenchmarkData,
    setups: list[str],
    zero_shot: list[str] = [],  # noqa: B006  shown by --help and never changed
    zero_shot_from: str = "caption",
    setup_kinds: list[str] | None = None,
    baseline: str = "ditflow-latents",
    model: dict[str, Any] = {},  # noqa: B006
    trainer: dict[str, Any] = {},  # noqa: B006
    metrics: MetricChoices = MetricChoices(),  # noqa: B008  frozen
    batch_size: int = 1,
    seed: int = 0,
    methods: list[str] | None = None,
) -> int:
    """Make the videos of several methods, measure them, and write tables. Existing results are
    kept.

    Args:
        out: Folder of the benchmark.
        data: Reference clips and their prompts.
        setups: The methods: names of shipped setups, or paths of .yaml files.
        zero_shot: Setups whose entries, optimised with one kind of prompt, also serve the other
            kinds. Each adds a method, <setup>-zero-shot.
        zero_shot_from: The kind of prompt that those entries are optimised with.
        setup_kinds: Kinds of prompts that the setups make videos of; by default all. Instant
            methods make all, and zero-shot methods all but zero_shot_from.
        baseline: The method that the others are compared with, clip by clip.
        model: Options of `ditflow fit` for all methods, such as backbone and steps: see --model in
            `ditflow fit --help`. By default dtype is what the device computes natively, bfloat16 or
            float32.
        trainer: Options of its Trainer, such as devices.
        metrics: Metrics, and the instruments that measure them.
        batch_size: Clips made together. Results do not depend on it.
        seed: Seed of the noise that videos start from.
        methods: Methods to make and measure now; by default all. Other processes may make the other
            methods in the same folder at the same time.
    """
    for name, kinds in (("zero_shot_from", [zero_shot_from]), ("setup_kinds", setup_kinds or [])):
        if unknown := [kind for kind in kinds if kind not in data.kinds]:
            known = ", ".join(data.kinds)
            raise ValueError(f"{name} is {unknown[0]!r}: give a kind of prompt, {known}.")
    every = methods_of(setups, zero_shot, zero_shot_from, setup_kinds)
    chosen_of(every, [baseline])
    chosen = chosen_of(every, methods)
    settings = Settings(shared_options(model, trainer), trainer, metrics, batch_size, seed)
    return Benchmark(RunFolder(out), data, every, baseline, settings, data.kinds).run(chosen)


def main(arguments: Sequence[str]) -> int:
    """Run `test` or `ablate`, the first word. Raises ValueError for options that cannot be used."""
    from trainers.benchmark.ablation import ablate

    command, *words = arguments
    function = {"test": test, "ablate": ablate}[command]
    parser = ArgumentParser(
        prog=f"ditflow {command}",
        description=(function.__doc__ or "").partition("\n\n")[0],
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with these options. A shipped one is found by its name.",
    )
    parser.add_function_arguments(function, skip={"methods"})
    if command == "test":
        parser.add_argument(
            "--methods",
            nargs="+",
            default=None,
            metavar="METHOD",
            help="Methods to make and measure now; by default all.",
        )
    return int(function(**_options(parser, command, words)))


def _options(parser: ArgumentParser, command: str, words: Sequence[str]) -> dict[str, Any]:
    try:
        parsed = parser.parse_args(with_shipped_configs(words))
    except ArgumentError as error:
        raise ValueError(in_one_sentence(str(error), command)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = parser.instantiate(parsed)
    return {key: value for key, value in vars(options).items() if key != "config"}
