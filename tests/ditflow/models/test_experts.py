"""Two experts of a model: which one denoises, which is on the device, whose motion is compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ditflow.bank import BankEntry, EntryError, MotionBank
from ditflow.compatibility import check_entry
from ditflow.models import Model
from ditflow.motion import SpatialMarginalMean
from ditflow.sampling.control import Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.loop import sample
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.reference import motion_of, reference_motion
from tests.clips import arguments, ditflow, write_clips
from tests.registry import SIZE, tiny_backbone

STEPS, SECOND = 4, 3  # the last step is the second expert's
SIGNAL = SpatialMarginalMean(1)  # which looks at the reference at timestep 0


@pytest.fixture
def model() -> Model:
    return tiny_backbone("wan22-experts")


def calls_of(model: Model) -> list[tuple[int, float]]:
    """The expert and what it is told, at each call from here on."""
    calls: list[tuple[int, float]] = []
    for index, expert in enumerate(model.experts):

        def note(_: Any, __: Any, given: dict[str, Any], index: int = index) -> None:
            calls.append((index, float(given["timestep"][0])))

        expert.register_forward_pre_hook(note, with_kwargs=True)
    return calls


def generated(model: Model, window: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    """Latents and losses of a generation that is guided in the window, one update a step."""
    guidance = MotionGuidance(
        SIGNAL, window=window, inner_steps=1, injection_blocks=(), learning_rate=(0.1, 0.1)
    )
    state, schedule = guidance.start(model, SIZE, ["x"], [0]), model.schedule(STEPS)
    clean, text = torch.randn_like(state.noise), torch.randn(1, 16, 32)
    reference = reference_motion(model, SIGNAL, clean, text, ["x"], noise=state.noise)
    control = motion_control(model, guidance, schedule, reference)
    done = sample(model, schedule, Prompt(text, torch.zeros_like(text)), state, control)
    return done.latents, list(done.losses)


def test_each_step_has_its_expert_and_they_swap_once(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[tuple[int, str]] = []
    for index, expert in enumerate(model.experts):

        def move(device: Any, index: int = index, expert: Any = expert) -> Any:
            moves.append((index, str(device)))
            return expert

        monkeypatch.setattr(expert, "to", move)
    model.device = torch.device("cpu:0")  # the device; what waits is on "cpu"
    calls, schedule = calls_of(model), model.schedule(STEPS)
    generated(model, (0, 0))
    timesteps = [timestep for timestep in schedule.timesteps for _ in range(2)]
    look = [(0, 0.0)]
    assert calls == look + [(int(timestep < 500), timestep) for timestep in timesteps]
    assert moves == [(0, "cpu"), (1, "cpu:0")]
    generated(model, (0, 0))
    assert moves[2:] == [(1, "cpu"), (0, "cpu:0"), (0, "cpu"), (1, "cpu:0")]


def test_a_reference_is_seen_by_the_expert_of_the_guided_step(model: Model) -> None:
    """Also in a window that crosses the boundary: there the second expert looks for itself."""
    calls = calls_of(model)
    _, losses = generated(model, (SECOND - 1, STEPS))
    told = model.schedule(STEPS).timesteps
    plain = [(0, timestep) for timestep in told[: SECOND - 1] for _ in range(2)]
    assert calls == [
        (0, 0.0),
        *plain,
        *[(0, told[SECOND - 1])] * 3,  # an update, and both passes
        (1, 0.0),
        *[(1, told[SECOND])] * 3,
    ]
    assert all(float(loss) > 0 for loss in losses)


def test_what_is_compared_is_what_the_same_expert_sees(model: Model) -> None:
    clean, text = torch.randn(1, 3, 4, 8, 12), torch.randn(1, 16, 32)
    reference = reference_motion(model, SIGNAL, clean, text, ["x"], noise=clean)
    for step in model.schedule(STEPS):
        motion = motion_of(model, SIGNAL, reference, clean, step)
        seen: list[Tensor] = []
        expert = model.experts[int(step.index >= SECOND)]
        handle = expert.blocks[1].register_forward_hook(
            lambda *given, seen=seen: seen.append(given[2])
        )
        with torch.no_grad():
            expert(clean.transpose(1, 2), torch.zeros(1), text)
        handle.remove()
        means = seen[0].unflatten(1, (3, -1)).mean(dim=2)
        torch.testing.assert_close(motion, means, rtol=0, atol=1e-5)


def test_each_expert_has_its_guidance_scale(model: Model) -> None:
    schedule = model.schedule(STEPS, (4.0, 3.0))
    assert [step.guidance_scale for step in schedule] == [4, 4, 4, 3]
    assert [step.guidance_scale for step in model.schedule(STEPS, 5.0)] == [5] * STEPS
    with pytest.raises(ValueError, match=r"\(4.0, 3.0\) is a pair, .* this model has one transf"):
        tiny_backbone("wan").schedule(STEPS, (4.0, 3.0))


def test_its_entries_are_its_own(
    monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Any
) -> None:
    """By the command line: optimised across the boundary, injected, refused by another model whose
    transformer is configured alike.
    """
    manifest, scales = write_clips(tmp_path, ["left"]), ["--model.guidance_scale", "[4.0,3.0]"]
    (tmp_path / "prompts.txt").write_text("a dog\n")
    words = arguments("fit", tmp_path / "bank", "wan22-experts", manifest=manifest)
    guided = ["--model.window", "1.0", "--model.variable", "rotary_positions", *scales]
    assert ditflow(monkeypatch, *words, *guided) == 0, capfd.readouterr()
    entry = MotionBank(tmp_path / "bank")["left"]
    assert isinstance(entry, BankEntry)
    assert entry.metadata.guidance_scale == (4.0, 3.0) and len(entry.metadata.losses) == STEPS
    check_entry(tiny_backbone("wan22-experts"), entry)
    with pytest.raises(EntryError, match="the entry was optimised on"):
        check_entry(tiny_backbone("wan"), entry)
    prompts, out = tmp_path / "prompts.txt", ["--out", str(tmp_path / "videos")]
    words = arguments("predict", tmp_path / "bank", "wan22-experts", prompts=prompts)
    assert ditflow(monkeypatch, *words, *out) == 0, capfd.readouterr()
    assert list((tmp_path / "videos").glob("*.mp4"))
    words = arguments("fit", tmp_path / "other", "wan", manifest=manifest)
    assert ditflow(monkeypatch, *words, *scales) == 2
    assert "this model has one transformer: give one number" in capfd.readouterr().err
