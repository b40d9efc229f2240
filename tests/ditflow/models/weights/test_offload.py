"""Blocks that wait on the CPU: gradients are those of the model as it is, or are refused.

On one device nothing would be lost by a weight that left too early. So here what leaves becomes
NaN, in place of the weight that autograd may have saved.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import Tensor

from ditflow.models import Model, ModelError
from ditflow.models.weights.offload import offload_blocks
from ditflow.models.weights.plan import KEPT
from ditflow.models.weights.turns import Turns
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.variables import VARIABLES
from ditflow.transfer import transfer_motion
from tests.clips import clip_of
from tests.registry import BACKBONES, image_of, tiny_backbone
from tests.tapped import latents_of, text_of

CPU, BLOCK = torch.device("cpu"), 3
Away = dict[int, Tensor]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    """The values of weights that are away; what autograd has of them is NaN until they are back."""
    gone: Away = {}

    def tensors(group: ModuleGroup) -> list[Tensor]:
        parts = [*group.modules]
        inside = [[*part.parameters(), *part.buffers()] for part in parts]
        return [*sum(inside, []), *group.parameters, *group.buffers]

    def leave(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            if id(tensor) not in gone and tensor.is_floating_point():
                gone[id(tensor)] = tensor.data
                tensor.data = torch.full_like(tensor, torch.nan)

    def come(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            if id(tensor) in gone:
                tensor.data = gone.pop(id(tensor))

    monkeypatch.setattr(ModuleGroup, "_offload_to_memory", leave)
    monkeypatch.setattr(ModuleGroup, "_onload_from_memory", come)
    return gone


def gradient(model: Model, variable: str, *, checkpointing: bool) -> Tensor:
    """Of what a block's queries and keys are, at what is optimised, in the second of two passes."""
    noise = latents_of(model)
    kind = VARIABLES[variable].start(model, noise)
    parameter = kind.parameter.clone().requires_grad_()
    kind = kind.replaced(parameter)
    with (
        torch.enable_grad(),
        model.tapped([BLOCK], stop_early=True, checkpointing=checkpointing) as seen,
    ):
        for _ in range(2):
            picture = model.blank(noise)
            model.predict(kind.latents(noise), 500, text_of(model), kind.position, picture)
            loss = seen.query[BLOCK].sin().sum() + seen.key[BLOCK].cos().sum()
            (found,) = torch.autograd.grad(loss, parameter)
    return found


def offloaded(kind: str) -> Model:
    model = tiny_backbone(kind)
    for expert in model.experts:
        offload_blocks(expert, model.layout.all_blocks(expert), CPU)
    return model


def variables(kind: str) -> list[str]:
    positions = "sinusoidal" if tiny_backbone(kind).spec.position == "sinusoidal" else None
    return ["latents", positions or "rotary_tables"]


CASES = [(kind, variable) for kind in BACKBONES for variable in variables(kind)]


@pytest.mark.parametrize(("kind", "variable"), CASES)
def test_gradients_are_those_of_the_model_as_it_is(away: Away, kind: str, variable: str) -> None:
    wanted = gradient(tiny_backbone(kind), variable, checkpointing=True)
    assert wanted.abs().max() > 0
    assert torch.equal(gradient(offloaded(kind), variable, checkpointing=True), wanted)


def test_without_checkpointing_they_would_be_lost(away: Away) -> None:
    """So the other tests would see it if a weight left too early."""
    assert gradient(offloaded("rotary"), "latents", checkpointing=False).isnan().any()


def test_two_blocks_are_there_at_most(away: Away) -> None:
    """Also on the way back, where diffusers alone leaves all that have run."""
    model, most = offloaded("rotary"), []
    blocks = model.layout.all_blocks(model.transformer)
    for block in blocks:
        block.attn1.register_forward_pre_hook(
            lambda *_: most.append(sum(id(next(b.parameters())) not in away for b in blocks))
        )
    gradient(model, "latents", checkpointing=True)
    assert max(most) == KEPT < BLOCK


def guidance(*, checkpointing: bool) -> MotionGuidance:
    signal, rates = AttentionMotionFlow(2), (0.1, 0.05)
    return MotionGuidance(signal, "latents", 0.5, rates, inner_steps=1, checkpointing=checkpointing)


def transferred(kind: str, prepare: Callable[[Model], None], *, checkpointing: bool) -> Tensor:
    model = tiny_backbone(kind)
    prepare(model)
    options = {"steps": 4, "motion_guidance": guidance(checkpointing=checkpointing)}
    made = transfer_motion(model, clip_of(), "a cat", image=image_of(kind), **options)
    return torch.cat([made.entry.parameters.flatten(), made.frames.flatten()])


def blocks_wait(model: Model) -> None:
    for expert in model.experts:
        offload_blocks(expert, model.layout.all_blocks(expert), CPU)


@pytest.mark.parametrize("kind", ["rotary", "wan22-experts"])
def test_a_transfer_is_the_same_bit_by_bit(away: Away, kind: str) -> None:
    wanted = transferred(kind, lambda model: None, checkpointing=True)
    assert torch.equal(transferred(kind, blocks_wait, checkpointing=True), wanted)


@pytest.mark.parametrize("kind", ["rotary", "wan22-experts"])
def test_parts_take_turns(kind: str) -> None:
    """Encoders are freed before the transformer runs, and it has left when they are loaded."""
    model, seen = tiny_backbone(kind), []
    model.turns = Turns(model, offloaded=False)
    load, run = model.turns.encoders_come, model.transformer_at

    def loading() -> None:
        load()
        seen.append(model.turns.away)

    def running(timestep: float) -> object:
        transformer = run(timestep)
        encoders = model.encoders
        seen.append(encoders._vae is None and encoders._text is None and not model.turns.away)
        return transformer

    model.encoders.before_load, model.transformer_at = loading, running
    options = {"steps": 4, "motion_guidance": guidance(checkpointing=True)}
    made = transfer_motion(model, clip_of(), "a cat", **options)
    assert len(seen) > 10 and all(seen)
    wanted = transfer_motion(tiny_backbone(kind), clip_of(), "a cat", **options)
    assert torch.equal(made.frames, wanted.frames)


def leaves_wait(model: Model) -> None:
    for expert in model.experts:
        expert.enable_group_offload(CPU, CPU, offload_type="leaf_level")


def test_leaves_that_wait_are_refused_where_something_is_optimised() -> None:
    with pytest.raises(ModelError, match="leaf by leaf .* makes gradients wrong"):
        transferred("rotary", leaves_wait, checkpointing=True)


def test_blocks_that_wait_are_refused_without_checkpointing() -> None:
    with pytest.raises(ModelError, match="without gradient checkpointing they are gone"):
        transferred("rotary", blocks_wait, checkpointing=False)


def test_groups_of_several_blocks_are_refused() -> None:
    model = tiny_backbone("rotary")
    model.transformer.enable_group_offload(
        onload_device=CPU, offload_device=CPU, offload_type="block_level", num_blocks_per_group=2
    )
    guidance = MotionGuidance(AttentionMotionFlow(2), checkpointing=True)
    with pytest.raises(ModelError, match="num_blocks_per_group=1"):
        guidance.check(model, model.schedule(4))
