"""Which number formats a device computes with instructions of its own.

A processor without bfloat16 instructions converts every number there and back: a convolution of
the embedded VAE then takes some sixty times as long as in float32.
"""

from __future__ import annotations

import platform
import warnings

import torch

AMPERE = (8, 0)  # the first compute capability with bfloat16
PASCAL = (6, 0)  # the first one that does not do float16 in float32's units

_warned: set[torch.dtype] = set()


def default_dtype(device: torch.device) -> torch.dtype:
    """What a backbone is loaded in unless told: float32 on a CPU, so that results are accurate
    wherever there is time, and the native dtype elsewhere."""
    return torch.float32 if device.type == "cpu" else native_dtype(device)


def native_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that the device computes natively: bfloat16, or float32.

    Never float16, whose range is too small for backbones that were trained in bfloat16. On GPUs
    before Ampere it is the faster choice for one that was trained in it: ask for it by name.
    """
    return torch.bfloat16 if is_native(torch.bfloat16, device) else torch.float32


def is_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device has instructions for the dtype, and PyTorch uses them.

    On a CPU ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA count, which take instructions away.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return True
    if device.type == "cpu":
        return _on_cpu(dtype)
    if device.type == "cuda":
        needed = AMPERE if dtype == torch.bfloat16 else PASCAL
        return torch.cuda.get_device_capability(device) >= needed
    return True


def _on_cpu(dtype: torch.dtype) -> bool:
    """oneDNN takes bfloat16 on all of AVX-512, and has instructions for it on some of that."""
    if not torch.backends.mkldnn.is_available():
        return False
    name = "bf16" if dtype == torch.bfloat16 else "fp16"
    taken = bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported")())
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return taken
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    own = dtype == torch.float16 or bool(torch.cpu._is_avx512_bf16_supported())
    return taken and wide and own


def warn_if_emulated(name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Warn once a process that a backbone is in a dtype that the device has to emulate."""
    if dtype in _warned or is_native(dtype, device):
        return
    _warned.add(dtype)
    kind, fix = str(dtype).removeprefix("torch."), "--model.dtype float32, or dtype='float32'"
    what = "this processor" if device.type == "cpu" else f"{device}"
    warnings.warn(
        f"{what} has no {kind} instructions: {name} in {kind} is many times slower here than in "
        f"float32. Use {fix} in Python.",
        stacklevel=3,
    )
