"""Savings: what each of them leaves out, that without them nothing changes, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ditflow.core.schedule import DenoisingSchedule
from ditflow.motion import AttentionMotionFlow, SpatialMarginalMean
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.recipe import Choices
from ditflow.sampling.savings import Kept, Savings, Updates
from ditflow.sampling.state import State
from tests.ditflow.sampling.test_optimise import Run, guidance_of
from tests.registry import tiny_backbone

ALL = "reuse 4 0.9, stop 0.02, pairs anchors, window 5, scores bfloat16"


def test_words_and_values_are_the_same() -> None:
    every = Savings(4, 0.9, 0.02, "anchors", 5, "bfloat16")
    assert Savings.parsed(ALL) == every and str(every) == ALL
    assert Savings.parsed(" , stop .02,reuse 3") == Savings(reuse=3, stop=0.02)
    assert Savings.parsed("") == Savings() and str(Savings()) == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("reuse", "a saving is 'reuse', but reuse takes UPDATES, from 2 up, and perhaps a COSINE."),
        ("reuse 1", "'reuse 1', but reuse takes UPDATES, from 2 up"),
        ("reuse 2.5", "'reuse 2.5', but"),
        ("reuse 2 nan", "'reuse 2 nan', but"),
        ("stop 1", "'stop 1.0', but stop takes SHARE, above 0 and below 1"),
        ("pairs all of them", "'pairs all of them', but pairs takes neighbours or anchors"),
        ("pairs some", "'pairs some', but"),
        ("window 0", "'window 0', but window takes TOKENS, from 1 up"),
        ("scores float16", "'scores float16', but scores takes bfloat16"),
        ("stop .1, stop .2", "the saving stop is said twice"),
        ("sleep 8", "unknown saving 'sleep 8'; there are reuse UPDATES"),
    ],
)
def test_words_that_make_no_sense(words: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Savings.parsed(words)


def test_savings_of_scores_are_of_a_signal_that_has_them() -> None:
    backbone = tiny_backbone("rotary")
    for words in ("pairs neighbours", "window 2", "scores bfloat16"):
        choices = Choices(signal=SpatialMarginalMean(2), savings=Savings.parsed(words))
        with pytest.raises(ValueError, match="savings of the signal amf, and the signal is smm"):
            choices.on(backbone)
    Choices(signal=SpatialMarginalMean(2), savings=Savings.parsed("reuse 2, stop .1")).on(backbone)


class Counted:
    """How often a transformer runs up to a block, and back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.losses, self.gradients = 0, 0
        loss, keep = Savings.loss, Updates.keep

        def counted_loss(*given: object) -> Tensor:
            self.losses += 1
            return loss(*given)

        def counted_keep(*given: object) -> None:
            self.gradients += 1
            keep(*given)

        monkeypatch.setattr(Savings, "loss", counted_loss)
        monkeypatch.setattr(Updates, "keep", counted_keep)


def updated(savings: str, names: list[str] | None = None, **changed: object) -> State:
    given = {"inner_steps": 3, "window": 1.0} | changed
    guidance = guidance_of("rotary_positions", savings=Savings.parsed(savings), **given)
    return Run("rotary", guidance, *([names] if names else [])).states()[-1]


@pytest.mark.parametrize(
    ("savings", "gradients"),
    [("", 12), ("reuse 2", 6), ("reuse 5", 3), ("reuse 5 -1", 4), ("reuse 5 1", 12)],
)
def test_a_gradient_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, savings: str, gradients: int
) -> None:
    """Of 4 steps with 3 updates each, over steps too. Gradients that are always alike serve 1, 2, 4
    and 5 of them; those that never are serve one each.
    """
    count = Counted(monkeypatch)
    state = updated(savings, ["car"])
    assert count.losses == count.gradients == gradients
    assert all(losses.shape == (3, 1) for losses in state.losses)
    assert len(torch.stack(state.losses).unique()) == gradients  # a spared one repeats its loss
    if "-1" not in savings:
        assert Savings.parsed(savings).gradients(12) == gradients


