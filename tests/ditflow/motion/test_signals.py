"""What every signal promises, whatever it is: on every backbone and every variable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ditflow import motion
from ditflow.core.sizes import TokenGrid, VideoSize
from ditflow.core.tokens import Recording
from ditflow.models import Model
from ditflow.motion import MotionSignal, Words
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.reference import Reference, reference_motion, reference_prompt, words_of
from ditflow.sampling.state import State
from tests.families import family_of
from tests.guided import guided_step
from tests.registry import SIGNALS, SOME_PAIRS, signal_of, size_of, tiny_backbone

GRID, BLOCK = TokenGrid(3, 4, 6), 2
RATES = {"latents": 0.02, "rotary_tables": 0.02, "rotary_positions": 0.2, "sinusoidal": 0.02}
MATCHING = [
    name
    for name, (_, arguments) in SIGNALS.items()
    if arguments.get("reference_timestep") == "match"
]


@dataclass(frozen=True)
class Told:
    prompt: str = "a dog dance"
    caption: str = "the cat running monkey"
    subject: str = ""
    caption_subject: str = ""


def run(
    backbone: Model,
    guidance: MotionGuidance,
    names: list[str],
    size: VideoSize | None = None,
    steps: int = 1,
) -> State:
    """So many of four steps, from reference latents and prompts that depend on the clip's name
    alone.
    """
    draws = [torch.Generator().manual_seed(ord(name[0])) for name in names]
    size = size or size_of(backbone)
    shape = backbone.spec.compression.latent_shape(size)
    latents = torch.stack([torch.randn(shape, generator=draw) for draw in draws])
    tokens = backbone.spec.text_tokens
    text = torch.stack([torch.randn(tokens, 32, generator=draw) for draw in draws])
    told = [Told()] * len(names)
    state = guidance.start(backbone, size, names, [0] * len(names))
    seen_with = backbone.embed([reference_prompt(guidance.signal, clip) for clip in told])
    words = words_of(backbone, guidance.signal, told)
    reference = reference_motion(
        backbone, guidance.signal, latents, seen_with, names, noise=state.noise, words=words
    )
    for _ in range(steps):
        state = guided_step(
            backbone,
            guidance,
            backbone.schedule(4),
            state,
            reference=reference,
            text=text,
            negative=torch.ones(1, tokens, 32),
        )
    return state


def recording_of(
    seed: int,
    batch: int = 2,
    grid: TokenGrid = GRID,
    heads: int = 2,
    head_dim: int = 8,
    dtype: torch.dtype = torch.float32,
) -> Recording:
    """All that a signal could read at the block, at random."""
    draw = torch.Generator().manual_seed(seed)
    query, key = (
        torch.randn(2, batch, grid.tokens, heads, head_dim, generator=draw).to(dtype).unbind()
    )
    features, text = (
        torch.randn(batch, grid.tokens, 32, generator=draw),
        torch.randn(batch, 5, heads, head_dim, generator=draw),
    )
    return Recording(
        query={BLOCK: query},
        key={BLOCK: key},
        text_query={BLOCK: query},
        text_key={BLOCK: text.to(dtype)},
        features={BLOCK: features.to(dtype)},
    )


def words(batch: int = 2) -> Words:
    return Words(torch.tensor([[1, 2, 1, 0, 0]] * batch), torch.tensor([[1, 1, 2, 2, 0]] * batch))


def looked_at(signal: MotionSignal[Any], recording: Recording, grid: TokenGrid = GRID) -> Any:
    copies = signal.clips_shown
    repeated = replace(
        recording,
        features={block: x.repeat(copies, 1, 1) for block, x in recording.features.items()},
    )
    return signal.reference(repeated, grid, words(len(recording.query[BLOCK])))


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_its_loss_falls_and_clips_are_independent(name: str, kind: str, variable: str) -> None:
    """In float64, where two clips together round as each alone to far below the tolerance.

    In float32 the sums of a batch are rounded otherwise, and Adam turns that into up to a whole
    update of an element whose gradient is nearly nothing: that bounds no mistake.
    """
    backbone = tiny_backbone(kind, torch.float64)
    guidance = MotionGuidance(signal_of(name), variable, 0.5, (RATES[variable],) * 2, inner_steps=4)
    steps = (
        2 if name in MATCHING else 1
    )  # noised to the first step, which is all noise, every reference is the generation itself
    together = run(backbone, guidance, ["a", "b"], steps=steps)
    losses = together.losses[-1]
    assert losses.shape == (4, 2) and losses.isfinite().all()
    assert (losses[-1] < losses[0]).all()
    alone = run(backbone, guidance, ["b"], steps=steps)
    torch.testing.assert_close(alone.losses[-1][:, 0], losses[:, 1], rtol=1e-5, atol=1e-6)
    # latents are float32: some units of its rounding, 1.2e-7
    torch.testing.assert_close(alone.latents[0], together.latents[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SIGNALS)
def test_checkpointing_changes_nothing(name: str) -> None:
    backbone = tiny_backbone("rotary")
    plain, checkpointed = (
        run(
            backbone,
            MotionGuidance(
                signal_of(name),
                "rotary_positions",
                0.5,
                (0.1, 0.1),
                inner_steps=2,
                checkpointing=on,
            ),
            ["a", "b"],
        )
        for on in (False, True)
    )
    torch.testing.assert_close(checkpointed.losses, plain.losses, rtol=0, atol=0)
    torch.testing.assert_close(checkpointed.latents, plain.latents, rtol=0, atol=0)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_reference_is_looked_at_as_seldom_as_can_be_and_no_deeper_than_it_must(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward passes to the signal's block: once for the reference, or once a guided step to look
    anew; and none enters the block after it.
    """
    backbone, signal, entered = tiny_backbone("rotary"), signal_of(name), []
    deepest = max([*signal.capture, *signal.features])
    for index, block in enumerate(backbone.layout.all_blocks(backbone.transformer)):
        block.norm1.register_forward_pre_hook(lambda *_, index=index: entered.append(index))
        feed_forward = block.get_submodule(family_of(backbone).feed_forward)
        feed_forward.register_forward_pre_hook(lambda *_, index=index: entered.append(index + 0.5))
    reads, reference = [], type(signal).reference
    monkeypatch.setattr(
        type(signal),
        "reference",
        lambda *arguments: reads.append(list(entered)) or entered.clear() or reference(*arguments),
    )
    run(
        backbone,
        MotionGuidance(signal, "latents", 0.5, (0.1, 0.1), inner_steps=1, injection_blocks=()),
        ["a"],
        steps=2,
    )
    assert len(reads) == (2 if signal.looks.anew else 1)
    back = 4 if signal.looks.timestep == "inverted" else 0  # whole passes, one for each step
    assert reads[0].count(0) == back + 1
    look = reads[0][-1 - reads[0][::-1].index(0) :]
    assert max(look) == (deepest + 0.5 if signal.features else deepest), (
        "what is captured is there before the block's attention and feed-forward"
    )


