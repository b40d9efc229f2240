"""Convolutions of small videos take no large temporaries and give the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d
from torch.profiler import ProfilerActivity, profile

from ditflow.models import load_backbone
from ditflow.models.convolution import DirectConvolution

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
LARGE = 2**25  # bytes; the C library returns larger blocks to the system at each free


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def largest_block(function, *arguments) -> int:
    """Bytes of the largest block that PyTorch allocates during a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function(*arguments)
    events = profiled.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny-rope", device="cpu")


@needs_onednn
def test_the_embedded_vae_takes_no_large_blocks(backbone):
    frames = torch.zeros(1, 25, 3, 64, 64, dtype=torch.uint8)
    latents = backbone.encode(frames)
    assert largest_block(backbone.encode, frames) < LARGE
    assert largest_block(backbone.decode, latents) < LARGE
    with torch.backends.mkldnn.flags(enabled=False):
        assert largest_block(backbone.decode, latents) > LARGE  # so that the bound can be missed


@needs_onednn
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_numbers_are_those_of_float64(stride, bias):
    tensors = (normal(1, 16, 10, 24, 40), normal(24, 16, 3, 3, 3), normal(24) if bias else None)
    rest = ((stride, 1, 1), (0, 1, 1), (1, 1, 1), 1)
    exact = conv3d(*(None if x is None else x.double() for x in tensors), *rest)
    own = conv3d(*tensors, *rest)
    with DirectConvolution():
        direct = conv3d(*tensors, *rest)
    # sums of 432 products, up to 100 on their way: each addition rounds by 100 x 2^-24 at most
    torch.testing.assert_close(direct.double(), exact, rtol=0, atol=432 * 100 * 2**-24)
    assert (direct - exact).square().mean() < 16 * (own - exact).square().mean()


@needs_onednn
def test_gradients_go_through():
    weight = normal(4, 8, 3, 3, 3)
    gradients = []
    for context in (DirectConvolution(), torch.enable_grad()):
        inputs = normal(1, 8, 5, 8, 8).requires_grad_()
        with context:
            output = conv3d(inputs, weight, None, (1, 1, 1), (0, 1, 1), (1, 1, 1), 1)
        output.square().sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-2)  # of gradients up to 1,500


@pytest.mark.parametrize(
    ("inputs", "weight", "padding"),
    [
        (normal(1, 8, 4, 8, 8), normal(4, 8, 1, 1, 1), (0, 0, 0)),
        (normal(1, 8, 4, 8, 8).double(), normal(4, 8, 3, 3, 3).double(), (1, 1, 1)),
        (normal(1, 8, 4, 8, 8), normal(4, 8, 3, 3, 3), "same"),
        (normal(8, 4, 8, 8), normal(4, 8, 3, 3, 3), (1, 1, 1)),
    ],
    ids=["pointwise", "float64", "padding by name", "no batch"],
)
def test_all_else_runs_as_it_is(inputs, weight, padding):
    arguments = (inputs, weight, None, (1, 1, 1), padding, (1, 1, 1), 1)
    with DirectConvolution():
        there = conv3d(*arguments)
    assert torch.equal(there, conv3d(*arguments))
