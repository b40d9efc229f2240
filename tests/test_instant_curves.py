"""The ruler of `tests.benchmarks.instant_curves` measures known motions, and asks for them."""

from __future__ import annotations

import pytest
import torch

from datamodules.synthetic import World
from ditflow.fields.field import cell_places, looked_up
from tests.benchmarks.instant_curves import Asked, found, measured, table


def shown(asked: Asked) -> torch.Tensor:
    """A picture that moves as asked, uint8 (25, C, 64, 64)."""
    at = torch.cat([cell_places(64, 64) - 0.5, torch.ones(1, 64, 64)])
    maps = torch.stack([asked.back(frame / 24) for frame in range(25)])
    moved = torch.einsum("fij,jyx->fiyx", maps, at)[:, :2] - at[:2]
    picture = World().clip(3).frames[:1].float().expand(25, -1, -1, -1)
    return looked_up(picture, moved).round().to(torch.uint8)


# optical flow reads a zoom and a turn a few hundredths too small
@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Asked("pan", 0.25), 0.01),
        (Asked("zoom", 0.8), 0.05),
        (Asked("zoom", 1.5), 0.1),
        (Asked("rotation", 30.0), 3.0),
    ],
)
def test_what_is_shown_is_measured_and_nothing_else(asked: Asked, error: float) -> None:
    numbers = measured(shown(asked))
    still = {"pan": (0.0, 0.01), "zoom": (1.0, 0.02), "rotation": (0.0, 1.0)}
    for motion, number in numbers.items():
        wanted, within = still[motion]
        if motion == asked.motion:
            wanted, within = asked.amount, error
        assert abs(number - wanted) < within, motion


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (Asked("pan", 0.5), (-0.5, 0.0)),
        (Asked("zoom", 2.0), (-0.25, -0.25)),
        (Asked("rotation", 90.0), (0.0, -1.0)),
    ],
)
def test_a_field_is_the_closed_form(asked: Asked, wanted: tuple[float, float]) -> None:
    """At the last time, in the lower right corner, half a cell beyond the last cell's centre."""
    field = asked.field
    corner, inner = field.displacement[-1, :, -1, -1], field.displacement[-1, :, -2, -2]
    torch.testing.assert_close(corner + (corner - inner) / 2, torch.tensor(wanted))
    assert not field.displacement[0].any()


def test_a_table_tells_mean_and_ends() -> None:
    asked = Asked("pan", 0.5)
    results = [vars(asked) | {"measured": {"pan": value}} for value in (0.4, 0.5)]
    assert found(results, asked) == [0.4, 0.5]
    assert "| pan, frames | 0.5 | 0.45 | 0.4 to 0.5 |" in table(results, [asked])