@pytest.mark.parametrize("name", SIGNALS)
def test_a_static_reference_has_no_loss_and_no_gradient(name: str) -> None:
    signal, recording = signal_of(name), recording_of(0)
    tensors = [
        x.requires_grad_()
        for part in (recording.query, recording.key, recording.features)
        for x in part.values()
    ]
    still = looked_at(signal, recording_of(1))
    still = (
        torch.zeros_like(still)
        if isinstance(still, Tensor)
        else type(still)(torch.zeros_like(still[0]), *still[1:])
    )
    if not signal.is_static(still).all():
        return  # a signal for which a clip at rest is a motion like any other
    loss = signal.loss(recording, GRID, still)
    assert loss.tolist() == [0, 0]
    for gradient in torch.autograd.grad(loss.sum(), tensors, allow_unused=True):
        assert gradient is None or gradient.eq(0).all()


@pytest.mark.parametrize("name", SIGNALS)
def test_features_without_any_difference_give_no_nan(name: str) -> None:
    """All tokens equal: no direction, no first component, no highest attention."""
    flat = {BLOCK: torch.ones(1, GRID.tokens, 2, 8)}
    recording = Recording(
        query=flat,
        key=flat,
        text_query=flat,
        text_key={BLOCK: torch.ones(1, 5, 2, 8)},
        features={BLOCK: torch.ones(1, GRID.tokens, 32)},
    )
    signal = signal_of(name)
    reference = looked_at(signal, recording)
    fresh = recording_of(0, batch=1)
    for now in (recording, fresh):
        tensors = [
            x.clone().requires_grad_()
            for part in (now.query, now.key, now.features)
            for x in part.values()
        ]
        query, key, features = ({BLOCK: x} for x in tensors)
        loss = signal.loss(replace(now, query=query, key=key, features=features), GRID, reference)
        assert loss.isfinite().all()
        assert all(
            gradient is None or gradient.isfinite().all()
            for gradient in torch.autograd.grad(loss.sum(), tensors, allow_unused=True)
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SIGNALS)
def test_it_computes_in_float32_whatever_the_model(name: str, dtype: torch.dtype) -> None:
    signal, low = signal_of(name), recording_of(0, dtype=dtype)
    high = Recording(
        **{
            part: {BLOCK: getattr(low, part)[BLOCK].float()}
            for part in ("query", "key", "text_query", "text_key", "features")
        }
    )
    reference = looked_at(signal, recording_of(1))
    loss = signal.loss(low, GRID, reference)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, signal.loss(high, GRID, reference), rtol=0, atol=0)


