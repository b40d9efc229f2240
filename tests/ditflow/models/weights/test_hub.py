"""Errors for hub ids. The answers of the hub's client are made up, and no network is used. What the
hub has stands in its local cache.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from diffusers import WanTransformer3DModel
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from ditflow.models import ModelError, backbone_spec, load_backbone, sketch_backbone
from ditflow.models.weights import memory
from tests.registry import tiny_folder

RESPONSE = httpx2.Response(404, request=httpx2.Request("HEAD", "https://huggingface.co"))
OFFLINE = (
    "the hub cannot be reached .*download it first: "
    "`hf download nobody/nothing --local-dir nothing`; then give the folder 'nothing'"
)
NOWHERE = "there is no backbone 'nobody/nothing'.* the hub has nothing by that id. Check the name"
NO_BACKBONE = "'nobody/nothing' on the hub is not a backbone: it has no model_index.json"


def answers(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def ask(*_: object, **__: object) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", ask)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx2.ConnectError("no network"), OFFLINE),
        (httpx2.ReadTimeout("too slow"), OFFLINE),
        (OfflineModeIsEnabled("offline"), OFFLINE),
        (RepositoryNotFoundError("404", response=RESPONSE), NOWHERE),
        (GatedRepoError("403", response=RESPONSE), "is gated on the hub: accept its terms"),
        (RemoteEntryNotFoundError("404", response=RESPONSE), NO_BACKBONE),
    ],
)
def test_each_mistake_has_its_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    answers(monkeypatch, error)
    began = time.monotonic()
    with pytest.raises(ModelError, match=said):
        load_backbone("nobody/nothing")
    assert time.monotonic() - began < 5 and not caplog.records
    assert logging.getLogger("huggingface_hub").level != logging.ERROR


class Hub:
    """A cache of the hub that holds one model, tiny/wan or another kind."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.name, commit = f"tiny/{kind}", "0" * 40
        self.folder = folder / f"models--tiny--{kind}/snapshots/{commit}"
        shutil.copytree(tiny_folder(kind), self.folder)
        (self.folder.parents[1] / "refs").mkdir()
        (self.folder.parents[1] / "refs/main").write_text(commit)

    def change(self, file: str, **values: Any) -> None:
        whole = json.loads((self.folder / file).read_text())
        (self.folder / file).write_text(json.dumps(whole | values))

    def without_weights(self) -> None:
        for file in self.folder.glob("*/*.safetensors"):
            file.unlink()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Hub]:
    """Makes the hub hold a kind of model."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return lambda kind: Hub(tmp_path / "hub", kind)


@pytest.mark.parametrize("kind", ["wan", "wan-i2v", "wan22-experts", "sinusoidal"])
def test_a_hub_id_is_counted_by_its_configurations_as_its_files_are(
    kind: str, hub: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts, although no weights are there."""
    found: list[dict[str, Counter[str]]] = []

    def counted(name: str, numbers: dict[str, Counter[str]], *_: object, **__: object) -> None:
        found.append({part: Counter(all=counts.total()) for part, counts in numbers.items()})

    monkeypatch.setattr("ditflow.models.registry.check_fits", counted)
    load_backbone(str(tiny_folder(kind)))
    there = hub(kind)
    spec = load_backbone(there.name).spec
    assert found[0] == found[1] and spec.name == there.name
    there.without_weights()
    with pytest.raises(ModelError, match="the transformer of backbone .* cannot be loaded"):
        load_backbone(there.name)
    assert found[2] == found[0]
    assert sketch_backbone(there.name).spec == spec


def test_a_hub_id_that_does_not_fit_is_refused_before_its_weights_are_there(
    hub: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = hub("wan-i2v")
    there.without_weights()
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    said = r"'tiny/wan-i2v' take .* GB in float32 \(transformer .*, VAE .*, image encoder .*\), "
    with pytest.raises(ModelError, match=said + "and cpu has 1e-06 GB free"):
        load_backbone(there.name, device="cpu")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("vae", "the VAE of backbone 'tiny/wan-i2v' cannot be loaded"),
        ("text_encoder", "the text encoder of backbone 'tiny/wan-i2v' cannot be loaded"),
        ("image_encoder", "the image encoder of backbone 'tiny/wan-i2v' cannot be loaded"),
    ],
)
def test_a_hub_id_without_a_part_is_refused_before_weights_are_read(
    part: str, said: str, hub: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    there = hub("wan-i2v")
    shutil.rmtree(there.folder / part)
    with pytest.raises(ModelError, match=said):
        load_backbone(there.name)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_hub_id_that_names_too_few_parts_is_no_whole_pipeline(
    part: str, hub: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    there = hub("wan")
    there.change("model_index.json", **{part: [None, None]})
    said = f"'tiny/wan' names no .*{part}.*: it is no whole pipeline"
    for load in (load_backbone, sketch_backbone, backbone_spec):
        with pytest.raises(ModelError, match=said):
            load(there.name)


@pytest.mark.parametrize(
    ("part", "method"),
    [("transformer", "bitsandbytes"), ("vae", "torchao"), ("image_encoder", "gptq")],
)
def test_a_hub_id_with_a_quantised_part_is_refused(
    part: str, method: str, hub: Callable[[str], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", None)
    there = hub("wan-i2v")
    there.change(f"{part}/config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match=rf"'tiny/wan-i2v' is quantised \({method}\): not supp"):
        load_backbone(there.name)


@pytest.mark.parametrize("name", ["/no/such/folder", "./backbone", "a b", "one/two/three"])
def test_a_path_that_leads_nowhere_is_no_hub_id(name: str) -> None:
    said = "not a folder here, and not written like a hub id. Check the path"
    with pytest.raises(ModelError, match=said):
        load_backbone(name)
