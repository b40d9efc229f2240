"""A bank that an earlier version wrote still gives the latents that it gave then.

On the kind of processor that made them, with as many threads and the same PyTorch, bit by bit.
Elsewhere sums are added in another order: six or nine steps round latents of size 6 by ten times
6e-8 each, and classifier-free guidance of 1.5 enlarges it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ditflow.bank import MotionBank
from ditflow.compatibility import Injection, entry_control
from ditflow.core.sizes import VideoSize
from ditflow.models import Model, load_backbone
from ditflow.sampling.control import NOTHING, Control
from ditflow.sampling.state import clip_generator, initial_noise
from tests.closeness import assert_close_in_norm
from tests.guided import sampled

DATA = Path(__file__).parents[1] / "data" / "old_bank"
BANK = MotionBank(DATA)
MODELS = {name: load_backbone(name, device="cpu") for name in ("tiny-rope", "tiny-sincos")}


def latents_of(model: Model, control: Control, steps: int, scale: float) -> torch.Tensor:
    generators = [clip_generator("red clouds", 5)]
    shape = model.spec.compression.latent_shape(VideoSize(9, 64, 64))
    noise, schedule = initial_noise(shape, generators), model.schedule(steps, scale)
    prompt = model.embed(["red clouds", ""]).split(1)
    return sampled(model, schedule, noise, *prompt, generators, control)


def check(name: str, latents: torch.Tensor) -> None:
    with safe_open(DATA / "latents.safetensors", "pt") as file:
        made, wanted = file.metadata(), file.get_tensor(name)
    here = {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }
    if here == made:
        torch.testing.assert_close(latents, wanted, rtol=0, atol=0)
    assert_close_in_norm(latents, wanted, largest=9 * 6 * 6e-7 * 1.5)


@pytest.mark.parametrize("name", list(BANK))
def test_entries_inject_as_they_did(name: str) -> None:
    entry, model = BANK[name], MODELS[BANK.metadata(name).backbone]
    scale = entry.metadata.guidance_scale
    check(name, latents_of(model, entry_control(model, entry), 6, scale))
    check(f"{name}-steps9", latents_of(model, entry_control(model, entry), 9, scale))
    if entry.reference_latents is not None:
        control = entry_control(model, entry, Injection(injection_blocks=(0, 2)))
        check(f"{name}-keys", latents_of(model, control, 6, scale))


@pytest.mark.parametrize("name", MODELS)
def test_plain_generation_is_what_it_was(name: str) -> None:
    check(f"{name}-plain", latents_of(MODELS[name], NOTHING, 6, 1.5))


def test_a_bank_written_before_is_whole() -> None:
    assert BANK.verify() == []
    with safe_open(DATA / "latents.safetensors", "pt") as file:
        assert {name.partition("-steps")[0].partition("-keys")[0] for name in file.keys()} == {
            *BANK,
            *(f"{name}-plain" for name in MODELS),
        }
