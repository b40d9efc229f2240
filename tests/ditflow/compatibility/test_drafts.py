"""Videos that are made together: each is the one that it is alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from ditflow.bank import BankEntry
from ditflow.compatibility import Injection, draft_injection, videos_of
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.models import Model
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.control import NOTHING, Each
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.loop import Draft, sample
from ditflow.transfer import inject_motion, transfer_motion
from tests.clips import clip_of
from tests.ditflow.sampling.test_instant import pan, zoomed
from tests.registry import SIZE, SOME, image_of, size_of, tiny_backbone

STEPS = 4
# products in another order: some ten roundings of float32 in a pass, which four steps at a scale of
# 3 to 7 carry on; ten steps at 7 are off by 1.2e-6 of the norm (tests/closeness.py)
CLOSE = 1e-5
PROMPTS = ("a dog", "a red cat", "")


@cache
def entry() -> BankEntry:
    amf = AttentionMotionFlow(2)
    guidance = MotionGuidance(amf, "rotary_positions", 0.5, (0.1, 0.05), inner_steps=1)
    asked: Any = dict(steps=STEPS, motion_guidance=guidance, keep_reference=True)
    return transfer_motion(tiny_backbone("rotary"), clip_of(), "a cat", **asked).entry


def drafts(model: Model, kind: str, *motions: BankEntry | MotionField, **asked: Any) -> list[Draft]:
    asked = (
        dict(steps=STEPS, size=size_of(model), negative_prompt="dog", guidance_kind="constant")
        | asked
    )
    told = zip(motions, PROMPTS, strict=False)
    return [
        draft_injection(model, motion, prompt, seed=seed, image=image_of(kind, seed), **asked)
        for seed, (motion, prompt) in enumerate(told)
    ]


def assert_as_alone(model: Model, made: list[Draft]) -> None:
    """Raise AssertionError unless each is in a batch what it is alone; noise is so bit by bit."""
    together = sample(model, *Draft.together(made)).rows()
    for row, draft in zip(together, made, strict=True):
        alone = sample(model, *draft)
        assert torch.equal(row.noise, alone.noise)
        assert torch.equal(row.generators, alone.generators)
        off = (row.latents - alone.latents).norm() / alone.latents.norm()
        assert off <= CLOSE, f"off by {off:.1e}"


@pytest.mark.parametrize("kind", SOME)
def test_fields_move_a_batch_as_each_moves_alone(kind: str) -> None:
    model = tiny_backbone(kind)
    made = drafts(model, kind, pan(), zoomed(), pan(-0.25))
    assert_as_alone(model, made)
    shown = [sample(model, *draft).latents for draft in made]
    assert not torch.allclose(shown[0], shown[1], atol=0.1)


@pytest.mark.parametrize(
    "how",
    [
        Injection(passes="both", strength=-0.5),
        Injection(motion_scale=4.0),
        Injection(change="mirrored"),
    ],
)
def test_entries_of_both_kinds_share_a_batch(how: Injection) -> None:
    """A field acts in three of four steps, an optimised entry in two: then it has no positions."""
    model = tiny_backbone("rotary")
    assert_as_alone(model, drafts(model, "rotary", entry(), pan(), how=how, guidance_scale=6.0))


def test_each_takes_keys_and_values_of_its_own_clip() -> None:
    model, how = tiny_backbone("rotary"), Injection(injection_blocks=(0, 1))
    assert_as_alone(model, drafts(model, "rotary", entry(), entry(), how=how))


def test_a_batch_that_nothing_acts_on_is_the_same_bit_by_bit() -> None:
    model = tiny_backbone("wan22-5b")
    batch = Draft.together(drafts(model, "wan22-5b", pan(), zoomed()))
    split = sample(model, *batch._replace(control=Each((NOTHING, NOTHING))))
    whole = sample(model, *batch._replace(control=NOTHING))
    assert torch.equal(split.latents, whole.latents)


def test_one_draft_is_inject_motion() -> None:
    model = tiny_backbone("rotary")
    (draft,) = drafts(model, "rotary", pan())
    told: list[tuple[int, int]] = []
    (video,) = videos_of(model, [draft], lambda *done: told.append(done))
    asked: Any = dict(steps=STEPS, size=SIZE, negative_prompt="dog", guidance_kind="constant")
    assert torch.equal(video, inject_motion(model, pan(), "a dog", **asked))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({}, {"steps": 5}, "share their size, their steps"),
        ({}, {"size": VideoSize(9, 32, 64)}, "share their size"),
        ({}, {"guidance_scale": 2.0}, "their steps with their guidance"),
        (
            {"how": Injection(motion_scale=2.0)},
            {"how": Injection(motion_scale=3.0)},
            "share their motion scale",
        ),
    ],
)
def test_what_cannot_be_made_together_is_refused(one: Any, other: Any, said: str) -> None:
    model = tiny_backbone("rotary")
    made = [draft for asked in (one, other) for draft in drafts(model, "rotary", pan(), **asked)]
    with pytest.raises(ValueError, match=said):
        videos_of(model, made)


def test_keys_and_values_of_one_alone_are_refused() -> None:
    model = tiny_backbone("rotary")
    (kept,) = drafts(model, "rotary", entry(), how=Injection(injection_blocks=(0,)))
    (bare,) = drafts(model, "rotary", entry())
    with pytest.raises(ValueError, match="the blocks that take keys and values"):
        videos_of(model, [kept, bare])


def test_a_picture_for_one_alone_is_refused() -> None:
    model = tiny_backbone("wan-i2v")
    (shown,) = drafts(model, "wan-i2v", pan())
    bare = shown._replace(prompt=shown.prompt._replace(picture=None))
    with pytest.raises(ValueError, match="whether they begin with a picture"):
        videos_of(model, [shown, bare])
