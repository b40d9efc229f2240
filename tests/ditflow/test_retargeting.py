"""Optimised positions in videos of another size, and changed; what is no field is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import World
from ditflow.bank import BankEntry, EntryError
from ditflow.compatibility import Injection, check_entry, injected
from ditflow.core.sizes import VideoSize
from ditflow.injection_provenance import describe_injection
from ditflow.models import Model, sketch_backbone
from ditflow.sampling.inject import Inject
from ditflow.transfer import inject_motion, transfer_motion
from tests.clips import clip_of
from tests.ditflow.test_transfer import STEPS, guidance_of, transferred
from tests.registry import SIZE, tiny_backbone, tiny_folder

LARGER = VideoSize(17, 48, 32)  # 5 x 6 x 4 tokens on these backbones, instead of 3 x 4 x 6
KINDS = ("rotary", "wan")


def optimised(kind: str = "rotary", *, keep: bool = False) -> BankEntry:
    return transferred(kind, "rotary_positions", keep).entry


def positions(backbone: Model, entry: BankEntry, how: Injection, size: VideoSize | None) -> Tensor:
    """The parameters (G, 2, N, 3) that a generation of a size is given."""
    control = injected(backbone, entry, how, size).control
    assert isinstance(control, Inject)
    return control.parameters


@pytest.mark.parametrize("kind", KINDS)
def test_at_its_own_size_nothing_changes(kind: str) -> None:
    backbone, entry = tiny_backbone(kind), optimised(kind)
    for how, size in ((Injection(), SIZE), (Injection(change=" , "), None)):
        assert torch.equal(positions(backbone, entry, how, size), entry.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_of_another_size_moves_by_the_resampled_offsets(kind: str) -> None:
    backbone, entry = tiny_backbone(kind), optimised(kind)
    video = inject_motion(backbone, entry, "a dog", seed=5, size=LARGER)
    assert video.shape == (17, 3, 48, 32)
    off = inject_motion(backbone, entry, "a dog", seed=5, size=LARGER, how=Injection(strength=0.0))
    assert not torch.equal(video, off)
    told = describe_injection(backbone, entry, "a dog", fps=8, size=LARGER)
    assert told.size == (17, 48, 32)
    stock = backbone.positions(backbone.spec.compression.grid(LARGER))
    moved = positions(backbone, entry, Injection(), LARGER) - stock
    assert 0.01 < float(moved.abs().max()) < 2 * float(_offsets(backbone, entry).abs().max())


def test_positions_that_were_never_updated_are_plain_at_any_size() -> None:
    backbone = tiny_backbone("rotary")
    still = replace(guidance_of("rotary_positions"), learning_rate=(0.0, 0.0))
    entry = transfer_motion(
        backbone, clip_of(), "a cat", steps=STEPS, motion_guidance=still, negative_prompt="dog"
    ).entry
    stock = backbone.positions(backbone.spec.compression.grid(LARGER))
    found = positions(backbone, entry, Injection(), LARGER)
    assert torch.equal(found, stock.expand_as(found))


def test_a_change_of_an_entry_is_undone_by_its_opposite() -> None:
    backbone, entry = tiny_backbone("rotary"), optimised()
    once = positions(backbone, entry, Injection(change="mirrored"), None)
    assert float((once - entry.parameters).abs().max()) > 0.01
    twice = positions(backbone, entry, Injection(change="mirrored, mirrored"), None)
    torch.testing.assert_close(twice, entry.parameters, rtol=0, atol=1e-5)
    half = positions(backbone, entry, Injection(change="scaled 0.5"), None)
    stock = backbone.positions(backbone.spec.compression.grid(SIZE))
    torch.testing.assert_close(half, (entry.parameters + stock) / 2, rtol=0, atol=1e-5)
    assert (
        describe_injection(backbone, entry, "a dog", fps=8, how=Injection(change="mirrored")).change
        == "mirrored"
    )


@pytest.mark.parametrize(
    ("kind", "variable", "reason"),
    [
        ("rotary", "rotary_tables", "free tables, which are no places between which others lie"),
        ("rotary", "latents", "which hold the content of its clip"),
        ("sinusoidal", "sinusoidal", "a free table, whose numbers are no places"),
    ],
)
def test_what_is_no_field_is_refused_with_the_reason(kind: str, variable: str, reason: str) -> None:
    backbone, entry = tiny_backbone(kind), transferred(kind, variable).entry
    with pytest.raises(EntryError, match=f"for 9x32x48 pixels and holds {variable}, {reason}.*"):
        inject_motion(backbone, entry, "a dog", size=LARGER)
    with pytest.raises(EntryError, match=f"{reason}.*leave change 'mirrored' out, optimise rotary"):
        inject_motion(backbone, entry, "a dog", how=Injection(change="mirrored"))
    check_entry(backbone, entry, size=SIZE)


def test_keys_and_values_do_not_come_along() -> None:
    backbone, entry = tiny_backbone("rotary"), optimised(keep=True)
    blocks = Injection(injection_blocks=[0])
    with pytest.raises(EntryError, match="so were the keys and values .* or leave size 17x48x32"):
        inject_motion(backbone, entry, "a dog", size=LARGER, how=blocks)
    with pytest.raises(EntryError, match="so were the keys and values .* or leave change 'mirro"):
        check_entry(backbone, entry, replace(blocks, change="mirrored"))


def test_a_change_that_offsets_cannot_have_is_refused_without_weights() -> None:
    """As a dry run asks, whose tensors hold no numbers."""
    backbone, entry = sketch_backbone(str(tiny_folder("rotary"))), optimised()
    for words in ("camera", "restricted 0 0 0.5 1 moving"):
        with pytest.raises(
            EntryError, match="the entry of 'car' cannot be changed so: .*positions"
        ):
            check_entry(backbone, entry, Injection(change=words))
    changes = "mirrored, rotated 90, reversed, paced 2, scaled 0.5, restricted 0 0 0.5 1"
    check_entry(backbone, entry, Injection(change=changes), size=LARGER)


def test_another_backbone_takes_the_motion_that_an_entry_keeps() -> None:
    read = replace(clip_of(), frames=World(SIZE).clip(3, "pan").frames)
    options = {"steps": STEPS, "motion_guidance": guidance_of("rotary_positions")}
    entry = transfer_motion(tiny_backbone("rotary"), read, "a cat", **options).entry
    with pytest.raises(EntryError, match="Load that .*, or give it the motion alone: entry.field."):
        inject_motion(tiny_backbone("wan"), entry, "a dog")
    assert entry.field is not None
    video = inject_motion(tiny_backbone("wan"), entry.field, "a dog", steps=STEPS, size=SIZE)
    assert video.shape == (9, 3, 32, 48)


def test_a_size_that_is_no_whole_video_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide into tokens"):
        inject_motion(tiny_backbone("rotary"), optimised(), "a dog", size=VideoSize(9, 33, 48))


def _offsets(backbone: Model, entry: BankEntry) -> Tensor:
    return entry.parameters - backbone.positions(backbone.spec.compression.grid(SIZE))
