"""What `fit` would say to the options of a benchmark's methods, asked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning import Trainer

from ditflow.models import Model
from ditflow.models.dtypes import native_dtype
from trainers.benchmark.methods import Method, setup_options
from trainers.commands.config_files import in_one_sentence
from trainers.motion.method import Method as OnBackbone
from trainers.motion.optimization import MotionOptimization


def shared_options(model: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `fit` that all methods share. The dtype is one of them, told or not.

    What a device computes natively differs between machines, and a folder has one dtype: named
    here, it is written into run.json, and a machine that would take another one is refused.
    """
    on_gpu = torch.cuda.is_available() and trainer.get("accelerator") != "cpu"
    native = native_dtype(torch.device("cuda" if on_gpu else "cpu"))
    given = {key: value for key, value in model.items() if key != "dtype" or value is not None}
    return {"backbone": "tiny-rope", "dtype": str(native).removeprefix("torch.")} | given


def check_options(
    methods: Sequence[Method], model: Mapping[str, Any], trainer: Mapping[str, Any], backbone: Model
) -> None:
    """`model` are options of `fit` that all methods share, `trainer` those of its Trainer. Raises
    ValueError where a method cannot run with them.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MotionOptimization, "model")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)
    for method in methods:
        options = {
            "model": {**setup_options(method.config), **model, **method.model, "finish": True},
            "trainer": dict(trainer),
        }
        try:
            OnBackbone(
                MotionOptimization(**parser.parse_object(options).model.as_dict()).choices, backbone
            )
        except ArgumentError as error:
            raise ValueError(
                f"method {method.name!r} cannot run: {in_one_sentence(str(error), 'fit')}"
            ) from error
        except ValueError as error:
            raise ValueError(f"method {method.name!r} cannot run: {error}") from error
