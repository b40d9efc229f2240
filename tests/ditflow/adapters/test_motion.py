"""A motion on a stock pipeline: what inject_motion does, and nothing left of it afterwards."""

from __future__ import annotations

import copy
import pickle
from inspect import signature
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter

from ditflow.adapters.motion import LOADED
from ditflow.adapters.pipeline import transformers_of
from ditflow.adapters.stock import fit_motion, load_motion, unload_motion
from ditflow.bank import BankError, EntryError, MotionBank
from ditflow.bank.errors import UnknownEntryError
from ditflow.compatibility import Injection, injected
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import FieldError
from ditflow.models import Model, ModelError
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.control import Control
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.state import initial_noise
from ditflow.transfer import Transfer, transfer_motion
from ditflow.video import Clip, read_video
from tests.clips import write_clips
from tests.closeness import assert_close_in_norm
from tests.ditflow.adapters.pipelines import STEPS, called, noise_of, pan, pipeline_of
from tests.ditflow.bank.entries import make_field_entry
from tests.guided import sampled
from tests.hub import Hub
from tests.registry import SIZE, SOME, frames_of, picture_for, size_of, tiny_backbone

# four steps round latents of size 6 by ten times 6e-8 each, and guidance of 5 enlarges it
ROUNDING = 4 * 6 * 6e-7 * 5
KINDS = ("rotary", "sinusoidal", "wan", "wan22-experts")  # each way in which positions enter


