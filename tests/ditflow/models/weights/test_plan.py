"""Plans for little memory: which are possible, what each takes, which one is chosen, and why."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ditflow.core.sizes import VideoSize
from ditflow.models import ModelError, Work, load_backbone, plan_backbone, sketch_backbone
from ditflow.models.weights import choice
from ditflow.models.weights.plan import LEFT, Plan, Weights, choose, plans
from ditflow.models.weights.work import Activations
from tests.registry import BACKBONES, tiny_folder

SIZE = VideoSize(49, 480, 720)
UPDATE, VIDEO = Work(SIZE, depth=20), Work(SIZE)
WEIGHTS = Weights(blocks=40, block=100, quantised=50, rest=30, encoders=900)
ACTIVATIONS = Activations(depth=20, block=200, given=10, loss=150)


def chosen(memory: float, work: Work = UPDATE, kind: str | None = None, turns: bool = True) -> Plan:
    kept = ACTIVATIONS if work.depth else Activations(0, 200, 10, 0)
    given = (memory / (1 - LEFT), WEIGHTS, kept, work, kind)
    return choose("a model", *given, turns=turns).plan


def peak(plan: Plan) -> int:
    return plan.peak(WEIGHTS, ACTIVATIONS, turns=True)


def test_bytes_of_a_plan_are_sums() -> None:
    """40 blocks, and 20 of them run; the block that runs, or the loss if that is larger."""
    assert peak(Plan()) == 30 + 40 * 100 + 20 * 200 + 200
    assert peak(Plan(checkpointing=True)) == 30 + 40 * 100 + 20 * 10 + 200
    assert peak(Plan("int8", checkpointing=True)) == 30 + 40 * 50 + 20 * 10 + 200 + 100
    own = 30 + 2 * 100
    assert peak(Plan("none", True, True)) == max(own + 20 * 10 + 200, own + 900)
    with_loss = replace(ACTIVATIONS, loss=500)
    assert with_loss.peak(checkpointing=True) == ACTIVATIONS.peak(checkpointing=True) + 300


def test_in_one_memory_all_parts_count_and_both_experts() -> None:
    plan, two = Plan(checkpointing=True), replace(WEIGHTS, experts=2)
    one = plan.peak(WEIGHTS, ACTIVATIONS, turns=False)
    assert one == peak(plan) + 900
    assert plan.peak(two, ACTIVATIONS, turns=False) == one + 4030
    assert plan.peak(two, ACTIVATIONS, turns=True) == peak(plan)


def test_each_plan_is_chosen_where_it_just_fits() -> None:
    """From fast to slow each takes less, else nobody would need it."""
    possible = list(plans(UPDATE, None))
    assert len(possible) == 4
    assert all(peak(slow) < peak(fast) for fast, slow in pairwise(possible))
    for plan in possible[:-1]:
        assert chosen(peak(plan)) == plan
        assert chosen(peak(plan) - 1) != plan


def test_plans_that_would_make_gradients_wrong_do_not_exist() -> None:
    for kind in (None, "none", "int8", "fp8"):
        for plan in plans(UPDATE, kind):  # type: ignore[arg-type]
            assert plan.checkpointing or not (plan.offload or plan.quantised != "none")
        assert not any(plan.checkpointing for plan in plans(VIDEO, kind))  # type: ignore[arg-type]


def test_what_is_asked_for_is_kept_to() -> None:
    assert {plan.quantised for plan in plans(UPDATE, "fp8")} == {"fp8"}
    assert {plan.quantised for plan in plans(UPDATE, "none")} == {"none"}
    kept = replace(UPDATE, checkpointing=False)
    assert list(plans(kept, None)) == [Plan()]
    with pytest.raises(ModelError, match="false goes with whole weights only, and int8"):
        chosen(10**6, kept, "int8")
    assert not any(plan.offload for plan in plans(UPDATE, None, offload=False))


def test_the_choice_says_why_and_what_would_be_faster() -> None:
    weights = Weights(40, 2**28, 2**27, 2**27)
    kept = Activations(20, 2**30, 2**24, 2**20)
    said = choose("a model", 16 * 2**30, weights, kept, UPDATE, None, turns=True).why
    assert said == (
        "whole weights, checkpointing (11.4 GiB of 16 GiB at the peak, estimated): whole weights "
        "would take 31.1 GiB"
    )
    assert choose("a model", 2**40, weights, kept, UPDATE, None, turns=True).why.endswith(
        "it is the fastest"
    )


def test_a_refusal_names_the_smallest_plan_what_it_takes_and_what_to_do() -> None:
    """What it says is needed is enough."""
    weights = Weights(40, 2**28, 2**27, 2**27, encoders=2**20)
    kept = Activations(20, 2**30, 2**24, 2**20)
    with pytest.raises(ModelError) as refused:
        choose("a model", 2**30, weights, kept, UPDATE, None, turns=True)
    assert str(refused.value) == (
        "'a model' at 49x480x720 does not fit into 1 GiB. The smallest plan, whole weights, blocks "
        "that wait on the CPU, checkpointing, needs 2.15 GiB. Use fewer --data.frames, a smaller "
        "--data.size or --data.batch_size, or more memory."
    )
    large = replace(weights, encoders=2**34)
    with pytest.raises(ModelError, match="Use more memory: its encoders alone take 16 GiB"):
        choose("a model", 2**30, large, kept, UPDATE, None, turns=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", BACKBONES)
def test_counted_bytes_are_those_of_the_loaded_weights(kind: str, dtype: torch.dtype) -> None:
    name = str(tiny_folder(kind))
    model = load_backbone(name, device="cpu", dtype=dtype)
    counted = choice.weights_of(sketch_backbone(name, dtype=dtype))
    there = sum(weight.nbytes for weight in model.transformer.parameters())
    assert Plan().weights(counted) == there
    (first, *_) = model.layout.all_blocks(model.transformer)
    assert counted.block == sum(weight.nbytes for weight in first.parameters())


def test_more_frames_and_more_clips_take_more() -> None:
    sketch = sketch_backbone("tiny-rope")
    peaks = [
        Activations.of(
            sketch.spec, sketch.kept, torch.float32, Work(VideoSize(frames, 64, 64), clips, 6)
        ).peak(checkpointing=True)
        for frames, clips in ((9, 1), (25, 1), (25, 2))
    ]
    assert peaks == sorted(peaks) and peaks[2] == 2 * peaks[1]


def test_the_plan_of_a_device_with_less_free_memory_is_for_that(monkeypatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda device: 24 * 2**20)
    assert plan_backbone("tiny-rope", "24GiB", device="cpu", quantised="none").plan.checkpointing


def test_a_backbone_is_loaded_by_its_plan_and_says_so() -> None:
    with pytest.warns(UserWarning, match="the plan for tiny-rope: whole weights, checkpointing"):
        model = load_backbone("tiny-rope", device="cpu", memory="30MiB")
    assert (model.checkpointing, model.spec.quantised) == (True, "")


def test_nothing_is_loaded_where_nothing_fits(monkeypatch) -> None:
    monkeypatch.setattr("ditflow.models.parts.load_transformer", None)
    with pytest.raises(ModelError, match="'tiny-rope' at 25x64x64 does not fit into 8 MiB"):
        load_backbone("tiny-rope", device="cpu", memory="8MiB")
