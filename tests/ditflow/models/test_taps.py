"""The taps against the stock model: nothing changes until something is replaced, and nothing is
left behind.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ditflow.core.tokens import Recording
from ditflow.models.cogvideox import CogVideoX
from ditflow.models.taps import StopForward, taps
from tests.registry import BACKBONES, SIZE, grid_of, tiny_backbone, tiny_pipeline

BLOCK = 2


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> CogVideoX:
    return tiny_backbone(request.param)


def latents_of(backbone: CogVideoX, batch: int = 2) -> Tensor:
    return torch.randn(
        batch,
        *backbone.spec.compression.latent_shape(SIZE),
        generator=torch.Generator().manual_seed(3),
    )


def text_of(backbone: CogVideoX, batch: int = 2) -> Tensor:
    return torch.randn(
        batch, backbone.spec.text_tokens, 32, generator=torch.Generator().manual_seed(4)
    )


def predicted(backbone: CogVideoX, **arguments: Any) -> Tensor:
    with torch.no_grad():
        output = backbone.predict(latents_of(backbone), 500, text_of(backbone), **arguments)
    assert output is not None
    return output


def stock(backbone: CogVideoX) -> Tensor:
    """The transformer called as the stock pipeline calls it, clip by clip."""
    rotary = (
        tuple(backbone.stock_position(grid_of(backbone))[0, 0])
        if backbone.spec.position == "rotary"
        else None
    )
    latents, text = latents_of(backbone).to(backbone.dtype), text_of(backbone).to(backbone.dtype)
    with torch.no_grad():
        outputs = [
            backbone.transformer(
                hidden_states=clip[None],
                encoder_hidden_states=prompt[None],
                timestep=torch.tensor([500]),
                image_rotary_emb=rotary,
            ).sample
            for clip, prompt in zip(latents, text, strict=True)
        ]
    return torch.cat(outputs).float()


def state_of(transformer: nn.Module) -> list[Any]:
    """All that hooks could leave behind."""
    modules = list(transformer.modules())
    return [
        (sorted(module.__dict__), len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in modules
    ]


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


def test_nothing_is_left_behind(backbone: CogVideoX) -> None:
    before = state_of(backbone.transformer)
    with backbone.tapped(capture=[1], features=[2, 3]):
        predicted(backbone, position=backbone.stock_position(grid_of(backbone)))
        assert state_of(backbone.transformer) != before
    assert state_of(backbone.transformer) == before


@pytest.mark.parametrize(
    "where",
    ["patch_embed", "transformer_blocks.1.attn1.norm_k", "transformer_blocks.2.ff", "proj_out"],
)
def test_nothing_is_left_behind_by_an_exception(backbone: CogVideoX, where: str) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no memory")

    before, expected = state_of(backbone.transformer), stock(backbone)
    handle = backbone.transformer.get_submodule(where).register_forward_pre_hook(fail)
    with pytest.raises(MemoryError), backbone.tapped(capture=[1], checkpointing=True):
        predicted(backbone, position=backbone.stock_position(grid_of(backbone)))
    handle.remove()
    assert state_of(backbone.transformer) == before
    assert not backbone.transformer.gradient_checkpointing
    torch.testing.assert_close(stock(backbone), expected, rtol=0, atol=0)
    with backbone.tapped():  # and it can be used again
        torch.testing.assert_close(predicted(backbone), expected, rtol=0, atol=0)


def model_offload(transformer: nn.Module) -> None:
    accelerate.cpu_offload_with_hook(transformer, torch.device("cpu"))


def sequential_offload(transformer: nn.Module) -> None:
    accelerate.cpu_offload(transformer, torch.device("cpu"))


@pytest.mark.parametrize("offload", [model_offload, sequential_offload])
def test_bit_identity_under_offload(
    backbone: CogVideoX, offload: Callable[[nn.Module], None]
) -> None:
    expected = stock(backbone)
    offload(backbone.transformer)
    before = state_of(backbone.transformer)
    for _ in range(2):
        with backbone.tapped(capture=[BLOCK]) as recording:
            torch.testing.assert_close(
                predicted(backbone, position=backbone.stock_position(grid_of(backbone))),
                expected,
                rtol=0,
                atol=0,
            )
            assert BLOCK in recording.query
        with backbone.tapped(capture=[BLOCK], stop_early=True):
            assert backbone.predict(latents_of(backbone), 500, text_of(backbone)) is None
        assert state_of(backbone.transformer) == before
    torch.testing.assert_close(stock(backbone), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal"])
def test_the_stock_pipeline_runs_in_the_taps(kind: str) -> None:
    def generate() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipeline(
            "a cat",
            num_inference_steps=2,
            height=32,
            width=48,
            num_frames=9,
            max_sequence_length=16,
            generator=generator,
            output_type="latent",
        ).frames

    pipeline = tiny_pipeline(kind)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.enable_model_cpu_offload(device="cpu")
    expected = generate()
    with taps(pipeline.transformer, CogVideoX.layout, capture=[BLOCK]) as recording:
        torch.testing.assert_close(generate(), expected, rtol=0, atol=0)
    assert len(recording.query[BLOCK]) == 2  # unconditional and conditional
    torch.testing.assert_close(generate(), expected, rtol=0, atol=0)


class Attention(TorchFunctionMode):
    """Records what the attention itself is given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention:
            self.calls.append(args[:3])
        return function(*args, **(kwargs or {}))


