from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.schedule import GuidanceWindow
from ditflow.models import Model
from ditflow.sampling.control import GuidedSteps, Inputs, Prompt
from ditflow.sampling.key_value import ReferenceKeyValue, reference_key_value
from ditflow.sampling.state import State
from tests.families import family_of
from tests.registry import SOME, tiny_backbone
from tests.tapped import latents_of

TEXT, OTHER = torch.randn(2, 2, 16, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def drawn(backbone: Model) -> tuple[Tensor, Tensor]:
    """Latents of two clips, and noise."""
    latents = latents_of(backbone, 4)
    return latents[:2], latents[2:]


def test_keys_and_values_are_those_of_the_full_forward_pass(backbone: Model) -> None:
    step, (latents, noise) = backbone.schedule(10)[3], drawn(backbone)
    injected = reference_key_value(backbone, latents, noise, step, TEXT, (0, 2))
    with torch.no_grad(), backbone.tapped(capture=(0, 2)) as recording:
        backbone.predict(step.level.mix(latents, noise), step.timestep, TEXT)
    assert injected.keys() == {0, 2}
    for block, (key, value) in injected.items():
        torch.testing.assert_close(key, recording.key[block], rtol=0, atol=0)
        torch.testing.assert_close(value, recording.value[block], rtol=0, atol=0)


def test_for_block_0_no_attention_is_computed(backbone: Model) -> None:
    ran: list[str] = []
    blocks = family_of(backbone).blocks
    names = [
        name
        for name, module in backbone.transformer.named_modules()
        if name.startswith(blocks) and not list(module.children())
    ]
    handles = [
        backbone.transformer.get_submodule(name).register_forward_hook(
            lambda *_, name=name: ran.append(name)
        )
        for name in names
    ]
    reference_key_value(backbone, *drawn(backbone), backbone.schedule(10)[3], TEXT, (0,))
    for handle in handles:
        handle.remove()
    parts = {
        name.removeprefix(f"{blocks}.0.").split(".")[0]
        for name in ran
        if name.startswith(f"{blocks}.0.")
    }
    assert parts == {"norm1", "attn1"} and all(name.startswith(f"{blocks}.0.") for name in ran)
    assert {name.split(".")[3] for name in ran if ".attn1." in name} == {
        "to_q",
        "to_k",
        "to_v",
        "norm_q",
    }


def test_in_block_0_nothing_depends_on_the_prompt(backbone: Model) -> None:
    step = backbone.schedule(10)[3]
    ours, others = (
        reference_key_value(backbone, *drawn(backbone), step, text, (0,))[0]
        for text in (TEXT, OTHER)
    )
    torch.testing.assert_close(ours, others, rtol=0, atol=0)


def test_at_the_first_step_nothing_comes_from_the_reference(backbone: Model) -> None:
    first, (latents, noise) = backbone.schedule(10)[0], drawn(backbone)
    ours, others = (
        reference_key_value(backbone, clip, noise, first, TEXT, (0,))[0]
        for clip in (latents, latents + 1)
    )
    # of UniPC's first level the signal is 1e-6 instead of 0, and keys are a few times as large
    torch.testing.assert_close(ours, others, rtol=0, atol=10 * first.level.signal)


def test_no_blocks_no_forward_pass(backbone: Model) -> None:
    backbone.transformer.register_forward_pre_hook(lambda *_: pytest.fail("the transformer ran"))
    latents, noise = drawn(backbone)
    schedule, state = backbone.schedule(10), State.begin(noise, [torch.Generator()] * 2)
    guided = GuidedSteps(schedule, GuidanceWindow(0, 10))
    control, inputs = ReferenceKeyValue(latents, (), guided), Inputs(noise)
    given = backbone, schedule[3], Prompt(TEXT, TEXT), state, inputs
    assert control.before(*given) == (state, inputs)