def test_the_first_update_is_exact_and_the_next_goes_on_along_it() -> None:
    """By plain gradient descent the second update with the same gradient is as long as the
    first."""
    size = {"learning_rate": (10.0, 10.0), "window": (0, 1), "update": "sgd"}
    once, twice = (updated(words, inner_steps=n, **size) for words, n in (("", 1), ("reuse 2", 2)))
    start = Run("rotary", guidance_of("rotary_positions")).state.parameter
    first, both = (state.history[0] - start for state in (once, twice))
    # two roundings of positions below 8
    torch.testing.assert_close(both, 2 * first, rtol=0, atol=4 * 2**-21)
    assert first.abs().max() > 1e-3


@pytest.mark.parametrize("savings", ["reuse 4 .5", "reuse 2 .9, stop .05"])
def test_no_clip_depends_on_its_batch(savings: str) -> None:
    """What is spared is decided clip by clip. By plain gradient descent, which rounding does not
    grow in as it does in Adam."""
    given = {"update": "sgd", "learning_rate": (10.0, 10.0), "inner_steps": 4, "window": 0.5}
    together = updated(savings, **given)
    for clip, name in enumerate(["car", "swan", "dance"]):
        alone = updated(savings, [name], **given)
        for ours, theirs in zip(alone.history, together.history, strict=True):
            torch.testing.assert_close(ours[0], theirs[clip], rtol=0, atol=1e-4)


def test_a_run_that_takes_gradients_again_goes_on_bit_by_bit() -> None:
    guidance = guidance_of(
        "rotary_positions", inner_steps=1, window=1.0, savings=Savings(reuse=3, alike=0.0)
    )
    run = Run("rotary", guidance, ["car"])
    states = run.states()
    assert "gradient" in states[2].tensors()
    again = run.step(run.step(State.from_tensors(states[2].tensors())))
    for name, tensor in states[4].tensors().items():
        torch.testing.assert_close(again.tensors()[name], tensor, rtol=0, atol=0)


def test_updates_end_where_the_loss_no_longer_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that no loss falls by ends each step after its first update, at the cost of one more
    look; nothing after it moves the parameter."""
    count = Counted(monkeypatch)
    state = updated("stop .999", ["car"], window=(0, 1))
    assert (count.losses, count.gradients) == (2, 1)
    once = updated("", ["car"], window=(0, 1), inner_steps=1)
    torch.testing.assert_close(state.history[0], once.history[0], rtol=0, atol=0)
    assert state.losses[0].eq(state.losses[0][0]).all() and len(state.losses[0]) == 3


def test_a_clip_that_has_stopped_stays_while_others_go_on() -> None:
    parameter = torch.zeros(2, 3).requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    updates = Updates(Savings(stop=0.5), None)
    for losses in ([4.0, 4.0], [1.0, 3.0], [0.1, 0.1]):
        if updates.due and not updates.stop(torch.tensor(losses)):
            updates.keep(torch.tensor(losses), torch.ones(2, 3))
        updates.take(optimizer, parameter)
    torch.testing.assert_close(parameter[:, 0], torch.tensor([-3.0, -1.0]))
    assert torch.stack(updates.losses).T.tolist() == [[4.0, 1.0, pytest.approx(0.1)], [4.0] * 3]
    assert isinstance(updates.kept, Kept) and updates.stopped.tolist() == [False, True]


def test_the_cost_is_that_of_the_gradients() -> None:
    backbone = tiny_backbone("rotary")
    schedule: DenoisingSchedule = backbone.schedule(20)
    guidance = MotionGuidance(AttentionMotionFlow(2), window=0.5, inner_steps=5)

    def updates(savings: str) -> float:
        given = replace(guidance, savings=Savings.parsed(savings))
        looks = replace(given, inner_steps=1, savings=Savings(reuse=10))
        return given.forward_equivalents(schedule, backbone.spec) - looks.forward_equivalents(
            schedule, backbone.spec
        )

    fresh = updates("") / 49  # 50, but for the one of the look
    assert [updates(f"reuse {n}") for n in (2, 3, 50)] == pytest.approx(
        [24 * fresh, 16 * fresh, 0.0]
    )
    assert updates("reuse 5 .9") == updates("stop .1") == updates("pairs neighbours") == updates("")


def test_savings_are_in_the_provenance_and_in_words() -> None:
    recipe = Choices(savings=Savings(reuse=3)).on(tiny_backbone("rotary"))
    assert recipe.provenance["savings"] == "reuse 3" and "approximated: reuse 3" in str(recipe)
    exact = Choices().on(tiny_backbone("rotary"))
    assert exact.provenance["savings"] == "" and "approximated" not in str(exact)
