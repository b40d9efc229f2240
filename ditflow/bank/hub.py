"""Banks in dataset repositories of the Hugging Face Hub: read at one commit, written by one.

Tokens are those of huggingface_hub, from `hf auth login` or HF_TOKEN, and from nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ditflow.bank.errors import BankError, BankStorageError

PROTOCOL, FORM = "hf://", "hf://datasets/user/name"
READ_ONLY = (
    "a bank on the hub is read, and each write would be a commit of its own. Fit into a local "
    "bank, and share it with `ditflow bank push`"
)
NETWORK = ("huggingface_hub", "httpx", "httpx2", "hf_xet", "requests")  # whose errors are the hub's


@dataclass(frozen=True)
class HubPlace:
    """A folder in a dataset at one commit.

    Attributes:
        repo: the dataset's id, user/name. commit: its sha. path: of the folder in it, "" for all of
            it. private: whether others cannot see it.
    """

    repo: str
    commit: str
    path: str
    private: bool

    @property
    def url(self) -> str:
        return f"{hub_url(self.repo, self.commit)}/{self.path}".rstrip("/")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form user/name, perhaps with @revision."""
    part = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    return re.fullmatch(rf"{part}/{part}(@[^\s@]+)?", text) is not None


def hub_url(repo: str, revision: str = "") -> str:
    """The URL of the bank in a dataset user/name, or user/name@revision. Raises BankError for
    another form of id.
    """
    if not is_hub_id(repo):
        raise BankError(f"{repo!r:.200} is no dataset of the hub: name it as user/name.")
    return f"{PROTOCOL}datasets/{repo}" + (f"@{quote(revision, safe='')}" if revision else "")


def place_at(url: str) -> HubPlace:
    """What an hf:// URL names, at the commit that it has now: all that is read there belongs
    together. Raises BankStorageError where it cannot be seen.
    """
    from huggingface_hub import HfApi

    named = re.fullmatch(rf"{PROTOCOL}datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", url)
    if named is None:
        raise BankError(f"{url:.200} is no dataset of the hub: name it as {FORM}.")
    repo, revision, path = named.groups()
    with explained("open", url):
        found = HfApi().dataset_info(repo, revision=revision and unquote(revision))
    return HubPlace(repo, str(found.sha), (path or "").rstrip("/"), bool(found.private))


def dataset_at(repo: str) -> HubPlace | None:
    """A dataset as it is now; None where there is none, or one that nobody here may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return place_at(hub_url(repo))
    except BankStorageError as error:
        cause = _cause(error)
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            return None
        raise


def download(url: str) -> str:
    """A local folder with the entries of a bank on the hub as they are now, and with nothing else
    of it. It lies in the cache of huggingface_hub, which fetches nothing twice.
    """
    from huggingface_hub import snapshot_download

    place = place_at(url)
    folder = f"{place.path}/" if place.path else ""
    with explained("download", url):
        root = snapshot_download(
            place.repo,
            repo_type="dataset",
            revision=place.commit,
            allow_patterns=f"{folder}entries/*.safetensors",
        )
    return os.path.join(root, place.path) if place.path else str(root)


def upload(
    repo: str, files: Mapping[str, Path], message: str, *, onto: HubPlace | None, private: bool
) -> str:
    """Put files into a dataset, by their paths there, in one commit; nothing is there before it.

    `onto` is the dataset as it was seen, and must still be; None makes it, `private` or not.
    Returns the dataset's address. Raises BankStorageError where the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with explained("push to", hub_url(repo)):
        if onto is None:
            api.create_repo(repo, repo_type="dataset", private=private)
        api.create_commit(
            repo,
            [CommitOperationAdd(path, file) for path, file in files.items()],
            commit_message=message,
            repo_type="dataset",
            parent_commit=api.dataset_info(repo).sha if onto is None else onto.commit,
        )
    return f"{api.endpoint}/datasets/{repo}"


@contextlib.contextmanager
def explained(doing: str, url: str) -> Iterator[None]:
    """Around calls of huggingface_hub: whatever goes wrong becomes one sentence, and the attempts
    before it are not logged.
    """
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # the classes of network errors differ between its versions
        said = reason(error) or " ".join(str(error).split()) or type(error).__name__
        raise BankStorageError(f"Cannot {doing} {url}: {said.rstrip('.')}.") from error
    finally:
        logger.setLevel(level)


def reason(error: Exception) -> str:
    """Why the hub refuses, and what to do; "" for an error that is not the hub's."""
    cause = _cause(error)
    if cause is None:
        return ""
    from huggingface_hub import errors

    for kind, sentence in {
        errors.OfflineModeIsEnabled: "the hub is switched off by HF_HUB_OFFLINE: unset it",
        errors.GatedRepoError: "it is gated: accept its terms on its page, then log in with "
        "`hf auth login`",
        errors.RepositoryNotFoundError: "the hub has nothing by that name, or it is private: check "
        "the name, and log in with `hf auth login` for a private one",
        errors.RevisionNotFoundError: "it has no such revision: check what stands after the @",
    }.items():
        if isinstance(cause, kind):
            return sentence
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(cause, error)
    if isinstance(cause, ValueError):
        return f"it is not written like {FORM}"
    return f"the hub cannot be reached ({type(cause).__name__}): check the network and try again"


def _refused(cause: Any, error: Exception) -> str:
    """By the status of the answer. A bad request is told by the words of who asked."""
    status = cause.response.status_code
    return {
        400: " ".join(str(error).split()),
        401: "you are not logged in, or your token is not valid: log in with `hf auth login`",
        403: "your token does not allow it: take one that may write there",
        409: "it was changed meanwhile, and nothing was pushed: run the same command again",
        412: "it was changed meanwhile, and nothing was pushed: run the same command again",
        429: "it was asked too often: wait some minutes and try again",
    }.get(status, f"the hub answers with error {status}: try again later")


def _cause(error: BaseException | None) -> BaseException | None:
    """The hub's own error among those that led to one, or None. What is only missing in the cache
    of huggingface_hub has a cause.
    """
    while error is not None and (
        isinstance(error, FileNotFoundError)
        or type(error).__module__.partition(".")[0] not in NETWORK
    ):
        error = error.__cause__
    return error
