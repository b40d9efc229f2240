"""Tensors that two processors agree on, although Adam makes single elements differ.

Where the tolerances come from. u is the rounding of float32, 6e-8; the measured numbers compare the
runs of tests/data/parity in float32 with the same runs in float64.

- A forward pass adds some hundred products in an order that depends on the processor's vector
  width and on the number of threads: it is off by some ten u. Classifier-free guidance of 7 and ten
  steps bring latents to 1.2e-6 of their norm, measured; losses, which are means, to 2e-7.
- A gradient is off by r = 5e-7 to 3e-6 of its root mean square, and r = 1e-5 in SMM. Adam divides
  each element by its own size, so one of size x (in root mean squares) steps a share r / x of the
  rate too far or too short. That is nothing for most, and all of the step for one of size r.
- Elements smaller than x are a share of 0.8 x. Leave the worst 1 % out, which are those under
  x = 0.0125: the others have a mean square step error of (rate r)^2 times the integral of 0.8 /
  x^2, so an error of 9 rate r. With rate 0.02 and r = 1e-6 that is 2e-7 an update, and 2e-6 where r
  = 1e-5, of elements of size 1: 1e-5 has room for the nine updates of a run.
- Of 1,440 elements and nine updates the smallest is near x = 1e-4: it is off by r / x of a rate,
  2e-4 to 2e-3. The bound of the worst 1 % is one whole update. The element could be off by two.

An error in the method is not a rounding: a learning rate off by 1 % moves all elements, by 6e-4 of
the norm, and a guidance scale off by 0.1 % moves latents by 3e-4 (tests/ditflow/test_parity.py).
"""

from __future__ import annotations

from torch import Tensor

RELATIVE, SHARE = 1e-5, 0.01


def assert_close_in_norm(
    actual: Tensor, expected: Tensor, *, largest: float, relative: float = RELATIVE
) -> None:
    """Raises AssertionError unless the tensors agree but for rounding that Adam has enlarged.

    All but 1 % of the elements differ by `relative` of the norm of `expected` at most, together;
    of that 1 %, which may be no element at all, each differs by `largest` at most.
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
