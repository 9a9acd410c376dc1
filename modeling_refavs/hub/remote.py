"""A repository of the Hub through the genuine client, and each of its refusals in one clear
line."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from .. import __version__
from ..utils.files import list_files, sha256


HUBS_OWN = ".gitattributes"  # written by the Hub when a repository is made
FULL = re.compile(r"quota|storage limit|storage space|out of storage", re.IGNORECASE)
FULL_STATUSES = (413, 507)
AGAIN = "run the same command again: what has arrived is not sent twice"


def check_repo_id(repo_id: str) -> None:
    """`ValueError` for what cannot be the id of a repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id}: no id of a repository: {' '.join(str(error).split())}"
        ) from error
    if "/" not in repo_id:
        raise ValueError(
            f"{repo_id}: no id of a repository: it must be USER/NAME or ORGANISATION/NAME"
        )


@dataclass(frozen=True)
class Remote:
    """One branch of a repository."""

    repo_type: str
    repo_id: str
    revision: str

    @property
    def url(self) -> str:
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.repo_id}"

    def check_token(self) -> None:
        """Before anything is built: is there a token, and does the Hub know it?"""
        if not get_token():
            raise ValueError(
                "no token: run `hf auth login`, or set HF_TOKEN to a token that may write"
            )
        with one_clear_line(self.repo_id):
            HfApi().whoami()

    def create(self, private: bool, space_sdk: str | None = None) -> None:
        """Make the repository and the branch where they are not there."""
        with one_clear_line(self.repo_id):
            api = HfApi()
            api.create_repo(
                self.repo_id,
                repo_type=self.repo_type,
                private=private or None,
                exist_ok=True,
                space_sdk=space_sdk,
            )
            if self.revision != constants.DEFAULT_REVISION:
                api.create_branch(
                    self.repo_id, repo_type=self.repo_type, branch=self.revision, exist_ok=True
                )

    def other_files(self, folder: Path) -> list[str]:
        """On the Hub and not in the folder: left there they could be loaded in place of what was
        checked."""
        with one_clear_line(self.repo_id):
            there = HfApi().list_repo_files(
                self.repo_id, repo_type=self.repo_type, revision=self.revision
            )
        return sorted(set(there) - set(list_files(folder)) - {HUBS_OWN})

    def push(self, folder: Path) -> str:
        """Make the branch hold the folder's files and no others. Returns the commit."""
        with one_clear_line(self.repo_id):
            commit = HfApi().upload_folder(
                folder_path=folder,
                repo_id=self.repo_id,
                repo_type=self.repo_type,
                revision=self.revision,
                commit_message=f"Published with refavs {__version__}",
                delete_patterns="*",
            )
        return commit.oid

    def compare(self, folder: Path, commit: str) -> None:
        """Download all of it anew and compare, file by file.

        Raises:
            ValueError: something is missing, or differs.
        """
        with tempfile.TemporaryDirectory(prefix="refavs-read-back-") as copy:
            with one_clear_line(self.repo_id):
                HfApi().snapshot_download(
                    self.repo_id,
                    repo_type=self.repo_type,
                    revision=commit,
                    local_dir=copy,
                    max_workers=4,
                )
            sent, arrived = set(list_files(folder)), set(list_files(Path(copy))) - {HUBS_OWN}
            wrong = sorted(sent ^ arrived)
            wrong += [
                name
                for name in sorted(sent & arrived)
                if sha256(folder / name) != sha256(Path(copy, name))
            ]
        if wrong:
            raise ValueError(
                f"{self.url}: what arrived is not what was sent: {', '.join(wrong)}; {AGAIN}"
            )


@contextmanager
def one_clear_line(repo_id: str) -> Iterator[None]:
    """Whatever the client raises becomes a `ValueError` that says in one line what happened and
    what to do."""
    try:
        yield
    except (OSError, HTTPError, RuntimeError, ValueError) as error:
        raise ValueError(f"{repo_id}: {_explain(error)}") from error


def _explain(error: BaseException) -> str:
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    refusal = next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    if refusal is not None:
        return _explain_refusal(
            refusal.response.status_code, refusal.server_message or str(refusal)
        )
    if FULL.search(str(error)):
        return _explain_refusal(FULL_STATUSES[0], str(error))
    broken = next(
        (cause for cause in causes if isinstance(cause, (HTTPError, ConnectionError))), None
    )
    if broken is not None:
        return f"the connection to {constants.ENDPOINT} broke ({type(broken).__name__}): {AGAIN}"
    return " ".join(str(error).split())


def _explain_refusal(status: int, message: str) -> str:
    message = " ".join(message.split()).rstrip(".")
    if status in FULL_STATUSES or FULL.search(message):
        return (
            f"no room is left on the Hub ({message}): free some, or publish elsewhere; then {AGAIN}"
        )
    if status == 401:
        return (
            "the Hub does not accept the token: run `hf auth login`, or set HF_TOKEN to a valid one"
        )
    if status == 402:
        return f"the Hub asks for a payment or a subscription ({message})"
    if status == 403:
        return (
            f"no right to write there ({message}): use a token that may write, and a "
            "namespace of yours"
        )
    if status == 404:
        return f"not found on the Hub ({message}): check the id and the branch"
    if status >= 500:
        return f"the Hub has a fault of its own ({status}: {message}): {AGAIN}"
    return f"the Hub refused it ({status}: {message})"
