"""The taps against the stock model: what is recorded, replaced and left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ditflow.models import Model
from tests.families import assert_same_clip, family_of
from tests.registry import BACKBONES, SOME, grid_of, tiny_backbone
from tests.tapped import BLOCK, latents_of, predicted, stock, text_of


@pytest.fixture(params=SOME)
def backbone(request: pytest.FixtureRequest) -> Model:
    return tiny_backbone(request.param)


def text_first(backbone: Model) -> int:
    """How many text tokens self-attention has before those of the video."""
    return backbone.spec.text_tokens if backbone.layout.text_first else 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", BACKBONES)
def test_stock_position_gives_the_stock_output_bit_by_bit(kind: str, dtype: torch.dtype) -> None:
    backbone = tiny_backbone(kind, dtype)
    expected = stock(backbone)
    torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)
    with backbone.tapped(capture=[1], features=[2]):
        torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)
        torch.testing.assert_close(
            predicted(backbone, position=backbone.stock_position(grid_of(backbone))),
            expected,
            rtol=0,
            atol=0,
        )
    torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)


class Attention(TorchFunctionMode):
    """Records what self-attention itself is given; text has another number of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention:
            names = ("query", "key", "value")
            query, key, value = args[:3] or [kwargs[name] for name in names]
            if query.shape == key.shape:
                self.calls.append((query, key, value))
        return function(*args, **(kwargs or {}))


def test_recordings_are_what_the_attention_sees(backbone: Model) -> None:
    with Attention() as attention:
        stock(backbone)
    with backbone.tapped(capture=range(4)) as recording:
        predicted(backbone)
    assert len(attention.calls) == (8 if family_of(backbone).invariant else 4)  # clips by blocks
    for block in range(4):
        stock_calls = zip(*attention.calls[block::4], strict=True)
        recorded = recording.query, recording.key, recording.value
        for ours, theirs in zip(recorded, stock_calls, strict=True):
            seen = torch.cat(theirs).transpose(1, 2)[:, text_first(backbone) :]
            torch.testing.assert_close(ours[block], seen, rtol=0, atol=0)


