"""Which differences a comparison by norm accepts, and which it refuses."""

from __future__ import annotations

import pytest
import torch

from tests.closeness import assert_close_in_norm

WANTED = torch.randn(1, 6, 4, 6, 10, generator=torch.Generator().manual_seed(0))
ROUNDING = torch.randn(WANTED.shape, generator=torch.Generator().manual_seed(1)) * 2e-6


def with_some_off(count: int, by: float) -> torch.Tensor:
    changed = WANTED.clone()
    changed.view(-1)[:count] += by
    return changed


@pytest.mark.parametrize("actual", [WANTED, WANTED + ROUNDING, with_some_off(14, 0.019)])
def test_rounding_passes_and_so_do_a_few_steps_of_adam(actual: torch.Tensor) -> None:
    assert_close_in_norm(actual, WANTED, largest=0.02)


@pytest.mark.parametrize(
    ("actual", "sentence"),
    [
        (WANTED + 20 * ROUNDING, "of the norm"),
        (WANTED * 1.0001, "of the norm"),
        (with_some_off(15, 0.019), "of the norm"),
        (with_some_off(1, 0.021), "one element is off by 2.1e-02"),
        (with_some_off(1, float("nan")), "1 elements are not finite"),
        (WANTED[0], "not \\(1, 6, 4, 6, 10\\)"),
    ],
)
def test_all_else_fails(actual: torch.Tensor, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        assert_close_in_norm(actual, WANTED, largest=0.02)