def test_a_recording_is_freed_as_soon_as_it_is_dropped(backbone: CogVideoX) -> None:
    """Not by the garbage collector, which may come when the device's memory is long full."""
    gc.collect()
    gc.disable()
    try:
        with backbone.tapped([BLOCK]) as recording:
            predicted(backbone)
        query = weakref.ref(recording.query[BLOCK])
        del recording
        assert query() is None
    finally:
        gc.enable()


def test_recordings_are_what_the_attention_sees(backbone: CogVideoX) -> None:
    with Attention() as attention:
        stock(backbone)
    with backbone.tapped(capture=range(4)) as recording:
        predicted(backbone)
    for index, call in enumerate(attention.calls):
        clip, block = divmod(index, 4)
        for ours, theirs in zip(
            (recording.query, recording.key, recording.value), call, strict=True
        ):
            torch.testing.assert_close(
                ours[block][clip : clip + 1],
                theirs.transpose(1, 2)[:, backbone.spec.text_tokens :],
                rtol=0,
                atol=0,
            )


def test_features_are_the_blocks_outputs(backbone: CogVideoX) -> None:
    outputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, output: outputs.append(output[0]))
        for block in backbone.transformer.transformer_blocks
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
            ("transformer_blocks.1", "transformer_blocks.2.attn1.to_v"),
            ("transformer_blocks.2.attn1.to_out.0", "transformer_blocks.2.ff"),
        ),
        (
            (0,),
            (),
            ("transformer_blocks.0.norm1",),
            (
                "transformer_blocks.0.attn1.to_out.0",
                "transformer_blocks.0.ff",
                "transformer_blocks.1.norm1",
            ),
        ),
        ((), (1,), ("transformer_blocks.1",), ("transformer_blocks.2.norm1", "proj_out")),
        ((), (3,), ("transformer_blocks.3",), ("norm_out", "proj_out")),
        ((1,), (2,), ("transformer_blocks.2",), ("transformer_blocks.3.norm1",)),
        ((2,), (2,), ("transformer_blocks.2",), ("transformer_blocks.3.norm1",)),
    ],
)
def test_early_exit_records_the_same_and_runs_no_further(
    backbone: CogVideoX,
    capture: tuple[int, ...],
    features: tuple[int, ...],
    runs: tuple[str, ...],
    does_not: tuple[str, ...],
) -> None:
    with backbone.tapped(capture, features) as full:
        predicted(backbone)
    with torch.no_grad(), backbone.tapped(capture, features, stop_early=True) as early:
        names = [*runs, *does_not]
        assert ran(
            backbone.transformer,
            names,
            lambda: backbone.predict(latents_of(backbone), 500, text_of(backbone)),
        ) == list(runs)
    for kind in ("query", "key", "value", "features"):
        assert getattr(full, kind).keys() == getattr(early, kind).keys()
        for block, tensor in getattr(full, kind).items():
            torch.testing.assert_close(getattr(early, kind)[block], tensor, rtol=0, atol=0)


def test_injected_keys_and_values_replace_those_of_the_video_tokens_only(
    backbone: CogVideoX,
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
    text = backbone.spec.text_tokens
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


def test_each_clip_has_its_own_position(backbone: CogVideoX) -> None:
    moved = backbone.stock_position(grid_of(backbone)).repeat(
        2, *[1] * (backbone.stock_position(grid_of(backbone)).ndim - 1)
    )
    moved[1] += 0.1 * torch.randn(moved[1].shape, generator=torch.Generator().manual_seed(0))
    with backbone.tapped():
        together, plain = predicted(backbone, position=moved), predicted(backbone)
        alone = backbone.predict(latents_of(backbone)[1:], 500, text_of(backbone)[1:], moved[1:])
    torch.testing.assert_close(together[:1], plain[:1], rtol=0, atol=0)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=0)
    assert not torch.equal(together[1:], plain[1:])


