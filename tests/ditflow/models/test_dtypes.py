"""The dtypes that a device computes natively, for made-up processors and GPUs."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from ditflow import load_backbone
from ditflow.models import dtypes
from ditflow.models.dtypes import default_dtype, is_native, native_dtype, warn_if_emulated
from tests.registry import tiny_folder

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


def processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, width: str, onednn: bool, own: bool
) -> None:
    """Pretend to be a processor. `onednn` accepts 16 bits; with `own` it lists AVX512_BF16."""
    taken = {f"_is_mkldnn_{name}_supported": lambda: onednn for name in ("bf16", "fp16")}
    monkeypatch.setattr(dtypes.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: width)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**taken))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: own)


@pytest.fixture
def emulating(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "x86_64", "AVX2", onednn=False, own=False)
    monkeypatch.setattr(dtypes, "_warned", set())


@pytest.mark.parametrize(
    ("machine", "width", "onednn", "own", "native"),
    [
        ("x86_64", "AVX512", True, True, BF16),
        ("x86_64", "AVX512", True, False, FP32),  # converted there and back
        ("x86_64", "AVX2", True, True, FP32),  # ATEN_CPU_CAPABILITY=avx2
        ("x86_64", "AVX512", False, True, FP32),  # ONEDNN_MAX_CPU_ISA=AVX2
        ("x86_64", "DEFAULT", False, False, FP32),
        ("aarch64", "SVE256", True, False, BF16),
        ("aarch64", "DEFAULT", False, False, FP32),
    ],
)
def test_processors(
    machine: str, width: str, onednn: bool, own: bool, native: torch.dtype, monkeypatch
) -> None:
    processor(monkeypatch, machine, width, onednn, own)
    assert native_dtype(CPU) == native
    assert default_dtype(CPU) == FP32 and is_native(FP32, CPU)


@pytest.mark.parametrize(
    ("capability", "native", "half"),
    [((5, 2), FP32, False), ((7, 5), FP32, True), ((8, 0), BF16, True), ((9, 0), BF16, True)],
)
def test_gpus(capability: tuple[int, int], native: torch.dtype, half: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_dtype(GPU) == default_dtype(GPU) == native
    assert is_native(FP16, GPU) is half


def test_this_processor_is_asked_without_error() -> None:
    assert native_dtype(CPU) in (BF16, FP32) and is_native(FP16, CPU) in (True, False)


def test_an_emulated_dtype_gets_one_warning_with_the_fix(emulating: None) -> None:
    with pytest.warns(UserWarning) as caught:
        for _ in range(2):
            load_backbone(str(tiny_folder("rotary")), device="cpu", dtype="bfloat16")
    (sentence,) = [str(warning.message) for warning in caught if "instr" in str(warning.message)]
    assert sentence.startswith("this processor has no bfloat16 instructions: ")
    assert sentence.endswith("Use --model.dtype float32, or dtype='float32' in Python.")


def test_a_native_dtype_gets_none(emulating: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_emulated("tiny", FP32, CPU)
        warn_if_emulated("tiny", BF16, torch.device("meta"))