def ours(
    model: Model,
    control: Control,
    scale: float = 5.0,
    steps: int = STEPS,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Latents as our own loop makes them."""
    text, negative = model.embed(["a cat", "dog"]).split(1)
    pair = (scale, scale) if model.spec.boundary else scale
    schedule = model.schedule(steps, pair, "constant")
    draws = [torch.Generator().manual_seed(1)]
    pictured = picture_for(model, noise_of(model)) is not None
    picture = model.look(frames_of(1)[0, :1], size_of(model).frames) if pictured else None
    noise = noise_of(model) if noise is None else noise
    return sampled(model, schedule, noise, text, negative, draws, control, picture)


def state_of(pipe: Any) -> list[Any]:
    """What hooks would change: attributes of the pipeline and of all modules."""
    ignored = {"_diffusers_hook"}  # any call of a pipeline makes one at its root
    found: list[Any] = [sorted(set(vars(pipe)) - {"_guidance_scale"})]
    for transformer in transformers_of(pipe):
        for name, module in transformer.named_modules():
            hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
            there = sorted(set(vars(module)) - ignored)
            found.append((name, hooks, there, module.training))
        found.append([weight.requires_grad for weight in transformer.parameters()])
    return found


@pytest.mark.parametrize("kind", SOME)
@pytest.mark.parametrize("how", [Injection(), Injection(passes="both", strength=0.7)])
def test_a_pipeline_with_a_motion_gives_what_inject_motion_gives(kind: str, how: Injection) -> None:
    pipe, backbone = pipeline_of(kind), tiny_backbone(kind)
    noise = noise_of(backbone)
    plain, before = called(pipe, kind, noise=noise), state_of(pipe)
    with load_motion(pipe, pan(), how=how):
        moved = called(pipe, kind, noise=noise)
    wanted = ours(backbone, injected(backbone, pan(), how, size_of(backbone)).control)
    assert_close_in_norm(moved, wanted, largest=ROUNDING)
    assert (moved - plain).norm() > 0.01 * plain.norm(), "the motion acts"
    assert state_of(pipe) == before and torch.equal(called(pipe, kind, noise=noise), plain)


@pytest.mark.parametrize("kind", ["rotary", "wan22-experts"])
@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_copy_with_a_motion_is_refused_and_one_without_is_clean(kind: str, copied: Any) -> None:
    pipe = pipeline_of(kind)
    before = state_of(pipe)
    with load_motion(pipe, pan()):
        for part in (pipe, *transformers_of(pipe)):
            with pytest.raises(ValueError, match="has a motion, and is neither copied nor pickled"):
                copied(part)
    assert state_of(pipe) == before
    again = copied(pipe.transformer)
    assert isinstance(again, bytes) or LOADED.get(again) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, ["car"])
    return read_video(folder / "car.mp4", frames=SIZE.frames, size=(SIZE.height, SIZE.width))


def quick(variable: str) -> dict[str, Any]:
    guidance = MotionGuidance(AttentionMotionFlow(2), variable, 0.5, (0.02, 0.01), inner_steps=2)
    return {"steps": STEPS, "motion_guidance": guidance, "guidance_scale": 5.0}


@pytest.fixture(scope="module")
def optimised(clip: Clip) -> dict[str, Transfer]:
    variables = {"rotary": "rotary_tables", "sinusoidal": "sinusoidal", "wan": "rotary_positions"}
    return {
        kind: transfer_motion(tiny_backbone(kind), clip, "a cat", **quick(variable))
        for kind, variable in variables.items()
    }


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", "wan"])
@pytest.mark.parametrize("steps", [STEPS, 6])
def test_an_optimised_entry_acts_as_in_our_loop(
    kind: str, steps: int, optimised: dict[str, Transfer]
) -> None:
    pipe, model, entry = pipeline_of(kind), tiny_backbone(kind), optimised[kind].entry
    noise = noise_of(model)
    plain = called(pipe, kind, noise=noise, num_inference_steps=steps)
    with load_motion(pipe, entry):
        moved = called(pipe, kind, noise=noise, num_inference_steps=steps)
    wanted = ours(model, injected(model, entry, Injection()).control, steps=steps)
    assert_close_in_norm(moved, wanted, largest=ROUNDING * steps / STEPS)
    assert (moved - plain).norm() > 1e-4 * plain.norm(), "the entry acts"


def test_optimised_positions_move_a_pipeline_of_another_size(
    optimised: dict[str, Transfer],
) -> None:
    pipe, model, entry = pipeline_of("wan"), tiny_backbone("wan"), optimised["wan"].entry
    size = VideoSize(5, 48, 32)
    shape, draws = model.spec.compression.latent_shape(size), [torch.Generator().manual_seed(0)]
    noise = initial_noise(shape, draws)
    asked = {"num_frames": 5, "height": 48, "width": 32, "noise": noise}
    plain = called(pipe, "wan", **asked)
    with load_motion(pipe, entry):
        moved = called(pipe, "wan", **asked)
    wanted = ours(model, injected(model, entry, Injection(), size).control, noise=noise)
    assert_close_in_norm(moved, wanted, largest=ROUNDING)
    assert (moved - plain).norm() > 1e-4 * plain.norm(), "the entry acts"


@pytest.mark.parametrize("kind", KINDS)
def test_strength_turns_it_up_and_down_and_0_is_the_plain_pipeline(kind: str) -> None:
    pipe = pipeline_of(kind)
    noise = noise_of(tiny_backbone(kind))
    plain = called(pipe, kind, noise=noise)
    off = []
    with load_motion(pipe, pan(), strength=0.0) as motion:
        for strength in (0.0, 0.2, 1.0):
            motion.strength = strength
            off.append(float((called(pipe, kind, noise=noise) - plain).norm() / plain.norm()))
    assert off[0] == 0 < 1e-4 < off[1] < off[2]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_in_a_batch_are_those_of_single_calls(kind: str) -> None:
    pipe = pipeline_of(kind)
    noise = noise_of(tiny_backbone(kind), videos=2)
    with load_motion(pipe, pan()):
        both = called(pipe, kind, noise=noise, videos=2)
        first = called(pipe, kind, noise=noise[:1])
    assert_close_in_norm(both[:1], first, largest=ROUNDING)
    with load_motion(pipe, pan()):
        several = (
            called(pipe, kind, noise=noise, num_videos_per_prompt=2) if "wan" in kind else both
        )
    assert len(several) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_without_guidance_the_one_pass_is_moved(kind: str) -> None:
    pipe, model = pipeline_of(kind), tiny_backbone(kind)
    with load_motion(pipe, pan()):
        moved = called(pipe, kind, noise=noise_of(model), guidance_scale=1.0)
    wanted = ours(model, injected(model, pan(), Injection(), SIZE).control, scale=1.0)
    assert_close_in_norm(moved, wanted, largest=ROUNDING)


OTHERS = {
    "rotary": ("CogVideoXDDIMScheduler", {}),
    "sinusoidal": ("DPMSolverMultistepScheduler", {}),
    "wan": ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "flow_shift": 3.0}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_scheduler_finds_the_steps_of_an_entry_by_their_noise(
    kind: str, optimised: dict[str, Transfer]
) -> None:
    name, options = OTHERS[kind]
    pipe = pipeline_of(kind)
    prediction = {"prediction_type": "flow_prediction"} if kind == "wan" else {}
    config = {**pipe.scheduler.config, **prediction, **options}
    pipe.scheduler = getattr(diffusers, name).from_config(config)
    noise = noise_of(tiny_backbone(kind))
    seen: list[bool] = []
    with load_motion(pipe, optimised[kind].entry) as motion:
        watch = pipe.transformer.register_forward_pre_hook(
            lambda *_: seen.append(motion._slot.position is not None)
        )
        moved = called(pipe, kind, noise=noise, num_inference_steps=8)
        watch.remove()
    calls = 1 if kind != "wan" else 2
    assert moved.isfinite().all()
    # the entry holds the first half of four steps by their noise; more steps, more are near
    guided = seen[::calls]
    assert any(guided) and not all(guided) and guided == sorted(guided, reverse=True)


def _lora(pipe: Any, kind: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]), "mine")


def _cached(pipe: Any, kind: str, tmp_path: Path) -> None:
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=1e-6))


def _tiled(pipe: Any, kind: str, tmp_path: Path) -> None:
    pipe.vae.enable_tiling()


def _grouped(pipe: Any, kind: str, tmp_path: Path) -> None:
    device = torch.device("cpu")
    options = {"offload_device": device, "offload_type": "block_level", "num_blocks_per_group": 1}
    pipe.transformer.enable_group_offload(device, **options)


def _fused(pipe: Any, kind: str, tmp_path: Path) -> None:
    pipe.transformer.fuse_qkv_projections()


def _sequential(pipe: Any, kind: str, tmp_path: Path) -> None:
    accelerate.cpu_offload(pipe.transformer, torch.device("cpu"))


ON_TOP = {
    "lora": _lora,
    "cache": _cached,
    "tiling": _tiled,
    "group offload": _grouped,
    "fused": _fused,
    "sequential offload": _sequential,
}


@pytest.mark.parametrize("kind", ["rotary", "sinusoidal", "wan"])
@pytest.mark.parametrize("on_top", ON_TOP)
@pytest.mark.parametrize("first", ["motion", "other"])
def test_what_diffusers_puts_on_top_changes_nothing(
    kind: str, on_top: str, first: str, tmp_path: Path
) -> None:
    """A fresh LoRA adds nothing, and a cache with so low a threshold skips nothing."""
    pipe, put = pipeline_of(kind), ON_TOP[on_top]
    noise = noise_of(tiny_backbone(kind))
    plain = called(pipe, kind, noise=noise)
    with load_motion(pipe, pan()):
        wanted = called(pipe, kind, noise=noise)
    if first == "other":
        put(pipe, kind, tmp_path)
    with load_motion(pipe, pan()):
        if first == "motion":
            put(pipe, kind, tmp_path)
        moved = called(pipe, kind, noise=noise)
    assert_close_in_norm(moved, wanted, largest=ROUNDING)
    assert_close_in_norm(called(pipe, kind, noise=noise), plain, largest=ROUNDING)


@pytest.mark.parametrize(
    ("kind", "way"),
    [("rotary", "wrapped"), ("sinusoidal", "in place"), ("wan", "wrapped"), ("wan", "in place")],
)
def test_a_compiled_transformer_is_moved_and_not_compiled_again(kind: str, way: str) -> None:
    torch._dynamo.reset()
    pipe = pipeline_of(kind)
    noise = noise_of(tiny_backbone(kind))
    plain = called(pipe, kind, noise=noise)
    with load_motion(pipe, pan()):
        wanted = called(pipe, kind, noise=noise)
    counter = CompileCounter()
    if way == "wrapped":
        pipe.transformer = torch.compile(pipe.transformer, backend=counter)
    else:
        pipe.transformer.compile(backend=counter)
    assert_close_in_norm(called(pipe, kind, noise=noise), plain, largest=ROUNDING)
    with load_motion(pipe, pan()):
        assert_close_in_norm(called(pipe, kind, noise=noise), wanted, largest=ROUNDING)
        compiled = counter.frame_count
        assert_close_in_norm(called(pipe, kind, noise=noise), wanted, largest=ROUNDING)
        assert counter.frame_count == compiled
    assert_close_in_norm(called(pipe, kind, noise=noise), plain, largest=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_in_the_pipeline_leaves_nothing_behind(kind: str) -> None:
    pipe = pipeline_of(kind)
    noise = noise_of(tiny_backbone(kind))
    plain, before = called(pipe, kind, noise=noise), state_of(pipe)

    def fail(*_: Any) -> None:
        raise KeyError("interrupted")

    with pytest.raises(KeyError), load_motion(pipe, pan()):
        called(pipe, kind, noise=noise, callback_on_step_end=fail)
    assert state_of(pipe) == before and torch.equal(called(pipe, kind, noise=noise), plain)


def test_a_failed_load_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline_of("wan22-experts")
    before = state_of(pipe)
    monkeypatch.setattr("ditflow.adapters.motion.LoadedMotion._install_noise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_motion(pipe, pan())
    assert state_of(pipe) == before and not LOADED


def test_from_a_bank_by_place_or_by_name(tmp_path: Path) -> None:
    bank = MotionBank(tmp_path / "bank", create=True)
    bank["car"] = make_field_entry()
    pipe = pipeline_of("rotary")
    noise = noise_of(tiny_backbone("rotary"))
    made = []
    for place in ((tmp_path / "bank" / "car", None), (str(tmp_path / "bank"), "car")):
        with load_motion(pipe, place[0], entry=place[1]):
            made.append(called(pipe, "rotary", noise=noise))
    assert torch.equal(*made)
    with pytest.raises(BankError, match="kite"):
        load_motion(pipe, tmp_path / "bank" / "kite")
    with pytest.raises(BankError, match="nowhere"):
        load_motion(pipe, tmp_path / "nowhere" / "kite")


def test_from_a_bank_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: Hub
) -> None:
    """An id is one of the hub where no folder has that name. Nothing is asked for a folder."""
    monkeypatch.chdir(tmp_path)
    pipe, entry = pipeline_of("rotary"), make_field_entry()
    there.add("anna/bank", {"entries/car.safetensors": entry.to_bytes("car")})
    for place in ("anna/bank", "anna/bank@main", "hf://datasets/anna/bank"):
        with load_motion(pipe, place, entry="car"):
            pass
    with load_motion(pipe, "hf://datasets/anna/bank/car"):
        pass
    with pytest.raises(BankError, match="kite"):
        load_motion(pipe, "anna/bank", entry="kite")
    with pytest.raises(BankError, match="the hub has nothing by that name"):
        load_motion(pipe, "anna/none", entry="car")
    there.asked.clear()
    MotionBank("anna/bank", create=True)["car"] = entry
    with load_motion(pipe, "anna/bank", entry="car"), pytest.raises(ValueError):
        load_motion(pipe, "anna/bank/car")  # the pipeline has a motion already
    assert there.asked == [] and not LOADED


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_fit_motion_is_transfer_motion_on_the_modules_that_are_there(
    kind: str, clip: Clip, optimised: dict[str, Transfer]
) -> None:
    pipe, wanted = pipeline_of(kind), optimised[kind].entry
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder):
        part.requires_grad_(True)
    before, parts = state_of(pipe), {name: id(part) for name, part in pipe.components.items()}
    timesteps = pipe.scheduler.timesteps.clone()
    made = fit_motion(pipe, clip, "a cat", **quick(wanted.metadata.variable))
    assert_close_in_norm(made.entry.parameters, wanted.parameters, largest=0.02)
    assert made.entry.metadata.backbone_fingerprint == wanted.metadata.backbone_fingerprint
    assert state_of(pipe) == before and torch.equal(pipe.scheduler.timesteps, timesteps)
    assert {name: id(part) for name, part in pipe.components.items()} == parts
    assert all(weight.requires_grad for weight in pipe.vae.parameters())
    with load_motion(pipe, made.entry):
        assert called(pipe, kind).isfinite().all()


def test_what_makes_no_sense_is_refused_and_the_pipeline_untouched(
    optimised: dict[str, Transfer], clip: Clip, tmp_path: Path
) -> None:
    Image.new("L", (8, 64), 255).save(tmp_path / "tall.png")
    mask = Injection(change=f'restricted "{tmp_path}/tall.png"')
    pipe = pipeline_of("rotary")
    before = state_of(pipe)
    changes = Injection(change="camera")
    refused: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (EntryError, "was optimised on", optimised["wan"].entry, {}),
        (EntryError, "third pass", pan(), {"how": Injection(motion_scale=2.0)}),
        (EntryError, "passes of the reference", pan(), {"how": Injection(injection_blocks=[0])}),
        (EntryError, "change .camera. out", optimised["rotary"].entry, {"how": changes}),
        (FieldError, "tall.png has 64 x 8 pixels, .* draw it on a frame", pan(), {"how": mask}),
        (ValueError, "strength is 'much'", pan(), {"strength": "much"}),
        (ValueError, "finite", pan(), {"strength": float("nan")}),
        (ValueError, "from -100 to 100", pan(), {"strength": 1e300}),
        (ValueError, "from -100 to 100", pan(), {"strength": 10**400}),
        (ValueError, "names one of a bank", pan(), {"entry": "car"}),
    ]
    for error, words, motion, options in refused:
        with pytest.raises(error, match=words):
            load_motion(pipe, motion, **options)
        assert state_of(pipe) == before
    other = diffusers.DDPMPipeline(pipe.transformer, diffusers.DDPMScheduler())
    with pytest.raises(ModelError, match="a DDPMPipeline cannot take a motion"):
        load_motion(other, pan())
    latents = transfer_motion(tiny_backbone("rotary"), clip, "a cat", **quick("latents")).entry
    with pytest.raises(EntryError, match="changes latents"):
        load_motion(pipe, latents)
    with load_motion(pipe, pan()) as motion:
        with pytest.raises(ValueError, match="has a motion already"):
            load_motion(pipe, pan())
        with pytest.raises(ValueError, match="has a motion already"):
            fit_motion(pipe, clip, "a cat")
        with pytest.raises(ValueError, match="strength is None"):
            motion.strength = None  # type: ignore[assignment]
        with pytest.raises(ValueError, match="from -100 to 100"):
            motion.strength = -1e300
        assert motion.strength == 1
    motion.remove()  # a second time it does nothing
    assert state_of(pipe) == before


def test_an_optimised_entry_of_another_size_is_refused_in_the_call(
    optimised: dict[str, Transfer],
) -> None:
    pipe = pipeline_of("rotary")
    with (
        load_motion(pipe, optimised["rotary"].entry),
        pytest.raises(EntryError, match="optimised for"),
    ):
        called(pipe, "rotary", height=48)


def test_a_motion_is_taken_off_without_its_handle() -> None:
    pipe = pipeline_of("rotary")
    before = state_of(pipe)
    load_motion(pipe, pan())
    unload_motion(pipe)
    unload_motion(pipe)  # where there is none it does nothing
    assert state_of(pipe) == before and not LOADED


def test_the_pipeline_keeps_a_method_that_the_user_gave_it() -> None:
    pipe, seen = pipeline_of("rotary"), []
    own = pipe.prepare_latents

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(1)
        return own(*args, **kwargs)

    counted.__signature__ = signature(own)  # type: ignore[attr-defined]
    pipe.prepare_latents = counted
    with load_motion(pipe, pan()):
        called(pipe, "rotary")
    assert pipe.prepare_latents is counted and seen == [1]


def test_another_pipeline_on_the_same_transformer_is_told() -> None:
    pipe = pipeline_of("rotary")
    other = diffusers.CogVideoXPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    with load_motion(pipe, pan()):
        called(pipe, "rotary")
        with pytest.raises(ValueError, match="before another pipeline uses the transformer"):
            called(other, "rotary", height=48)
    assert called(other, "rotary", height=48).isfinite().all()


def test_without_guidance_no_expert_is_placed_as_if_there_were() -> None:
    pipe = pipeline_of("wan22-experts")
    schedules = []
    with load_motion(pipe, pan()) as motion:
        called(pipe, "wan22-experts", guidance_scale=1.0, guidance_scale_2=5.0)
        assert motion._call is not None
        schedules.append(motion._call.schedule)
    assert {step.guidance_scale for step in schedules[0]} == {1.0}


def test_what_is_no_pipeline_no_motion_and_no_place_of_an_entry_is_refused() -> None:
    pipe = pipeline_of("wan22-experts")
    with pytest.raises(ValueError, match="was given a NoneType; it takes a pipeline of diffusers"):
        load_motion(None, pan())
    with pytest.raises(ValueError, match=r"was given a int; it takes an entry \(of a Transfer"):
        load_motion(pipe, 3)  # type: ignore[arg-type]
    with pytest.raises(BankError, match="'car' names a bank or an entry, and both are needed"):
        load_motion(pipe, "car")
    pipe.transformer = None
    with pytest.raises(ModelError, match="its transformer is None: load both experts"):
        load_motion(pipe, pan())


def test_frames_that_a_pipeline_would_add_and_drop_are_refused() -> None:
    """CogVideoX 1.5 makes 21 frames of 17, whose latent frames do not divide into tokens."""
    pipe = pipeline_of("cogvideox15")
    with load_motion(pipe, pan()), pytest.raises(ValueError, match="use 24 or 16, which keep"):
        called(pipe, "cogvideox15", num_frames=17)


def test_pipelines_that_change_a_video_are_refused() -> None:
    parts = pipeline_of("wan").components
    pipe = diffusers.WanVideoToVideoPipeline(
        **{
            name: part
            for name, part in parts.items()
            if name in {"tokenizer", "text_encoder", "transformer", "vae", "scheduler"}
        }
    )
    with pytest.raises(ModelError, match="that begin with noise"):
        load_motion(pipe, pan())


def test_an_entry_of_the_starter_bank_is_named_once(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BankError, match="'starter/pan-left' names an entry .* names one again"):
        load_motion(object(), "starter/pan-left", entry="orbit")
    with pytest.raises(UnknownEntryError, match="The bank starter has no entry 'nope'"):
        load_motion(object(), "starter/nope")
