"""Compare tensors of two processors, which agree although Adam makes single elements differ.

The tolerances follow from the rounding of float32, u = 6e-8. The measured numbers compare the runs
of tests/data/parity in float32 with the same runs in float64.

- A forward pass adds some hundred products, in an order that depends on the processor's vector
  width and on the number of threads. It is off by some ten u. After ten steps with a guidance scale
  of 7, latents are off by 1.2e-6 of their norm (measured), and losses, which are means, by 2e-7.
- A gradient is off by r = 5e-7 to 3e-6 of its root mean square; in SMM by r = 1e-5. Adam divides
  each element by its own size. So an element of size x (in root mean squares) takes a step that is
  wrong by r / x of the learning rate: nothing for most, the whole step for an element of size r.
- A share of 0.8 x of the elements is smaller than x. Without the worst 1 %, those below x = 0.0125,
  the mean square error of a step is (rate r)^2 times the integral of 0.8 / x^2, so the error is
  9 rate r. With a rate of 0.02 and r = 1e-6 that is 2e-7 an update, for elements of size 1; with
  r = 1e-5 it is 2e-6. A tolerance of 1e-5 leaves room for the nine updates of a run.
- Among 1,440 elements and nine updates the smallest has x near 1e-4. It is off by r / x of a rate,
  2e-4 to 2e-3. The worst 1 % may be off by one whole update, although two are possible.

An error in the method is larger than rounding. A learning rate off by 1 % moves all elements, by
6e-4 of the norm. A guidance scale off by 0.1 % moves latents by 3e-4
(tests/ditflow/test_parity.py).
"""

from __future__ import annotations

from torch import Tensor

RELATIVE, SHARE = 1e-5, 0.01


def assert_close_in_norm(
    actual: Tensor, expected: Tensor, *, largest: float, relative: float = RELATIVE
) -> None:
    """Raise AssertionError unless the tensors agree but for rounding that Adam enlarges.

    The worst 1 % of the elements, which may be none, may each differ by at most `largest`. The
    norm of all other differences may be at most `relative` times the norm of `expected`.
    """
    assert actual.shape == expected.shape, f"{tuple(actual.shape)}, not {tuple(expected.shape)}"
    wanted = expected.double()
    off = (actual.double() - wanted).abs().flatten()
    assert off.isfinite().all(), f"{int((~off.isfinite()).sum())} elements are not finite"
    worst = off.argsort(descending=True)[: int(SHARE * off.numel())]
    rest = off.index_fill(0, worst, 0)
    found = float(rest.norm() / wanted.norm())
    assert found <= relative, f"off by {found:.1e} of the norm, not {relative:.1e}"
    assert off.max() <= largest, f"one element is off by {off.max():.1e}, not {largest:.1e}"
