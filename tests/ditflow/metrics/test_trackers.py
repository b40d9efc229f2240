"""Trackers against the exact tracks of the synthetic world.

CoTracker3 cannot be shipped, so its call is checked on a stand-in with its published interface.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datamodules.synthetic import CAMERA_MOTIONS, SPRITE_MOTIONS, World
from ditflow.metrics import TRACKERS, MetricError, Sample, Tracks, load_tracker, motion_fidelity
from ditflow.metrics.trackers import LucasKanade, grid_points

WORLD = World()

HUBCONF = """
import torch

class Predictor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)

    def forward(self, video, grid_size=0, queries=None):
        assert video.dtype == torch.float32 and video.max() > 200
        assert video.shape[:1] + video.shape[2:] == (1, 3, 64, 64)
        count = grid_size**2 if queries is None else queries.shape[1]
        places = torch.zeros(1, 1, count, 2) if queries is None else queries[:, None, :, 1:]
        positions = places.expand(1, video.shape[1], count, 2)
        return positions + self.model.weight.item(), torch.ones(positions.shape[:3]).bool()

def cotracker3_offline(pretrained=True):
    assert not pretrained
    return Predictor()
"""


def test_grid_points_are_the_centres_of_cells() -> None:
    points = grid_points((4, 8), 2)
    assert points.tolist() == [[1.5, 0.5], [5.5, 0.5], [1.5, 2.5], [5.5, 2.5]]


@pytest.mark.parametrize("motion", CAMERA_MOTIONS + SPRITE_MOTIONS)
def test_lucas_kanade_follows_the_world(motion: str) -> None:
    clip = WORLD.clip(3, motion)
    found = load_tracker("lucas-kanade")(clip.frames)
    positions, seen = clip.tracks(found.positions[0])
    both = found.seen & seen
    assert both.sum() > 0.75 * seen.sum()
    error = (found.positions - positions).norm(dim=-1)[both]
    # pixels; a sprite takes points of the background along where it passes
    assert error.median() < 0.8 and error.mean() < 1.6
    assert motion_fidelity(Tracks(positions, seen, (64, 64)), found) > 0.9


def test_lucas_kanade_in_a_still_video_stands_still() -> None:
    still = WORLD.clip(0, "pan").frames[:1].expand(6, -1, -1, -1)
    tracks = load_tracker("lucas-kanade")(still)
    # in flat places there is nothing to find
    assert tracks.seen.float().mean() > 0.95 and (tracks.steps()[0] == 0).all()


def test_lucas_kanade_at_another_size_and_from_given_points() -> None:
    frames = (
        torch.nn.functional.interpolate(
            WORLD.clip(3, "pan").frames.float(), size=(160, 96), mode="bilinear"
        )
        .round()
        .to(torch.uint8)
    )
    points = grid_points((160, 96), 5)
    tracks = LucasKanade()(frames, points)
    assert tracks.size == (160, 96) and torch.equal(tracks.positions[0], points)
    small = LucasKanade()(
        WORLD.clip(3, "pan").frames, (points + 0.5) * torch.tensor([64 / 96, 64 / 160]) - 0.5
    )
    both = tracks.seen & small.seen
    stretched = (small.positions + 0.5) * torch.tensor([96 / 64, 160 / 64]) - 0.5
    assert both.float().mean() > 0.3 and (tracks.positions - stretched)[both].abs().median() < 0.3


def test_a_flat_video_has_no_point_to_follow() -> None:
    flat = torch.full((5, 3, 64, 64), 90, dtype=torch.uint8)
    tracks = load_tracker("lucas-kanade")(flat)
    said = (
        "no point of the reference can be followed from one frame to the next "
        r"\(256 were tried\)"
    )
    with pytest.raises(MetricError, match=said):
        motion_fidelity(tracks, tracks)


def test_a_video_is_tracked_once() -> None:
    tracker, frames = LucasKanade(), WORLD.clip(0, "pan").frames[:3]
    assert tracker(frames) is tracker(frames.clone())
    assert tracker(frames) is not tracker(frames.flip(0))
    assert tracker(frames, torch.ones(1, 2)).positions.shape[1] == 1


def test_exact_tracks_of_the_world() -> None:
    clip, points = WORLD.clip(4, "arc"), grid_points((64, 64), 12)
    known = Tracks(*clip.tracks(points), (64, 64))
    reference, generated = load_tracker("exact").pair(
        Sample(clip.frames, clip.frames, tracks=known)
    )
    assert reference is known and torch.equal(generated.positions[0], known.positions[0])
    assert motion_fidelity(reference, generated) > 0.95
    with pytest.raises(MetricError, match="exact tracks are not known"):
        load_tracker("exact").pair(Sample(clip.frames, clip.frames))


def test_unknown_tracker() -> None:
    said = "unknown tracker 'raft'; there are lucas-kanade, cotracker3, exact"
    with pytest.raises(MetricError, match=said):
        load_tracker("raft")


def test_cotracker_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    said = (
        "cotracker3 is not installed .*forbids commercial use.* "
        "install it once with `python -c .*torch.hub.load"
    )
    with pytest.raises(MetricError, match=said) as caught:
        load_tracker("cotracker3")
    assert "lucas-kanade" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_cotracker_in_the_published_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hub = tmp_path / "hub"
    code, weights = hub / "facebookresearch_co-tracker_main", hub / "checkpoints"
    code.mkdir(parents=True)
    weights.mkdir()
    (code / "hubconf.py").write_text(HUBCONF)
    state = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([0.0])}
    torch.save(state, weights / "scaled_offline.pth")
    tracker, frames = load_tracker("cotracker3"), WORLD.clip(0, "pan").frames[:4]
    tracks = tracker(frames)
    assert tracks.positions.shape == (4, 55 * 55, 2) and tracks.size == (64, 64)
    assert tracks.seen.shape == (4, 55 * 55)
    assert (tracks.positions == 2).all()  # the weights are those of the file
    assert tracker(frames, torch.ones(5, 2)).positions.shape == (4, 5, 2)


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_says_its_name(name: str) -> None:
    assert name.split("-")[0] in TRACKERS[name].name
