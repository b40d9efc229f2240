"""The camera and the rest: together the field, and each what it was made of."""

import torch

from ditflow.fields.operations import added, split
from tests.ditflow.fields.analytic import CELLS, field, moving


def test_both_together_are_the_field() -> None:
    moved = field(torch.randn(3, 2, *CELLS))
    camera, rest = split(moved)
    # one rounding each of a difference and a sum
    torch.testing.assert_close(
        added(camera, rest).displacement, moved.displacement, rtol=0, atol=1e-6
    )
    assert torch.equal(added(camera, rest).confidence, moved.confidence)


def test_each_is_what_it_was_made_of() -> None:
    camera = moving((0.1, 0.05), 1.3, 20)
    thing = torch.zeros_like(camera.displacement)
    thing[:, :, 4:12, 4:12] = 0.3
    found, rest = split(field(camera.displacement + thing))
    # half of the tolerance of the fit
    torch.testing.assert_close(found.displacement, camera.displacement, rtol=0, atol=0.004)
    torch.testing.assert_close(rest.displacement, thing, rtol=0, atol=0.004)


def test_a_camera_alone_leaves_no_rest() -> None:
    _, rest = split(moving((0.1, 0.05), 1.3, 20))
    assert rest.displacement.abs().max() < 1e-4  # the ridge of the fit
