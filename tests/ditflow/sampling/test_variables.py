"""Each variable: it starts at the model's own, and its gradient is the finite difference's, with
and without gradient checkpointing.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, ModelError
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.variables import VARIABLES, Variable
from tests.registry import PAIRS, SOME, SOME_PAIRS, grid_of, size_of, tiny_backbone

BLOCK = 2


def small(backbone: Model) -> VideoSize:
    """2 x 2 x 4 tokens, or 2 x 1 x 2; or those of the only size that the model has."""
    compression = backbone.spec.compression
    return compression.only or VideoSize(5 if compression.patch_time == 1 else 16, 16, 32)


def noise_of(backbone: Model, size: VideoSize | None = None, batch: int = 2) -> Tensor:
    return torch.randn(
        batch,
        *backbone.spec.compression.latent_shape(size or size_of(backbone)),
        generator=torch.Generator().manual_seed(5),
    )


def text_of(backbone: Model) -> Tensor:
    return torch.randn(1, backbone.spec.text_tokens, 32, generator=torch.Generator().manual_seed(6))


def motion_loss(
    backbone: Model, variable: Variable, latents: Tensor, reference: Tensor, checkpointing: bool
) -> tuple[Tensor, Tensor]:
    """The summed loss and its gradient."""
    signal, parameter = AttentionMotionFlow(BLOCK), variable.parameter.clone().requires_grad_()
    current = variable.replaced(parameter)
    with backbone.tapped(signal.capture, stop_early=True, checkpointing=checkpointing) as recording:
        backbone.predict(current.latents(latents), 900, text_of(backbone), current.position)
        loss = signal.loss(recording, backbone.spec.compression.grid_of(latents), reference).sum()
        return loss.detach(), torch.autograd.grad(loss, parameter)[0]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_it_starts_at_the_models_own(kind: str, name: str) -> None:
    backbone = tiny_backbone(kind)
    latents = noise_of(backbone)
    variable = VARIABLES[name].start(backbone, latents)
    assert (
        variable.kind == name
        and variable.parameter.dtype == torch.float32
        and len(variable.parameter) == 2
    )
    torch.testing.assert_close(variable.latents(latents), latents, rtol=0, atol=0)
    if variable.position is not None:
        stock = backbone.stock_position(grid_of(backbone))
        torch.testing.assert_close(
            variable.position, stock.expand(2, *stock.shape[1:]), rtol=0, atol=0
        )


@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_it_is_what_it_was_stored_as(kind: str, name: str) -> None:
    backbone = tiny_backbone(kind)
    variable = VARIABLES[name].start(backbone, noise_of(backbone))
    moved = variable.parameter + 1
    again = VARIABLES[name].at(backbone, moved)
    assert type(again) is type(variable)
    torch.testing.assert_close(again.position, variable.replaced(moved).position, rtol=0, atol=0)
    torch.testing.assert_close(variable.parameter, moved - 1)  # a variable is a value


def test_only_latents_follow_the_sampler() -> None:
    for kind, name in PAIRS:
        backbone = tiny_backbone(kind)
        variable = VARIABLES[name].start(backbone, noise_of(backbone))
        later = noise_of(backbone) * 2
        torch.testing.assert_close(
            variable.carried(later).parameter,
            later if name == "latents" else variable.parameter,
            rtol=0,
            atol=0,
        )
        torch.testing.assert_close(
            variable.latents(later),
            variable.parameter if name == "latents" else later,
            rtol=0,
            atol=0,
        )


def test_shapes_are_those_of_a_bank_entry() -> None:
    rotary, sinusoidal = tiny_backbone("rotary"), tiny_backbone("sinusoidal")
    n, d, e = (
        grid_of(rotary).tokens,
        rotary.spec.head_dim,
        sinusoidal.spec.hidden,
    )
    shapes = {
        "latents": (3, 4, 8, 12),
        "rotary_tables": (2, 2, n, d),
        "rotary_positions": (2, n, 3),
        "sinusoidal": (n, e),
    }
    for name, shape in shapes.items():
        backbone = sinusoidal if name == "sinusoidal" else rotary
        assert VARIABLES[name].start(backbone, noise_of(backbone)).parameter.shape == (
            2,
            *shape,
        )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("rotary", "sinusoidal"),
        ("wan", "sinusoidal"),
        ("sinusoidal", "rotary_tables"),
        ("sinusoidal", "rotary_positions"),
    ],
)
def test_positions_that_a_model_does_not_have_are_refused(kind: str, name: str) -> None:
    backbone = tiny_backbone(kind)
    has = backbone.spec.position
    with pytest.raises(
        ModelError, match=f"needs .* positions; those of .* are {has}. Use latents or"
    ):
        VARIABLES[name].start(backbone, noise_of(backbone))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in PAIRS if pair[0] in SOME])
def test_the_gradient_is_the_finite_difference(
    kind: str, name: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float64, along random directions: central differences of step 1e-6 agree to about 1e-8 of the
    derivative. Some stock blocks round to float32 before their norms, which no such difference
    survives; here they stay in float64.
    """
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    backbone = tiny_backbone(kind, torch.float64)
    latents = noise_of(backbone, small(backbone)).double()
    variable = VARIABLES[name].start(backbone, latents)
    generator = torch.Generator().manual_seed(7)
    variable = variable.replaced(
        variable.parameter.double()
        + 0.1 * torch.randn(variable.parameter.shape, generator=generator).double()
    )
    grid = backbone.spec.compression.grid_of(latents)
    reference = torch.randint(
        -1, 2, (2, grid.frames, grid.frames, grid.tokens_per_frame, 2), generator=generator
    ).double()
    _, gradient = motion_loss(backbone, variable, latents, reference, checkpointing)
    assert gradient.abs().max() > 0
    for _ in range(3):
        direction, epsilon = torch.randn(gradient.shape, generator=generator).double(), 1e-6
        ahead, behind = (
            motion_loss(
                backbone,
                variable.replaced(variable.parameter + sign * epsilon * direction),
                latents,
                reference,
                checkpointing,
            )[0]
            for sign in (1, -1)
        )
        torch.testing.assert_close(
            (gradient * direction).sum(), (ahead - behind) / (2 * epsilon), rtol=1e-5, atol=1e-9
        )


@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_every_part_of_a_variable_has_a_gradient(kind: str, name: str) -> None:
    """Of rotary positions and tables: query and key, cos and sin, and every token and axis. Of
    queries only those that move in the reference. Latents in whose place a picture stands have
    none.
    """
    backbone = tiny_backbone(kind)
    latents, grid = noise_of(backbone), grid_of(backbone)
    reference = torch.ones(2, grid.frames, grid.frames, grid.tokens_per_frame, 2)
    _, gradient = motion_loss(
        backbone, VARIABLES[name].start(backbone, latents), latents, reference, False
    )
    if (kind, name) == ("wan22-5b-i2v", "latents"):
        assert not gradient[:, 0].any()
        gradient = gradient[:, 1:]
    assert gradient.dtype == torch.float32 and gradient.ne(0).float().mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "name"), SOME_PAIRS)
def test_checkpointing_changes_nothing(kind: str, name: str, dtype: torch.dtype) -> None:
    backbone = tiny_backbone(kind, dtype)
    latents, grid = noise_of(backbone), grid_of(backbone)
    variable = VARIABLES[name].start(backbone, latents)
    reference = torch.ones(2, grid.frames, grid.frames, grid.tokens_per_frame, 2)
    torch.testing.assert_close(
        motion_loss(backbone, variable, latents, reference, True),
        motion_loss(backbone, variable, latents, reference, False),
        rtol=0,
        atol=0,
    )