def video_of(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The video tokens that a block gives; some give text tokens beside them."""
    return output if isinstance(output, Tensor) else output[0]


def test_features_are_the_blocks_outputs(backbone: Model) -> None:
    outputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, output: outputs.append(video_of(output)))
        for block in backbone.layout.all_blocks(backbone.transformer)
    ]
    with backbone.tapped(features=range(4)) as recording:
        predicted(backbone)
    for handle in handles:
        handle.remove()
    for block, output in enumerate(outputs):
        torch.testing.assert_close(recording.features[block], output, rtol=0, atol=0)


def ran(transformer: nn.Module, names: list[str], call: Callable[[], Any]) -> list[str]:
    """Which of the submodules run to their end in a call."""
    seen: list[str] = []
    handles = [
        transformer.get_submodule(name).register_forward_hook(
            lambda *_, name=name: seen.append(name)
        )
        for name in names
    ]
    call()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    ("capture", "features", "runs", "does_not"),
    [
        (
            (2,),
            (),
            ("{blocks}.1", "{blocks}.2.attn1.to_v"),
            ("{blocks}.2.attn1.to_out.0", "{blocks}.2.{feed_forward}"),
        ),
        (
            (0,),
            (),
            ("{blocks}.0.norm1",),
            (
                "{blocks}.0.attn1.to_out.0",
                "{blocks}.0.{feed_forward}",
                "{blocks}.1.norm1",
            ),
        ),
        ((), (1,), ("{blocks}.1",), ("{blocks}.2.norm1", "proj_out")),
        ((), (3,), ("{blocks}.3",), ("norm_out", "proj_out")),
        ((1,), (2,), ("{blocks}.2",), ("{blocks}.3.norm1",)),
        ((2,), (2,), ("{blocks}.2",), ("{blocks}.3.norm1",)),
    ],
)
def test_early_exit_records_the_same_and_runs_no_further(
    backbone: Model,
    capture: tuple[int, ...],
    features: tuple[int, ...],
    runs: tuple[str, ...],
    does_not: tuple[str, ...],
) -> None:
    with backbone.tapped(capture, features) as full:
        predicted(backbone)
    with torch.no_grad(), backbone.tapped(capture, features, stop_early=True) as early:
        names = [family_of(backbone).named(name) for name in (*runs, *does_not)]
        assert (
            ran(
                backbone.transformer,
                names,
                lambda: backbone.predict(latents_of(backbone), 500, text_of(backbone)),
            )
            == names[: len(runs)]
        )
    for kind in ("query", "key", "value", "features"):
        assert getattr(full, kind).keys() == getattr(early, kind).keys()
        for block, tensor in getattr(full, kind).items():
            torch.testing.assert_close(getattr(early, kind)[block], tensor, rtol=0, atol=0)


def test_injected_keys_and_values_replace_those_of_the_video_tokens_only(
    backbone: Model,
) -> None:
    with backbone.tapped(capture=[1]) as own:
        expected = predicted(backbone)
    key, value = own.key[1], own.value[1]
    with backbone.tapped(key_value={1: (key, value)}):  # its own again: nothing changes
        torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)
    with (
        Attention() as attention,
        backbone.tapped(capture=[1], key_value={1: (key[:1] + 1, value[:1] - 1)}) as recording,
    ):
        assert not torch.equal(predicted(backbone), expected)
    text = text_first(backbone)
    with Attention() as untouched, backbone.tapped():
        predicted(backbone)
    for side, (given, shift) in enumerate(((key, 1), (value, -1)), start=1):
        ours, theirs = (
            attention.calls[1][side].transpose(1, 2),
            untouched.calls[1][side].transpose(1, 2),
        )
        torch.testing.assert_close(
            ours[:, text:], (given[:1] + shift).expand(2, -1, -1, -1), rtol=0, atol=0
        )
        torch.testing.assert_close(ours[:, :text], theirs[:, :text], rtol=0, atol=0)
    torch.testing.assert_close(attention.calls[1][0], untouched.calls[1][0], rtol=0, atol=0)
    torch.testing.assert_close(
        recording.key[1], key, rtol=0, atol=0
    )  # a recording is the block's own


def test_each_clip_has_its_own_position(backbone: Model) -> None:
    moved = backbone.stock_position(grid_of(backbone)).repeat(
        2, *[1] * (backbone.stock_position(grid_of(backbone)).ndim - 1)
    )
    moved[1] += 0.1 * torch.randn(moved[1].shape, generator=torch.Generator().manual_seed(0))
    with backbone.tapped():
        together, plain = predicted(backbone, position=moved), predicted(backbone)
        alone = backbone.predict(latents_of(backbone)[1:], 500, text_of(backbone)[1:], moved[1:])
    torch.testing.assert_close(together[:1], plain[:1], rtol=0, atol=0)
    assert_same_clip(backbone, together[1:], alone)
    assert not torch.equal(together[1:], plain[1:])


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_query_and_key_have_tables_of_their_own(kind: str) -> None:
    backbone = tiny_backbone(kind)
    position = backbone.stock_position(grid_of(backbone)).clone()
    position[:, 1] += 0.1
    with torch.no_grad(), backbone.tapped(capture=[0]) as recording:
        predicted(backbone)
        query, key = recording.query[0], recording.key[0]
        predicted(backbone, position=position)
    torch.testing.assert_close(recording.query[0], query, rtol=0, atol=0)
    assert not torch.equal(recording.key[0], key)


def test_the_last_forward_pass_is_what_is_recorded(backbone: Model) -> None:
    with backbone.tapped(capture=[1]) as recording:
        predicted(backbone)
        first = recording.query[1]
        with torch.no_grad():
            backbone.predict(latents_of(backbone) + 1, 500, text_of(backbone))
    assert recording.query[1] is not first and not torch.equal(recording.query[1], first)


def test_keys_of_text_tokens_are_recorded_after_their_norm(backbone: Model) -> None:
    """Video and text keys together are what the stock key norm gives, rotation aside: text is not
    rotated.
    """
    seen: list[Tensor] = []
    spec, cross = backbone.spec, backbone.layout.cross
    block = backbone.layout.all_blocks(backbone.transformer)[BLOCK]
    norm = block.get_submodule(cross or backbone.layout.attention).norm_k
    handle = norm.register_forward_hook(lambda *arguments: seen.append(arguments[2]))
    with backbone.tapped(text=[BLOCK]) as recording:
        predicted(backbone)
    handle.remove()
    stock = seen[0].transpose(1, 2) if cross is None else seen[0].unflatten(-1, (spec.heads, -1))
    text = recording.text_key[BLOCK]
    assert text.shape == (2, spec.text_tokens, spec.heads, spec.head_dim)
    torch.testing.assert_close(text, stock[:, : spec.text_tokens], rtol=0, atol=0)
    assert bool(recording.query) == (cross is None)


def test_the_queries_of_text_are_what_its_attention_receives(backbone: Model) -> None:
    """Those of video tokens, in joint attention; in an attention of its own, other ones. A pass
    that stops there gives the same, and no later block runs.
    """
    ran: list[int] = []
    blocks = backbone.layout.all_blocks(backbone.transformer)
    with backbone.tapped(capture=[BLOCK], text=[BLOCK]) as full:
        predicted(backbone)
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(blocks)
    ]
    both = {"capture": [BLOCK], "text": [BLOCK]}
    with torch.no_grad(), backbone.tapped(**both, stop_early=True) as early:
        assert backbone.predict(latents_of(backbone), 500, text_of(backbone)) is None
    for handle in handles:
        handle.remove()
    assert ran == list(range(BLOCK))
    apart = backbone.layout.cross is not None
    assert torch.equal(full.text_query[BLOCK], full.query[BLOCK]) != apart
    for part in ("query", "key", "text_query", "text_key"):
        torch.testing.assert_close(
            getattr(early, part)[BLOCK], getattr(full, part)[BLOCK], rtol=0, atol=0
        )
