"""Which dtypes a device computes natively, and the dtype that a backbone is loaded in.

A CPU without bfloat16 instructions converts every number there and back. A convolution of the
embedded VAE then takes some sixty times as long as in float32.
"""

from __future__ import annotations

import platform

import torch

from ditflow.models.loading import ModelError
from ditflow.warning import warn

AMPERE = (8, 0)  # the first compute capability with bfloat16
PASCAL = (6, 0)  # the first one that does not compute float16 in float32's units

_warned: set[torch.dtype] = set()


def default_dtype(device: torch.device) -> torch.dtype:
    """The dtype of a backbone unless one is given: float32 on a CPU, else `native_dtype`.

    A CPU gets float32 because accuracy is worth its time.
    """
    return torch.float32 if device.type == "cpu" else native_dtype(device)


def dtype_of(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """A dtype that may be given by name; None is the device's default. Raises ModelError."""
    if dtype is None:
        return default_dtype(device)
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"unknown dtype {dtype!r}: give float32, bfloat16 or float16.")
    return found


def native_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that the device computes natively: bfloat16, else float32.

    float16 is never chosen, because its range is too small for backbones trained in bfloat16. For a
    backbone trained in float16 it is faster on GPUs before Ampere: ask for it by name.
    """
    return torch.bfloat16 if is_native(torch.bfloat16, device) else torch.float32


def is_native(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device has instructions for the dtype that PyTorch uses.

    On a CPU the variables ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA can take instructions away.
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
    """`is_native` for a CPU: oneDNN accepts bfloat16 on any AVX-512, also without instructions."""
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
    """Warn, once per process and dtype, that the device emulates the dtype of a backbone."""
    if dtype in _warned or is_native(dtype, device):
        return
    _warned.add(dtype)
    kind, fix = str(dtype).removeprefix("torch."), "--model.dtype float32, or dtype='float32'"
    what = "this processor" if device.type == "cpu" else f"{device}"
    warn(
        f"{what} has no {kind} instructions: {name} in {kind} is many times slower here than in "
        f"float32. Use {fix} in Python."
    )
