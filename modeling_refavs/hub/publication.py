"""One thing that is published: what goes into its folder, what its card needs, how it is tried."""

from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from .checks import CardRules
from .clean_room import load_in_clean_room
from .remote import check_repo_id


class Publication:
    """One repository.

    Args:
        source: what it is made of.
        repo_id: where it goes.
    """

    repo_type: str
    room: str  # of the clean room
    card: CardRules
    space_sdk: str | None = None
    loads_by_id = True

    def __init__(self, source: Path, repo_id: str):
        check_repo_id(repo_id)
        self.source, self.repo_id = source, repo_id
        self.left_out: list[str] = []

    def build(self, work: Path) -> Path:
        """Write into the empty folder `work`. Returns the folder that goes to the Hub."""
        raise NotImplementedError

    def expected(self, folder: Path) -> Any:
        """What the clean room has to answer; None: that it answers is enough."""
        return None

    def load_folder(self, folder: Path) -> None:
        """`ValueError` where the built folder does not load, or answers otherwise than at home."""
        self.answer = self.expected(folder)
        self._compare(load_in_clean_room(self.room, folder))

    def load_remote(self, commit: str) -> None:
        """The same of what arrived, by its id."""
        self._compare(load_in_clean_room(self.room, self.repo_id, commit, get_token()))

    def _compare(self, answer: Any) -> None:
        if self.answer is not None and answer != self.answer:
            raise ValueError(f"{self.repo_id}: where this package is not installed it answers otherwise than here")
