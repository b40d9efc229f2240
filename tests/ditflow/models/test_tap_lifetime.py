"""Taps leave nothing behind, and survive exceptions, offload and checkpointing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ditflow.core.tokens import Recording
from ditflow.models import Model
from ditflow.models.taps import StopForward, taps
from tests.families import family_of
from tests.registry import SOME, grid_of, tiny_backbone, tiny_pipeline
from tests.tapped import (
    BLOCK,
    latents_of,
    model_offload,
    predicted,
    sequential_offload,
    stock,
    text_of,
)


@pytest.fixture(params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def state_of(transformer: nn.Module) -> list[Any]:
    """All that hooks could leave behind."""
    modules = list(transformer.modules())
    return [
        (sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in modules
    ]


def test_nothing_is_left_behind(backbone: Model) -> None:
    before = state_of(backbone.transformer)
    with backbone.tapped(capture=[1], features=[2, 3]):
        predicted(backbone, position=backbone.stock_position(grid_of(backbone)))
        assert state_of(backbone.transformer) != before
    assert state_of(backbone.transformer) == before


@pytest.mark.parametrize(
    "where",
    ["{embedding}", "{blocks}.1.attn1.norm_k", "{blocks}.2.{feed_forward}", "proj_out"],
)
def test_nothing_is_left_behind_by_an_exception(backbone: Model, where: str) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no memory")

    before, expected = state_of(backbone.transformer), stock(backbone)
    part = backbone.transformer.get_submodule(family_of(backbone).named(where))
    handle = part.register_forward_pre_hook(fail)
    with pytest.raises(MemoryError), backbone.tapped(capture=[1], checkpointing=True):
        predicted(backbone, position=backbone.stock_position(grid_of(backbone)))
    handle.remove()
    assert state_of(backbone.transformer) == before
    assert not backbone.transformer.gradient_checkpointing
    torch.testing.assert_close(stock(backbone), expected, rtol=0, atol=0)
    with backbone.tapped():  # and it can be used again
        torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)


@pytest.mark.parametrize("offload", [model_offload, sequential_offload])
def test_bit_identity_under_offload(backbone: Model, offload: Callable[[nn.Module], None]) -> None:
    expected = stock(backbone)
    offload(backbone.transformer)
    before = state_of(backbone.transformer)
    for _ in range(2):
        with backbone.tapped(capture=[BLOCK]) as recording:
            torch.testing.assert_close(
                predicted(backbone, position=backbone.stock_position(grid_of(backbone))),
                expected,
                rtol=0,
                atol=0,
            )
            assert BLOCK in recording.query
        with backbone.tapped(capture=[BLOCK], stop_early=True):
            assert backbone.predict(latents_of(backbone), 500, text_of(backbone)) is None
        assert state_of(backbone.transformer) == before
    torch.testing.assert_close(stock(backbone), expected, rtol=0, atol=0)


def test_a_recording_is_freed_as_soon_as_it_is_dropped(backbone: Model) -> None:
    """Not by the garbage collector, which may come when the device's memory is long full."""
    gc.collect()
    gc.disable()
    try:
        with backbone.tapped([BLOCK]) as recording:
            predicted(backbone)
        query = weakref.ref(recording.query[BLOCK])
        del recording
        assert query() is None
    finally:
        gc.enable()


def attended(recording: Recording) -> Tensor:
    return (recording.query[BLOCK] * recording.key[BLOCK].flip(1)).sin().sum()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stop_early", [False, True])
def test_gradients_do_not_depend_on_early_exit_or_checkpointing(
    backbone: Model, checkpointing: bool, stop_early: bool
) -> None:
    def gradients(checkpointing: bool, stop_early: bool) -> tuple[Tensor, ...]:
        latents, position = (
            latents_of(backbone).requires_grad_(),
            backbone.stock_position(grid_of(backbone)).clone().requires_grad_(),
        )
        with backbone.tapped(
            capture=[BLOCK], stop_early=stop_early, checkpointing=checkpointing
        ) as recording:
            backbone.predict(latents, 500, text_of(backbone), position)
            recorded = recording.query[BLOCK]
            result = torch.autograd.grad(attended(recording), [latents, position])
            assert recording.query[BLOCK] is recorded  # recomputation in backward records nothing
        return result

    for ours, plain in zip(
        gradients(checkpointing, stop_early), gradients(False, False), strict=True
    ):
        assert plain.abs().max() > 0
        torch.testing.assert_close(ours, plain, rtol=0, atol=0)


@pytest.mark.parametrize("early_stop", [False, True])
def test_checkpointing_survives_an_early_exit_when_everything_is_recomputed(
    backbone: Model, early_stop: bool
) -> None:
    latents = latents_of(backbone).requires_grad_()
    with (
        torch.utils.checkpoint.set_checkpoint_early_stop(early_stop),
        backbone.tapped(capture=[BLOCK], stop_early=True, checkpointing=True) as recording,
    ):
        backbone.predict(latents, 500, text_of(backbone))
        (gradient,) = torch.autograd.grad(attended(recording), latents)
    with backbone.tapped(capture=[BLOCK]) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        torch.testing.assert_close(
            gradient, torch.autograd.grad(attended(recording), latents)[0], rtol=0, atol=0
        )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_taps_survive_sequential_offload_while_optimising(
    backbone: Model, checkpointing: bool
) -> None:
    latents = latents_of(backbone).requires_grad_()
    with backbone.tapped(capture=[BLOCK]) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        (expected,) = torch.autograd.grad(attended(recording), latents)
    sequential_offload(backbone.transformer)
    with backbone.tapped(
        capture=[BLOCK], stop_early=True, checkpointing=checkpointing
    ) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        torch.testing.assert_close(
            torch.autograd.grad(attended(recording), latents)[0], expected, rtol=0, atol=0
        )


def test_stop_forward_is_raised_to_who_uses_taps_alone(backbone: Model) -> None:
    with (
        pytest.raises(StopForward),
        taps(backbone.transformer, backbone.layout, capture=[0], stop_early=True),
    ):
        stock(backbone)


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", "wan"])
def test_the_stock_pipeline_runs_in_the_taps(kind: str) -> None:
    def generate() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipeline(
            "a cat",
            num_inference_steps=2,
            height=32,
            width=48,
            num_frames=9,
            max_sequence_length=16,
            generator=generator,
            output_type="latent",
        ).frames

    pipeline = tiny_pipeline(kind)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.enable_model_cpu_offload(device="cpu")
    expected = generate()
    with taps(pipeline.transformer, tiny_backbone(kind).layout, capture=[BLOCK]) as recording:
        torch.testing.assert_close(generate(), expected, rtol=0, atol=0)
    batch = 1 if kind == "wan" else 2  # both guidance passes in one batch, or one by one
    assert len(recording.query[BLOCK]) == batch
    torch.testing.assert_close(generate(), expected, rtol=0, atol=0)
