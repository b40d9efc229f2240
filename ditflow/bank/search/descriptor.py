"""The descriptor of a motion: a vector of one length for all clips, whose products are likeness."""

# F times, H W rows and columns of cells, D = 2 * PARTS * rows * columns numbers

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ditflow.bank.kinds.motion import KeptMotion
    from ditflow.fields.field import MotionField

PARTS, CELLS = 4, (6, 6)  # of a clip's time and of its frame
LENGTH = 2 * PARTS * CELLS[0] * CELLS[1]
VERSION = 1  # of descriptors: a change that gives other ones raises it
STILL = 1e-3  # heights of the frame that content moves in a part, as a root mean square


def descriptor(motion: MotionField | KeptMotion) -> NDArray[Any]:
    """A motion as float32 (D,) of norm 1, or zeros where nothing moves. Needs no torch.

    It says how far content moves in each part of the clip's time, in heights of the frame, on a
    coarse grid. The product of two descriptors is the cosine of the motions: 1 for the same motion
    at any speed, 0 for unrelated ones, -1 for the opposite one.
    """
    import numpy as np

    moved = np.asarray(motion.displacement, np.float32)
    at = [part * (motion.frames - 1) / PARTS for part in range(PARTS + 1)]
    rows, columns = (_means(*sizes) for sizes in zip(CELLS, moved.shape[-2:], strict=True))
    small = rows @ _in_time(moved, motion.times, at) @ columns.T
    heights = np.array([motion.aspect, 1], np.float32)[:, None, None]
    vector: NDArray[Any] = (np.diff(-small, axis=0) * heights).ravel()
    norm = np.float32(np.linalg.norm(vector))
    if norm < STILL * (LENGTH / 2) ** 0.5:
        return np.zeros_like(vector)
    return vector / norm


def _means(count: int, cells: int) -> NDArray[Any]:
    """What turns values of cells into those of `count` cells, (count, cells): means where these are
    fewer, else interpolated.
    """
    import numpy as np

    wide = cells / count
    away = (np.arange(count)[:, None] + 0.5) * wide - (np.arange(cells) + 0.5)
    shares = np.maximum(1 - abs(away) / max(wide, 1), 0)
    means: NDArray[Any] = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return means


def _in_time(values: NDArray[Any], times: Sequence[float], at: Sequence[float]) -> NDArray[Any]:
    """Values (F, ...) at other times, interpolated between neighbours; those of the first time
    before it, and of the last behind it.
    """
    import numpy as np

    places = np.interp(at, times, np.arange(len(times)))
    before = places.astype(int)
    after = np.minimum(before + 1, len(times) - 1)
    share = (places - before).astype(np.float32)[:, None, None, None]
    between: NDArray[Any] = values[before] * (1 - share) + values[after] * share
    return between
