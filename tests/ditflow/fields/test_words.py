"""Words of motions in closed form, and of clips of the synthetic world."""

import warnings

import pytest
import torch

from datamodules.synthetic import CAMERA_MOTIONS, MOTIONS, SPRITE_MOTIONS, World
from ditflow.bank.search.phrases import told
from ditflow.fields.sources import field_of
from ditflow.fields.words import described
from tests.benchmarks.words import is_right
from tests.ditflow.fields.analytic import field, moving


@pytest.mark.parametrize(
    ("shift", "zoom", "degrees", "words"),
    [
        ((0, 0), 1, 0, "still"),
        ((0.01, 0), 1.01, 1, "still"),
        ((-0.2, 0), 1, 0, "pans right"),
        ((0.05, 0), 1, 0, "pans left slowly"),
        ((0, 0.5), 1, 0, "tilts up fast"),
        ((-0.2, -0.2), 1, 0, "pans right, tilts down"),
        ((0, 0), 1.3, 0, "zooms in"),
        ((0, 0), 0.95, 0, "zooms out slowly"),
        ((0, 0), 1, 30, "rolls counterclockwise"),
        ((0, 0), 1, -80, "rolls clockwise fast"),
        ((0.2, 0), 1.3, 30, "pans left, zooms in, rolls counterclockwise"),
    ],
)
def test_the_camera(shift: tuple[float, float], zoom: float, degrees: float, words: str) -> None:
    assert described(moving(shift, zoom, degrees)) == words


def test_things_move_beside_the_camera() -> None:
    moved = moving().displacement
    moved[:, 1, 2:8, 2:8] = 0.2  # what is here was below
    assert described(field(moved)) == "the camera is still; one thing moves up"
    moved[:, 1, 14:20, 20:26] = 0.2
    assert described(field(moved)) == "the camera is still; two things move up"
    panned = moving((-0.2, 0)).displacement
    assert described(field(panned + moved)) == "pans right; two things move up"


def test_a_speck_and_what_is_not_trusted_are_no_things() -> None:
    moved = moving().displacement
    moved[:, 0, 3, 3:6] = 0.2  # 3 of 768 cells
    moved[:, 0, 10:18, 10:18] = 0.2
    whole = field(moved)
    trust = torch.ones_like(whole.confidence)
    trust[:, 10:18, 10:18] = 0.2
    assert described(whole.replaced(moved, trust)) == "still"


def test_a_thing_in_two_parts_that_distrust_joins_is_one() -> None:
    moved = moving().displacement
    moved[:, 1, 4:12, 4:16] = 0.2
    whole = field(moved)
    trust = torch.ones_like(whole.confidence)
    trust[:, :, 9:11] = 0.2
    assert described(whole.replaced(moved, trust)) == "the camera is still; one thing moves up"


def test_a_drift_of_the_flow_under_a_fast_camera_is_no_thing() -> None:
    moved = moving(degrees=90).displacement
    moved[:, 1, 9:15, 13:19] += 0.1  # where the turn itself moves little
    assert described(field(moved)) == "rolls counterclockwise fast"


def test_a_motion_that_comes_back() -> None:
    moved = moving((0.3, 0)).displacement
    assert described(field(moved[[0, 2, 0]])) == "pans left, and comes back"
    assert described(field(moved[[0, 2, 1]])) == "pans left"


def test_too_many_to_count() -> None:
    moved = moving().displacement
    for row in range(2):
        for column in range(3):
            moved[:, 0, 12 * row :, 10 * column :][:, :4, :4] = 0.1
    assert described(field(moved)) == "the camera is still; many things move"


@pytest.mark.parametrize(
    ("motion", "words"),
    [
        ("pan", "pans right"),
        ("zoom", "zooms in"),
        ("rotation", "rolls counterclockwise"),
        ("drift", "the camera is still; one thing moves down"),
        ("bounce", "and comes back"),
    ],
)
def test_clips_of_the_world(motion: str, words: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        assert words in described(field_of(World().clip(3, motion).frames))


@pytest.mark.parametrize("motion", MOTIONS)
def test_sprites_are_things_and_cameras_are_not(motion: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        words = [described(field_of(World().clip(seed, motion).frames)) for seed in (20, 22)]
    assert [text.count("one thing moves") for text in words] == 2 * [int(motion in SPRITE_MOTIONS)]
    assert "things" not in "".join(words)


@pytest.mark.parametrize("motion", CAMERA_MOTIONS)
def test_cameras_are_named_as_the_world_moves_them(motion: str) -> None:
    """The benchmark counts many more."""
    clips = [World().clip(seed, motion) for seed in (1000, 1001)]
    with warnings.catch_warnings(action="ignore"):
        words = [told(described(field_of(clip.frames))) for clip in clips]
        opposite = [told(described(field_of(clip.frames.flip(0)))) for clip in clips]
    assert all(map(is_right, clips, words))
    assert not any(map(is_right, clips, opposite))


def test_a_motion_beside_a_much_stronger_one_is_not_named() -> None:
    assert described(moving((0.02, 0), 1.6)) == "zooms in"
    assert described(moving((0.08, 0), 1.6)) == "pans left slowly, zooms in"
