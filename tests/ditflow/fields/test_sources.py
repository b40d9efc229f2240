"""All sources give the same kind of field, and the same motion of the same clip."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.synthetic import SyntheticClip, World
from ditflow.core.sizes import Compression
from ditflow.fields import raft
from ditflow.fields.field import FieldError, resized
from ditflow.fields.flow import optical_flow
from ditflow.fields.sources import (
    DIS,
    MOST,
    SIDE,
    ByAttention,
    ByFlow,
    ByTracks,
    Source,
    field_of,
    look_for_cuts,
    reduced,
)

WORLD = World()


def same(first: Tensor, second: Tensor) -> Tensor:
    """No motion, whatever the frames."""
    return torch.zeros(2, *first.shape[-2:])


def tracked(clip: SyntheticClip, apart: float) -> ByTracks:
    """The exact tracks of points of a clip, so many pixels apart."""
    side = torch.arange(apart / 2, 64, apart)
    return ByTracks("exact", lambda _: clip.tracks(torch.cartesian_prod(side, side)))


def seen(flow: Tensor) -> ByAttention:
    """Attention motion flow that is given, of a model with tokens of 16 pixels."""
    return ByAttention("amf", lambda _: flow, Compression())


@pytest.mark.filterwarnings("ignore:the clip is still")
def test_a_long_video_keeps_few_times() -> None:
    frames = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    field = field_of(frames, ByFlow("none", same))
    assert len(field.times) == MOST
    assert (field.times[0], field.times[-1]) == (0, 199)


def test_large_frames_are_reduced_and_small_ones_kept() -> None:
    small = WORLD.clip(0).frames
    assert reduced(small) is small
    assert reduced(torch.zeros(2, 3, 2 * SIDE, 4 * SIDE)).shape == (2, 3, SIDE, 2 * SIDE)


@pytest.mark.parametrize("motion", ["pan", "zoom", "rotation"])
def test_exact_tracks_give_the_exact_motion(motion: str) -> None:
    clip = WORLD.clip(3, motion)
    field = field_of(clip.frames, tracked(clip, 4))
    exact = torch.stack([clip.flow(int(time), 0) / 64 for time in field.times])
    exact = functional.avg_pool2d(exact, 4)  # of an affine motion, that at the centre of a cell
    # float32 all along; where nothing is near, the ridge of the robust fit
    torch.testing.assert_close(field.displacement, exact, rtol=0, atol=1e-4)


def test_tracks_of_a_thing_move_it_alone() -> None:
    clip = WORLD.clip(3, "drift")
    field = field_of(clip.frames, tracked(clip, 2))
    exact = torch.stack([clip.flow(int(time), 0) / 64 for time in field.times])
    error = (field.displacement - resized(exact, (16, 16))).norm(dim=1)
    assert error.mean() < 0.25 * resized(exact, (16, 16)).norm(dim=1).mean()


@pytest.mark.parametrize(
    ("positions", "visible", "words"),
    [
        ((5, 9, 2), (5, 8), "tracks of a video of 5 frames have positions"),
        ((4, 9, 2), (4, 9), "tracks of a video of 5 frames have positions"),
        ((5, 2, 2), (5, 2), "2 points are visible"),
    ],
)
def test_tracks_that_do_not_do_are_refused(
    positions: tuple[int, ...], visible: tuple[int, ...], words: str
) -> None:
    tracks = torch.zeros(positions), torch.ones(visible, dtype=torch.bool)
    with pytest.raises(FieldError, match=words):
        field_of(WORLD.clip(0).frames[:5], ByTracks("exact", lambda _: tracks))


def test_attention_motion_flow_of_a_shift_is_that_shift() -> None:
    frames = WORLD.clip(0).frames[:9].repeat(1, 1, 2, 2)[..., :96]  # 8 x 6 tokens of 16 pixels
    times = Compression().latent_times(9)
    shift = torch.tensor([1.0, 0.0])  # tokens a frame
    steps = torch.arange(3.0)
    apart = steps[None, :] - steps[:, None]  # (F, F), from i to j
    flow = (apart[..., None] * shift)[:, :, None].expand(3, 3, 48, 2)
    field = field_of(frames, seen(flow), "a")
    wanted = (-steps[:, None] * shift / 6)[..., None, None].expand(3, 2, 8, 6)
    assert (field.times, field.aspect, field.source.method) == (times, 0.75, "amf")
    assert (field.confidence == 1).all()
    torch.testing.assert_close(field.displacement, wanted)


def test_attention_motion_flow_of_another_grid_is_refused() -> None:
    with pytest.raises(FieldError, match="does not fit a grid of 3x4x4 tokens"):
        field_of(WORLD.clip(0).frames[:9], seen(torch.zeros(3, 3, 9, 2)))


SOURCES = [DIS, ByFlow("none", same), tracked(WORLD.clip(0), 4), seen(torch.zeros(3, 3, 16, 2))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_refuses_a_cut_and_one_frame(source: Source) -> None:
    frames = torch.cat([WORLD.clip(0).frames[:5], WORLD.clip(1).frames[:4]])
    if source.name != "none":  # a flow that sees no motion has lost nothing at a cut
        with pytest.raises(FieldError, match="clip 'a' has a cut at frame 5"):
            field_of(frames, source, "a")
    with pytest.raises(FieldError, match="clip 'a' has one frame"):
        field_of(frames[:1], source, "a")


@pytest.mark.filterwarnings("ignore:clip 'a' is still")
@pytest.mark.filterwarnings("ignore:clip 'a' can be followed in part only")
@pytest.mark.parametrize("source", [tracked(WORLD.clip(0), 4), seen(torch.zeros(7, 7, 16, 2))])
def test_sources_without_flow_warn_of_changing_brightness(source: Source) -> None:
    frames = WORLD.clip(0).frames.clone()
    frames[4:] = (frames[4:] * 0.8).to(torch.uint8)
    with pytest.warns(UserWarning, match="clip 'a' changes its brightness at frame 4"):
        field_of(frames, source, "a")


def test_cuts_are_looked_for_where_frames_differ_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(
        "ditflow.fields.detection.optical_flow",
        lambda *frames: measured.append(1) or optical_flow(*frames),
    )
    clips = [WORLD.clip(seed).frames for seed in range(4)]
    for frames in clips:
        look_for_cuts(frames)
    assert not measured
    with pytest.raises(FieldError, match="clip 'b' has a cut at frame 12"):
        look_for_cuts(torch.cat([clips[0][:12], clips[1][12:]]), "b")
    assert len(measured) == 4  # one step, both ways, as it is and in even light


def test_raft_without_torchvision_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(FieldError, match="pip install torchvision, or use source 'dis'"):
        raft.raft_flow()


class Shift(nn.Module):
    """Stands in for RAFT: its flow is a weight times the size that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(2))

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        assert all(side % 8 == 0 and side >= 128 for side in first.shape[-2:])
        assert -1 <= first.min() and first.max() <= 1
        size = torch.tensor([first.shape[-1], first.shape[-2]])
        flow = (self.share * size)[None, :, None, None].expand(1, 2, *first.shape[-2:])
        return [0 * flow, flow]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for torchvision's optical flow, and where its cache would be."""
    url = "https://example.org/models/raft_small.pth"
    module = SimpleNamespace(
        Raft_Small_Weights=SimpleNamespace(DEFAULT=SimpleNamespace(url=url)),
        raft_small=lambda weights, progress: Shift(),
    )
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", module)
    for parent in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, parent, SimpleNamespace(__path__=[]))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints" / "raft_small.pth"


def test_raft_reads_the_cache_and_keeps_the_size(torchvision: Path) -> None:
    with pytest.raises(FieldError, match=f"weights of raft_small are missing at {torchvision}"):
        raft.raft_flow()
    torchvision.parent.mkdir()
    torch.save({"share": torch.tensor([0.1, 0.2])}, torchvision)
    first, second = torch.randint(0, 256, (2, 3, 30, 50), dtype=torch.uint8)
    flow = raft.raft_flow()(first, second)
    wanted = torch.tensor([5.0, 6.0])[:, None, None].expand(2, 30, 50)  # shares of 50 and of 30
    torch.testing.assert_close(flow, wanted)


def test_raft_of_torchvision_gives_a_flow() -> None:
    library = pytest.importorskip("torchvision.models.optical_flow")
    flow = raft.flow_of(library.raft_small(weights=None, progress=False).eval())
    assert flow(*WORLD.clip(0).frames[:2]).shape == (2, 64, 64)
