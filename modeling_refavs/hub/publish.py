"""From a source to the Hub and back: built, shown, checked, pushed, read back, compared, loaded."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from .checks import check_card, check_files
from .files import describe, list_files
from .publication import Publication
from .remote import Remote


def publish(
    publication: Publication, private: bool, dry_run: bool, revision: str | None, say: Callable[[str], None]
) -> None:
    """Bring one publication to the Hub, and prove that it arrived.

    Args:
        publication: what goes where.
        private: a new repository is private; one that is there keeps its state.
        dry_run: stop before anything is sent; neither a token nor a connection is needed.
        revision: branch, made if need be; default: main.
        say: gets a line at a time.

    Raises:
        ValueError: a check that failed, a refusal of the Hub's or a broken connection, in one line.
    """
    remote = Remote(publication.repo_type, publication.repo_id, revision or "main")
    if not dry_run:
        remote.check_token()
    with tempfile.TemporaryDirectory(prefix="refavs-publish-") as work:
        folder = publication.build(Path(work))
        say(f"{publication.repo_id} ({publication.repo_type})")
        say(describe(folder))
        if left_out := publication.left_out:
            say(f"left out: {', '.join(left_out)}")
        check_files(folder)
        check_card(folder, publication.card)
        publication.load_folder(folder)
        say(
            "checked: no path of this machine, no token, no pickle; the card is complete; it loads without this package"
        )
        if dry_run:
            say("dry run: nothing was sent")
            return
        _send(publication, remote, folder, private, say)


def _send(publication: Publication, remote: Remote, folder: Path, private: bool, say: Callable[[str], None]) -> None:
    remote.create(private, publication.space_sdk)
    if removed := remote.other_files(folder):
        say(f"on the Hub, and not among these: removed there: {', '.join(removed)}")
    commit = remote.push(folder)
    remote.compare(folder, commit)
    say(f"{remote.url}: commit {commit[:12]}, {len(list_files(folder))} files read back and equal")
    if publication.loads_by_id:
        publication.load_remote(commit)
        say("loaded by its id")
