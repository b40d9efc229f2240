"""Motion transferred and injected, from frames to frames, on tiny backbones."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.synthetic import World
from ditflow.bank import BankEntry, EntryError, MotionBank, Provenance
from ditflow.compatibility import Injection, check_entry, entry_control
from ditflow.core.picture import Picture
from ditflow.core.schedule import GuidanceWindow
from ditflow.models import Model, ModelError, load_backbone
from ditflow.motion import AttentionMotionFlow
from ditflow.provenance import entries_of
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.state import clip_generator, initial_noise
from ditflow.transfer import (
    Transfer,
    inject_motion,
    recommended_guidance,
    transfer_motion,
)
from tests.clips import clip_of
from tests.families import assert_same_clip
from tests.guided import sampled
from tests.registry import (
    PICTURED,
    SIZE,
    SOME,
    SOME_PAIRS,
    VARIABLES,
    grid_of,
    image_of,
    size_of,
    tiny_backbone,
    tiny_folder,
)

STEPS = 4


def guidance_of(variable: str) -> MotionGuidance:
    return MotionGuidance(
        AttentionMotionFlow(2), variable, window=0.5, learning_rate=(0.1, 0.05), inner_steps=2
    )


@cache
def transferred(kind: str, variable: str, keep_reference: bool = False) -> Transfer:
    options = {
        "seed": 3,
        "steps": STEPS,
        "motion_guidance": guidance_of(variable),
        "negative_prompt": "dog",
        "keep_reference": keep_reference,
        "image": image_of(kind),
    }
    model = tiny_backbone(kind)
    return transfer_motion(model, clip_of(size=size_of(model)), "a cat", **options)


def plain(
    kind: str, prompt: str, seed: int, scale: float = 7.0, negative: str | None = None
) -> Tensor:
    backbone = tiny_backbone(kind)
    generators = [clip_generator(prompt, seed)]
    noise = initial_noise(backbone.spec.compression.latent_shape(SIZE), generators)
    text, empty = backbone.embed([prompt, negative or ""]).split(1)
    return backbone.decode(
        sampled(backbone, backbone.schedule(STEPS, scale), noise, text, empty, generators)
    )[0]


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_transfer_motion(kind: str, variable: str) -> None:
    transfer, size = transferred(kind, variable), size_of(tiny_backbone(kind))
    assert (
        transfer.frames.shape == (size.frames, 3, 32, 48) and transfer.frames.dtype == torch.uint8
    )
    entry = transfer.entry
    metadata = entry.metadata
    assert len(entry.parameters) == 2 and entry.reference_latents is None
    assert (metadata.grid, metadata.size, metadata.window, metadata.timesteps, metadata.steps) == (
        astuple(grid_of(tiny_backbone(kind))),
        astuple(size),
        (0, 2),
        tiny_backbone(kind).schedule(STEPS).timesteps[:2],
        STEPS,
    )
    assert (metadata.clip, metadata.prompt, metadata.seed, metadata.variable) == (
        "car",
        "a cat",
        3,
        variable,
    )
    assert metadata.signal == {"name": "amf", "block": 2, "temperature": 2.0, "threshold": True}
    assert (
        metadata.start,
        metadata.stride,
        metadata.inner_steps,
        metadata.injection_blocks,
        metadata.dtype,
    ) == (0, 1, 2, (0,), "float32")
    assert [len(losses) for losses in metadata.losses] == [2, 2] and metadata.seconds > 0
    again = BankEntry.from_bytes(entry.to_bytes())
    assert (
        again.content_hash
        == entry.content_hash
        == transferred.__wrapped__(kind, variable).entry.content_hash
    )


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_inject_motion(kind: str, variable: str) -> None:
    backbone, entry = tiny_backbone(kind), transferred(kind, variable).entry
    inject = partial(inject_motion, image=image_of(kind))
    video, size = inject(backbone, entry, "a dog", seed=5), size_of(backbone)
    assert video.shape == (size.frames, 3, 32, 48) and video.dtype == torch.uint8
    torch.testing.assert_close(
        inject(backbone, BankEntry.from_bytes(entry.to_bytes()), "a dog", seed=5),
        video,
        rtol=0,
        atol=0,
    )
    if variable != "latents":  # these replace what came of the seed
        assert not torch.equal(inject(backbone, entry, "a dog", seed=6), video)
    assert not torch.equal(inject(backbone, entry, "a dog", seed=5, guidance_scale=1.0), video)
    assert not torch.equal(
        inject(backbone, entry, "a dog", seed=5, guidance_kind="dynamic_index"), video
    )


@pytest.mark.parametrize("variable", ["rotary_tables", "rotary_positions"])
def test_an_entry_that_was_never_updated_gives_the_plain_video(variable: str) -> None:
    backbone = tiny_backbone("rotary")
    still = replace(guidance_of(variable), learning_rate=(0.0, 0.0))
    entry = transfer_motion(
        backbone, clip_of(), "a cat", steps=STEPS, motion_guidance=still, negative_prompt="dog"
    ).entry
    torch.testing.assert_close(
        inject_motion(backbone, entry, "a dog", seed=5),
        plain("rotary", "a dog", 5, negative="dog"),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_injection_in_a_batch_is_injection_one_by_one(kind: str, variable: str) -> None:
    backbone, entry = tiny_backbone(kind), transferred(kind, variable, keep_reference=True).entry
    schedule, shape, text, negative = (
        backbone.schedule(STEPS),
        backbone.spec.compression.latent_shape(size_of(backbone)),
        *backbone.embed(["a cat", ""]).split(1),
    )
    needs = backbone.spec.picture == "required"
    blocks = () if needs else (0,)  # an entry does not hold the clip's first frame
    generators = [clip_generator("a", 0), clip_generator("b", 0)]
    together = sampled(
        backbone,
        schedule,
        initial_noise(shape, generators),
        text,
        negative,
        generators,
        control=entry_control(backbone, entry, Injection(injection_blocks=blocks)),
    )
    for row, name in enumerate("ab"):
        one = [clip_generator(name, 0)]
        alone = sampled(
            backbone,
            schedule,
            initial_noise(shape, one),
            text,
            negative,
            one,
            control=entry_control(backbone, entry, Injection(injection_blocks=blocks)),
        )
        assert_same_clip(backbone, alone[0], together[row])


def test_another_number_of_steps_takes_the_nearest() -> None:
    backbone, entry = tiny_backbone("rotary"), transferred("rotary", "rotary_positions").entry
    stock = backbone.positions(backbone.spec.compression.grid(SIZE)).expand(2, -1, -1)
    entry = replace(entry, parameters=torch.stack([stock + 0.3, stock + 0.3 * stock]))
    seen, predict = [], backbone.predict

    def watched(
        latents: Tensor, timestep: int, text: Tensor, position: Tensor | None, *rest: Any
    ) -> Tensor | None:
        seen.append((timestep, None if position is None else position[0, 0, 1, 0, 0].item()))
        return predict(latents, timestep, text, position, *rest)

    backbone.predict = watched  # type: ignore[method-assign]
    inject_motion(backbone, entry, "a dog", steps=8)
    first, second = torch.tensor(0.3).sin().item(), 0.0  # of the first token along t
    assert seen[::2] == [
        (999, first),
        (874, first),
        (749, second),
        (624, second),
        (499, None),
        (374, None),
        (249, None),
        (124, None),
    ]


def test_key_and_value_injection_needs_the_references_latents() -> None:
    backbone = tiny_backbone("rotary")
    without, kept = (
        transferred("rotary", "rotary_positions").entry,
        transferred("rotary", "rotary_positions", keep_reference=True).entry,
    )
    with pytest.raises(EntryError, match="'car' holds no reference latents"):
        inject_motion(backbone, without, "a dog", how=Injection(injection_blocks=[0]))
    with pytest.raises(ValueError, match="there is no block 9"):
        inject_motion(backbone, kept, "a dog", how=Injection(injection_blocks=[9]))
    torch.testing.assert_close(
        kept.reference_latents, backbone.encode(clip_of().frames[None])[0], rtol=0, atol=0
    )
    assert not torch.equal(
        inject_motion(backbone, kept, "a dog", how=Injection(injection_blocks=[0])),
        inject_motion(backbone, without, "a dog"),
    )
    torch.testing.assert_close(
        inject_motion(backbone, kept, "a dog"),
        inject_motion(backbone, without, "a dog"),
        rtol=0,
        atol=0,
    )


def test_an_entry_of_another_backbone_is_refused() -> None:
    entry = transferred("rotary", "latents").entry
    with pytest.raises(
        EntryError,
        match="was optimised on .*rotary.*, not on .*sinusoidal.*Load that backbone, or optimise "
        "'car' on this one",
    ):
        inject_motion(tiny_backbone("sinusoidal"), entry, "a dog")


def test_an_entry_of_another_grid_is_refused() -> None:
    entry = transferred("rotary", "latents").entry
    with pytest.raises(
        EntryError, match=r"has \(3, 4, 6\) tokens, but \(9, 32, 64\) pixels are 3x4x8"
    ):
        check_entry(
            tiny_backbone("rotary"),
            replace(entry, metadata=replace(entry.metadata, size=(9, 32, 64))),
        )


def test_an_entry_of_a_timestep_that_does_not_exist_is_refused() -> None:
    entry = transferred("rotary", "latents").entry
    metadata = replace(entry.metadata, timesteps=(1980, 735))
    with pytest.raises(EntryError, match="'car' does not fit: there is no timestep 1980"):
        check_entry(tiny_backbone("rotary"), replace(entry, metadata=metadata))


def test_an_entry_of_an_unknown_variable_is_refused() -> None:
    """The bank lets it through: a later version may know it."""
    entry = transferred("rotary", "latents").entry
    with pytest.raises(
        EntryError,
        match="holds 'camera', which this version of ditflow does not know: it knows latents, rot",
    ):
        inject_motion(
            tiny_backbone("rotary"),
            replace(entry, metadata=replace(entry.metadata, variable="camera")),
            "a dog",
        )


@pytest.mark.parametrize(
    ("kind", "variable", "cut"),
    [("rotary", "latents", 2), ("rotary", "rotary_tables", 4), ("sinusoidal", "sinusoidal", 2)],
)
def test_an_entry_whose_tensors_do_not_fit_is_refused(kind: str, variable: str, cut: int) -> None:
    """Channels of the latents, of a head, of the hidden tokens: one less than the backbone has."""
    backbone, entry = tiny_backbone(kind), transferred(kind, variable).entry
    with pytest.raises(
        EntryError,
        match=f"the entry of 'car' has {variable} of shape .*, and those of .* have .* "
        "Optimise its clip again",
    ):
        inject_motion(
            backbone,
            replace(
                entry, parameters=entry.parameters.narrow(cut, 0, entry.parameters.shape[cut] - 1)
            ),
            "a dog",
        )


def test_an_entry_whose_reference_latents_do_not_fit_is_refused() -> None:
    entry = transferred("rotary", "rotary_positions", keep_reference=True).entry
    with pytest.raises(
        EntryError,
        match="the entry of 'car' has reference latents of shape .*, and those of .* have",
    ):
        check_entry(
            tiny_backbone("rotary"),
            replace(entry, reference_latents=entry.reference_latents[:, :, 1:]),
        )


@pytest.mark.parametrize(("kind", "variable"), SOME_PAIRS)
def test_an_entry_of_this_backbone_fits(kind: str, variable: str) -> None:
    check_entry(tiny_backbone(kind), transferred(kind, variable, keep_reference=True).entry)


def test_encoders_are_free_while_motion_is_optimised_and_stay_between_videos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, loaded = tiny_backbone("rotary"), []
    predict = backbone.predict

    def watched(*given: Any, **named: Any) -> Tensor | None:
        loaded.append(backbone.encoders._text is not None or backbone.encoders._vae is not None)
        return predict(*given, **named)

    monkeypatch.setattr(backbone, "predict", watched)
    entry = transfer_motion(
        backbone,
        clip_of(),
        "a cat",
        steps=STEPS,
        motion_guidance=guidance_of("latents"),
        negative_prompt="",
    ).entry
    assert loaded[0] and not any(loaded[1:])  # the reference is looked at first
    loaded.clear()
    inject_motion(backbone, entry, "a dog")
    assert all(loaded) and backbone.encoders._text is not None


def test_an_entry_keeps_the_motion_of_its_clip_and_is_found_by_it(tmp_path: Path) -> None:
    clip = World(SIZE).clip(3, "pan")
    read = replace(clip_of(), frames=clip.frames)
    entry = transfer_motion(
        tiny_backbone("rotary"), read, "a cat", steps=STEPS, motion_guidance=guidance_of("latents")
    ).entry
    assert entry.field is not None and "pans" in entry.metadata.words
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["pan"] = entry
    (match,) = bank.search(words=entry.metadata.words).matches
    assert match.name == "pan"


def test_of_a_still_clip_an_entry_says_so() -> None:
    still = replace(clip_of(), frames=clip_of().frames[:1].expand(SIZE.frames, -1, -1, -1))
    options = {"steps": STEPS, "motion_guidance": guidance_of("latents")}
    entry = transfer_motion(tiny_backbone("rotary"), still, "a cat", **options).entry
    assert entry.metadata.words == "still"


def test_seconds_of_a_batch_are_shared_by_its_entries() -> None:
    backbone, guidance, sources = (
        tiny_backbone("rotary"),
        guidance_of("latents"),
        [Provenance(name, "", "a cat", "", 0) for name in "abcd"],
    )
    latents = torch.zeros(4, *backbone.spec.compression.latent_shape(SIZE))
    state = replace(
        guidance.start(backbone, SIZE, "abcd", range(4)),
        history=(latents,) * 2,
        losses=(torch.zeros(2, 4),) * 2,
    )
    schedule, window = backbone.schedule(STEPS), GuidanceWindow(0, 2)
    recipe = Recipe(backbone, guidance, schedule, window, "")
    entries = entries_of(recipe, SIZE, state, sources, seconds=60.0)
    assert [entry.metadata.seconds for entry in entries] == [15.0] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_videos_are_on_the_cpu() -> None:
    backbone = load_backbone(str(tiny_folder("rotary")), device="cuda")
    transfer = transfer_motion(
        backbone, clip_of(), "a cat", steps=STEPS, motion_guidance=guidance_of("latents")
    )
    assert (
        transfer.frames.device.type
        == inject_motion(backbone, transfer.entry, "a dog").device.type
        == "cpu"
    )


def test_clips_that_do_not_fit_are_refused() -> None:
    clip = replace(clip_of(), frames=clip_of().frames[..., :33])
    with pytest.raises(ValueError, match="multiples of 8, such as 32x32"):
        transfer_motion(
            tiny_backbone("rotary"),
            clip,
            "a cat",
            steps=STEPS,
            motion_guidance=guidance_of("latents"),
        )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"window": 0}, "window 0 of 4 steps guides none of them, so there is no motion to take"),
        ({"signal": None}, "motion_guidance has no signal, so there is no motion to take"),
    ],
)
def test_guidance_that_takes_no_motion_is_refused(changed: dict[str, Any], said: str) -> None:
    guidance = replace(guidance_of("latents"), **changed)
    with pytest.raises(ValueError, match=said):
        transfer_motion(
            tiny_backbone("rotary"), clip_of(), "a cat", steps=STEPS, motion_guidance=guidance
        )


def test_the_variable_must_be_one_of_the_backbones() -> None:
    with pytest.raises(ModelError, match="Use latents or sinusoidal"):
        transfer_motion(
            tiny_backbone("sinusoidal"),
            clip_of(),
            "a cat",
            steps=STEPS,
            motion_guidance=guidance_of("rotary_tables"),
        )


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", "wan"])
def test_recommended_guidance_fits_any_backbone(kind: str) -> None:
    backbone = tiny_backbone(kind)
    guidance = recommended_guidance(backbone)
    assert guidance.check(backbone, backbone.schedule(50)).stop == 10
    assert kind in VARIABLES[guidance.variable]


def test_frames_are_not_a_clip() -> None:
    backbone, clip = tiny_backbone("rotary"), clip_of()
    with pytest.raises(
        ValueError,
        match="transfer_motion was given a Tensor; it takes a Clip, as read_video gives one",
    ):
        transfer_motion(backbone, clip.frames, "a cat")  # type: ignore[arg-type]


def test_a_video_of_one_latent_frame_is_refused() -> None:
    backbone, clip = tiny_backbone("rotary"), replace(clip_of(), frames=clip_of().frames[:4])
    with pytest.raises(ValueError, match="4 frames holds no motion.* Use 8 or more"):
        transfer_motion(backbone, clip, "a cat")


def watched(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the model is shown of a picture in each pass from here on."""
    seen: list[Tensor] = []
    predict = model.predict

    def watch(*rest: Any, picture: Picture | None = None) -> Tensor | None:
        picture = rest[4] if len(rest) == 5 else picture
        seen.append(of_picture(picture))
        return predict(*rest[:4], picture=picture)

    monkeypatch.setattr(model, "predict", watch)
    return seen


