"""3D convolutions of small videos on a CPU, without large temporaries.

PyTorch uses oneDNN for a float32 convolution of one sample only if channels x frames x rows is
above 20,480. Columns do not count, since the rule was made for images. Below that, `slow_conv3d`
copies its input 27 times for a kernel of 3 x 3 x 3. Decoding 25 frames of 64 x 64 then takes 1.2 GB
in blocks of up to 108 MB. The C library returns such blocks to the system at each free and takes
them again page by page: 240,000 page faults a video, and nine tenths of the decoder's time. oneDNN
copies nothing.
"""

# B batch, C channels, T frames, Y X rows and columns

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class DirectConvolution(TorchFunctionMode):
    """A context in which oneDNN computes 3D convolutions of float32 on a CPU.

    Results equal those of PyTorch's own choice but for rounding. Without oneDNN, and for all other
    functions, nothing changes.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv3d and len(args) == 7 and not kwargs and _fits(*args):
            inputs, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(inputs, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _fits(inputs: torch.Tensor, weight: torch.Tensor, *rest: Any) -> bool:
    """Whether oneDNN can compute it and gains by it: a kernel of 1 x 1 x 1 copies nothing."""
    return (
        torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()  # as set by torch.backends.mkldnn.flags
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and weight[0, 0].numel() > 1
        and inputs.ndim == 5
        and not isinstance(rest[2], str)  # padding
    )