def test_query_and_key_have_tables_of_their_own() -> None:
    backbone = tiny_backbone("rotary")
    position = backbone.stock_position(grid_of(backbone)).clone()
    position[:, 1] += 0.1
    with torch.no_grad(), backbone.tapped(capture=[0]) as recording:
        predicted(backbone)
        query, key = recording.query[0], recording.key[0]
        predicted(backbone, position=position)
    torch.testing.assert_close(recording.query[0], query, rtol=0, atol=0)
    assert not torch.equal(recording.key[0], key)


def attended(recording: Recording) -> Tensor:
    return (recording.query[BLOCK] * recording.key[BLOCK].flip(1)).sin().sum()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stop_early", [False, True])
def test_gradients_do_not_depend_on_early_exit_or_checkpointing(
    backbone: CogVideoX, checkpointing: bool, stop_early: bool
) -> None:
    def gradients(checkpointing: bool, stop_early: bool) -> tuple[Tensor, ...]:
        latents, position = (
            latents_of(backbone).requires_grad_(),
            backbone.stock_position(grid_of(backbone)).clone().requires_grad_(),
        )
        with backbone.tapped(
            capture=[BLOCK], stop_early=stop_early, checkpointing=checkpointing
        ) as recording:
            backbone.predict(latents, 500, text_of(backbone), position)
            recorded = recording.query[BLOCK]
            result = torch.autograd.grad(attended(recording), [latents, position])
            assert recording.query[BLOCK] is recorded  # recomputation in backward records nothing
        return result

    for ours, plain in zip(
        gradients(checkpointing, stop_early), gradients(False, False), strict=True
    ):
        assert plain.abs().max() > 0
        torch.testing.assert_close(ours, plain, rtol=0, atol=0)


@pytest.mark.parametrize("early_stop", [False, True])
def test_checkpointing_survives_an_early_exit_when_everything_is_recomputed(
    backbone: CogVideoX, early_stop: bool
) -> None:
    latents = latents_of(backbone).requires_grad_()
    with (
        torch.utils.checkpoint.set_checkpoint_early_stop(early_stop),
        backbone.tapped(capture=[BLOCK], stop_early=True, checkpointing=True) as recording,
    ):
        backbone.predict(latents, 500, text_of(backbone))
        (gradient,) = torch.autograd.grad(attended(recording), latents)
    with backbone.tapped(capture=[BLOCK]) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        torch.testing.assert_close(
            gradient, torch.autograd.grad(attended(recording), latents)[0], rtol=0, atol=0
        )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_taps_survive_sequential_offload_while_optimising(
    backbone: CogVideoX, checkpointing: bool
) -> None:
    latents = latents_of(backbone).requires_grad_()
    with backbone.tapped(capture=[BLOCK]) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        (expected,) = torch.autograd.grad(attended(recording), latents)
    sequential_offload(backbone.transformer)
    with backbone.tapped(
        capture=[BLOCK], stop_early=True, checkpointing=checkpointing
    ) as recording:
        backbone.predict(latents, 500, text_of(backbone))
        torch.testing.assert_close(
            torch.autograd.grad(attended(recording), latents)[0], expected, rtol=0, atol=0
        )


def test_the_last_forward_pass_is_what_is_recorded(backbone: CogVideoX) -> None:
    with backbone.tapped(capture=[1]) as recording:
        predicted(backbone)
        first = recording.query[1]
        with torch.no_grad():
            backbone.predict(latents_of(backbone) + 1, 500, text_of(backbone))
    assert recording.query[1] is not first and not torch.equal(recording.query[1], first)


def test_stop_forward_is_raised_to_who_uses_taps_alone() -> None:
    backbone = tiny_backbone("rotary")
    with (
        pytest.raises(StopForward),
        taps(backbone.transformer, CogVideoX.layout, capture=[0], stop_early=True),
    ):
        stock(backbone)


def test_keys_of_text_tokens_are_recorded_after_their_norm(backbone: CogVideoX) -> None:
    """Video and text keys together are what the stock key norm gives, rotation aside: text is not
    rotated.
    """
    seen: list[Tensor] = []
    handle = backbone.transformer.transformer_blocks[BLOCK].attn1.norm_k.register_forward_hook(
        lambda *arguments: seen.append(arguments[2])
    )
    with backbone.tapped(capture=[BLOCK]) as recording:
        predicted(backbone)
    handle.remove()
    text = recording.text_key[BLOCK]
    assert text.shape == (2, backbone.spec.text_tokens, backbone.spec.heads, backbone.spec.head_dim)
    torch.testing.assert_close(
        text, seen[0].transpose(1, 2)[:, : backbone.spec.text_tokens], rtol=0, atol=0
    )
