"""A diffusers pipeline as a `Model`: the same modules, not loaded twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
from diffusers.utils.torch_utils import unwrap_module
from torch import nn

from ditflow.models import Model, ModelError
from ditflow.models.registry import MODELS


def model_of(pipe: Any) -> Model:
    """The model that a pipeline runs.

    It shares the pipeline's modules and leaves them where they are. Its scheduler is a copy: of the
    pipeline's where the family knows that, else of the family's own made from its configuration.
    Raises ModelError for a pipeline of another kind.
    """
    given = type(pipe).__name__
    transformers = [unwrap_module(part) for part in transformers_of(pipe)]
    if transformers and pipe.transformer is None:
        raise ModelError(
            f"the {given} has a transformer_2, and its transformer is None: load both experts."
        )
    family = MODELS.get(type(transformers[0]).__name__) if transformers else None
    if family is None or given not in family.pipelines or not _from_noise(pipe):
        known = sorted({name for one in MODELS.values() for name in one.pipelines})
        raise ModelError(
            f"a {given} cannot take a motion; supported: those of {', '.join(known)} that begin "
            "with noise. Use one of them."
        )
    name = str(pipe.config.get("_name_or_path") or given)
    own = type(pipe.scheduler).__name__
    scheduler = own if own in family.schedulers else family.schedulers[0]
    configs = transformers[0].config, pipe.vae.config, scheduler, pipe.config
    spec = family.described(name, *configs)
    device, dtype = pipe._execution_device, transformers[0].dtype
    encoders = family.encoders_class.of(pipe, spec.text_tokens, device, dtype)
    copied = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    model = family(spec, transformers[0], copied, encoders, *transformers[1:])
    model.moves_experts = False
    return model


def transformers_of(pipe: Any) -> list[Any]:
    """The pipeline's transformers as they are called, compiled or not: one, or two experts."""
    parts = (getattr(pipe, name, None) for name in ("transformer", "transformer_2"))
    return [part for part in parts if part is not None]


@contextmanager
def as_it_was(pipe: Any) -> Iterator[None]:
    """Leave modules of a pipeline in training, and their parameters with gradients, as before."""
    parts = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    modules = [(module, module.training) for part in parts for module in part.modules()]
    weights = [(weight, weight.requires_grad) for part in parts for weight in part.parameters()]
    try:
        yield
    finally:
        for module, training in modules:
            module.training = training
        for weight, requires_grad in weights:
            weight.requires_grad_(requires_grad)


def _from_noise(pipe: Any) -> bool:
    """Whether a pipeline denoises pure noise; one that changes a video is told no length of it."""
    prepare = getattr(type(pipe), "prepare_latents", None)
    return prepare is not None and "num_frames" in prepare.__code__.co_varnames