class Largest(TorchDispatchMode):
    """The most elements that the memory of any tensor has that is made; views have none of their
    own.
    """

    elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        made = output if isinstance(output, tuple) else (output,)
        self.elements = max(
            [
                self.elements,
                *(
                    tensor.untyped_storage().nbytes() // tensor.itemsize
                    for tensor in made
                    if isinstance(tensor, Tensor)
                ),
            ]
        )
        return output


@pytest.mark.parametrize("name", SIGNALS)
def test_no_tensor_grows_with_the_square_of_all_tokens(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = TokenGrid(5, 8, 9)
    monkeypatch.setattr(motion.attention, "PAIRWISE", grid.tokens_per_frame**2)
    signal, recording = signal_of(name), recording_of(0, batch=1, grid=grid, heads=2, head_dim=4)
    reference = looked_at(signal, recording_of(1, batch=1, grid=grid, heads=2, head_dim=4), grid)
    tensors = [
        x.requires_grad_()
        for part in (recording.query, recording.key, recording.features)
        for x in part.values()
    ]
    with Largest() as largest:
        torch.autograd.grad(
            signal.loss(recording, grid, reference).sum(), tensors, allow_unused=True
        )
    assert largest.elements <= max(
        grid.tokens_per_frame**2, 32 * grid.tokens
    )  # one frame pair or the features, although A N^2 is 259200


@pytest.mark.parametrize("name", SIGNALS)
def test_its_description_makes_it_again(name: str) -> None:
    signal = signal_of(name)
    described = signal.describe()
    kind = described.pop("name")
    assert motion.SIGNALS[kind](**described) == signal and kind == SIGNALS[name][0]


def test_every_signal_of_the_table_is_here() -> None:
    assert {kind for kind, _ in SIGNALS.values()} == set(motion.SIGNALS)


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (
            "amf",
            {"reference_timestep": -1},
            "reference_timestep=-1: it is a timestep of the scheduler, counted from 0, or 'match'",
        ),
        ("amf", {"reference_timestep": "later"}, "or 'match' or 'inverted'"),
        ("smm", {"reference_noise": 1.5}, "reference_noise=1.5: it is the share of noise"),
        (
            "smm",
            {"reference_noise": 0.5, "reference_timestep": "match"},
            "leave reference_noise out",
        ),
        ("moft", {"proportion": 0.0}, "proportion=0.0: the part of the channels"),
        ("moft", {"channels": "some"}, "channels='some': it is reference or pans"),
        ("moft", {"region": "some"}, "region='some': it is token or frame"),
        ("motionclone", {"mode": "T"}, "mode='T': it is time or frames"),
        ("motionflow", {"threshold": 1.0}, "threshold=1.0: the part of the highest attention"),
        ("motionflow", {"over": "all"}, "over='all': it is place or frames"),
        (
            "motionflow",
            {"cross_weight": 0.0, "self_weight": 0.0, "temporal_weight": 0.0},
            "one of them above",
        ),
        ("motionflow", {"cross_weight": -1.0}, "not below 0"),
    ],
)
def test_arguments_that_make_no_sense(kind: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        motion.SIGNALS[kind](BLOCK, **arguments)


def test_a_reference_is_kept_with_what_it_was_seen_with() -> None:
    reference = Reference(torch.zeros(1), torch.zeros(1))
    assert reference.motion is None and reference.words is None
