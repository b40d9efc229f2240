"""Errors for hub ids. The answers of the hub's client are made up, and no network is used."""

from __future__ import annotations

import logging
import time

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from ditflow.models import ModelError, load_backbone

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


@pytest.mark.parametrize("name", ["/no/such/folder", "./backbone", "a b", "one/two/three"])
def test_a_path_that_leads_nowhere_is_no_hub_id(name: str) -> None:
    said = "not a folder here, and not written like a hub id. Check the path"
    with pytest.raises(ModelError, match=said):
        load_backbone(name)