def of_picture(picture: Picture | None) -> Tensor:
    assert picture is not None
    shown = picture.latents if picture.first is None else picture.first
    assert shown is not None
    return shown


@pytest.mark.parametrize("kind", [kind for kind in PICTURED if kind in SOME])
def test_the_reference_is_seen_with_its_own_first_frame_and_the_video_with_the_picture(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = tiny_backbone(kind), image_of(kind, 1)
    size = size_of(model)
    clip = clip_of(size=size)
    own, given = (
        of_picture(model.look(pixels[None], size.frames))
        for pixels in (clip.frames[0], image.pixels)
    )
    seen = watched(model, monkeypatch)
    options = {"steps": STEPS, "motion_guidance": guidance_of("latents")}
    entry = transfer_motion(model, clip, "a cat", image=image, **options).entry
    # its motion once, its keys and values at each guided step
    looks = [torch.equal(latents, own) for latents in seen]
    assert looks.count(True) == 1 + STEPS // 2 and looks[0]
    assert all(torch.equal(x, given) for x, look in zip(seen, looks, strict=True) if not look)
    assert entry.metadata.image_sha256 == image.sha256


def test_an_entry_brings_keys_and_values_with_the_first_frame_of_its_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a picture stands in the place of the first frame, the clip's latents hold its own."""
    kind, how = "wan22-5b-i2v", Injection(injection_blocks=[0])
    model, entry, image = tiny_backbone(kind), transferred(kind, "latents", True).entry, image_of
    given = of_picture(model.look(image(kind, 1).pixels[None], SIZE.frames))
    seen = watched(model, monkeypatch)
    inject_motion(model, entry, "a dog", image=image(kind, 1), how=how)
    kept = entry.reference_latents[None, :1]
    looks = [torch.equal(latents, kept) for latents in seen]
    assert looks.count(True) == STEPS // 2  # at each guided step
    assert all(torch.equal(x, given) for x, look in zip(seen, looks, strict=True) if not look)


def test_the_same_model_makes_videos_from_text_and_from_a_picture() -> None:
    """An entry of either is for both; the first frame is that of the picture."""
    model, image = load_backbone(str(tiny_folder("wan22-5b"))), image_of("wan22-5b-i2v", 1)
    options = {"steps": STEPS, "motion_guidance": guidance_of("rotary_positions")}
    text, pictured = (
        transfer_motion(model, clip_of(), "a cat", image=given, **options)
        for given in (None, image)
    )
    assert (text.entry.metadata.image_sha256, pictured.entry.metadata.image_sha256) == (
        "",
        image.sha256,
    )
    shown = model.decode(model.encode(image.pixels[None, None]))[0, 0].float()
    for entry in (text.entry, pictured.entry):
        plain, begun = (
            inject_motion(model, entry, "a dog", image=given)[0].float() for given in (None, image)
        )
        # a causal decoder knows the first frame alone; a level of rounding
        assert (begun - shown).abs().max() <= 1 < (plain - shown).abs().mean()


@pytest.mark.parametrize(
    ("kind", "seed", "message"),
    [
        (
            "wan-i2v",
            None,
            "makes a picture move, and the video has none to begin with: give one by",
        ),
        ("wan", 0, "makes videos from text alone here, and the video has a picture to begin with"),
    ],
)
def test_a_picture_where_none_is_taken_and_none_where_one_is(
    kind: str, seed: int | None, message: str
) -> None:
    model, entry = tiny_backbone(kind), transferred("wan", "latents").entry
    image = None if seed is None else image_of("wan-i2v", seed)
    with pytest.raises(ModelError, match=message):
        inject_motion(model, entry, "a dog", image=image)
    with pytest.raises(ModelError, match=message):
        transfer_motion(model, clip_of(), "a dog", image=image)
    with pytest.raises(ValueError, match="was given a str; it takes an Image, as read_image gives"):
        inject_motion(model, entry, "a dog", image="cat.png")  # type: ignore[arg-type]


def test_keys_and_values_of_an_entry_need_its_first_frame() -> None:
    model, entry = tiny_backbone("wan-i2v"), transferred("wan-i2v", "latents", True).entry
    with pytest.raises(
        ModelError, match="must be shown a clip's first frame .* Leave injection_bl"
    ):
        check_entry(model, entry, Injection(injection_blocks=[0]))
