"""`--model.compile`: the same entries but for rounding, or one sentence."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from ditflow.bank import MotionBank
from ditflow.models import Model, registry
from tests.clips import arguments, write_clips
from tests.closeness import assert_close_in_norm

COMPILE = ["--model.compile", "true"]


def test_entries_are_the_same_and_blocks_compile_once(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()  # runs what it is given, without a C++ compiler
    monkeypatch.setattr(registry, "check_compiler", lambda _: None)
    monkeypatch.setattr(Model, "compile", partialmethod(Model.compile, backend=counter))
    manifest = write_clips(tmp_path, ["left", "right"])
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a dog\n")
    for name, options in (("stock", []), ("compiled", COMPILE)):
        fit = arguments("fit", tmp_path / name, manifest=manifest, batch_size=1)
        code, _, errors = run(*fit, *options)
        assert code == 0, errors
    predict = arguments("predict", tmp_path / "stock", prompts=prompts)
    code, said, errors = run(*predict, "--out", tmp_path / "videos", *COMPILE)
    assert (code, "2 of 2 done" in said) == (0, True), errors
    assert counter.frame_count == 3  # with gradients, without, and for `predict` in inference mode
    stock, compiled = (MotionBank(tmp_path / name) for name in ("stock", "compiled"))
    assert list(stock) == list(compiled) == ["left", "right"]
    for name in stock:
        pairs = zip(compiled[name].parameters, stock[name].parameters, strict=True)
        for ours, other in pairs:
            assert_close_in_norm(ours.float(), other.float(), largest=1.0)


def test_without_a_compiler_nothing_begins(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", compile)
    manifest = write_clips(tmp_path, ["left"])
    code, _, errors = run(*arguments("fit", tmp_path / "bank", manifest=manifest), *COMPILE)
    assert (code, len(errors.strip().splitlines())) == (2, 1), errors
    assert "install a C++ compiler, such as g++, or leave out compile." in errors
    assert not list(tmp_path.glob("bank/*.safetensors"))
