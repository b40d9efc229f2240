"""The options that all methods of a benchmark share, and whether `fit` accepts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning import Trainer

from datamodules.benchmark import BenchmarkData
from ditflow.extraction import source_of
from ditflow.metrics import METRICS, Metric, make_metrics
from ditflow.models import Model
from ditflow.models.dtypes import native_dtype
from ditflow.sampling.image import check_image
from trainers.benchmark.methods import FIELD_OPTIONS, Method, setup_options
from trainers.motion.instant import InstantMotion
from trainers.motion.optimization import MotionOptimization
from trainers.parser_errors import cause_of, in_one_sentence


@dataclass(frozen=True)
class MetricChoices:
    """Metrics, and the instruments that measure them.

    Args:
        names: Metrics; by default all that apply to any clip. Synthetic clips also have
            prompt_accuracy.
        tracker: Follows points through videos: lucas-kanade; cotracker3, where it is installed; or
            exact, where the tracks of the references are known.
        clip: Compares pictures and prompts: tiny-clip, a folder in transformers format, or a hub
            id.
        flows: Write the motion that the backbone sees in each video. The report shows it.
    """

    names: list[str] = field(default_factory=lambda: list(METRICS))
    tracker: str = "lucas-kanade"
    clip: str = "tiny-clip"
    flows: bool = True

    def instruments(self, data: BenchmarkData, kinds: Sequence[str]) -> dict[str, Metric]:
        """The chosen metrics by name. A metric that compares the videos of one entry is left out
        where an entry has only one video. Raises MetricError for an unknown name.
        """
        own = data.metrics()
        made = make_metrics(
            [name for name in self.names if name not in own], tracker=self.tracker, clip=self.clip
        )
        chosen = {name: (own | made)[name] for name in self.names}
        return {
            name: metric
            for name, metric in chosen.items()
            if len(kinds) > 1 or not metric.of_entries
        }


@dataclass(frozen=True)
class Settings:
    """What all methods of a benchmark share: options of `fit` (`model`) and of its Trainer, the
    metrics, the clips made together, and the seed of the noise.
    """

    model: Mapping[str, Any]
    trainer: Mapping[str, Any]
    metrics: MetricChoices
    batch_size: int = 1
    seed: int = 0


def shared_options(model: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `fit` for all methods, with the backbone and the dtype always named.

    The native dtype differs between machines, but a folder has one dtype. Named here, it is written
    into run.json, and a machine that would take another dtype is refused.
    """
    on_gpu = torch.cuda.is_available() and trainer.get("accelerator") != "cpu"
    native = native_dtype(torch.device("cuda" if on_gpu else "cpu"))
    given = {key: value for key, value in model.items() if key != "dtype" or value is not None}
    return {"backbone": "tiny-rope", "dtype": str(native).removeprefix("torch.")} | given


def check_options(methods: Sequence[Method], settings: Settings, backbone: Model) -> None:
    """Raises ValueError, which names the method, where `fit` or `predict` would refuse one, and for
    a backbone that needs a picture to begin with, which a benchmark does not have.
    """
    fix = "--data.image of `fit` and `predict`, or test a text-to-video model"
    check_image(backbone.spec, False, fix, "a benchmark's video")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MotionOptimization, "model")
    parser.add_class_arguments(InstantMotion, "field")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)
    for method in methods:
        model = {**setup_options(method.config), **settings.model, **method.model, "finish": True}
        field = {}
        if method.is_instant:  # `fit` takes these, and `predict` the others
            field = {key: model[key] for key in FIELD_OPTIONS if key in model}
            model = {"signal": None} | model
        model.pop("source", None)
        options = {"model": model, "field": field, "trainer": dict(settings.trainer)}
        try:
            made = parser.instantiate(parser.parse_object(options))
            made.model.choices.on(backbone)
            source_of(made.field.source, backbone)
        except ArgumentError as error:
            reason = in_one_sentence(str(error), "fit")
            raise ValueError(f"method {method.name!r} cannot run: {reason}") from error
        except ValueError as error:
            raise ValueError(
                f"method {method.name!r} cannot run: {cause_of(str(error))}"
            ) from error
