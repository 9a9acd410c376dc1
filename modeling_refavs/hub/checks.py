"""What must not leave this machine, and what a card must say."""

import mmap
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import RepoCard, get_token

from ..utils.files import list_files


PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
TOKEN = rb"\b(hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16})\b"  # noqa: E501
# A folder that only one machine has; those of a URL, a regular expression or a longer name do not
# count.
MACHINE_PATH = rb"(?<![\w.~/:*-])(/(home|Users|root|mnt|media|tmp|scratch|work|data)/[\w.~-]+|[A-Z]:\\\\?Users\\)"  # noqa: E501
TEXT_SAMPLE = 8192  # bytes without a NUL are text


@dataclass(frozen=True)
class CardRules:
    """What a card needs: keys of its metadata, and second-level headings with something below
    them."""

    metadata: tuple[str, ...]
    sections: tuple[str, ...] = ()


def check_files(folder: Path) -> None:
    """`ValueError` at the first file that would give something away, or run code when it is
    opened."""
    for name in list_files(folder):
        if name.lower().endswith(PICKLES):
            raise ValueError(
                f"{name}: a pickle runs code when it is opened: remove it; weights go as "
                ".safetensors"
            )
        path = folder / name
        if not path.stat().st_size:
            continue
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            _check_content(name, content)


def _check_content(name: str, content: mmap.mmap) -> None:
    own_token = (get_token() or "").encode()
    if found := re.search(TOKEN, content):
        place = f"{name}, line {_line(content, found.start())}"
        raise ValueError(
            f"{place}: holds what looks like a token ({found[0][:6].decode()}...): take it out and "
            "revoke it"
        )
    if own_token and (start := content.find(own_token)) >= 0:
        raise ValueError(
            f"{name}, line {_line(content, start)}: holds your own token: take it out and revoke it"
        )
    if b"\0" in content[:TEXT_SAMPLE]:
        return
    for pattern in (MACHINE_PATH, *(re.escape(path.encode()) for path in _own_paths())):
        if found := re.search(pattern, content):
            place = f"{name}, line {_line(content, found.start())}"
            raise ValueError(
                f"{place}: {found[0].decode(errors='replace')} is a path of this machine: make it "
                "relative"
            )


def _own_paths() -> set[str]:
    """Of this user, this Python and this shell; short ones would be found everywhere."""
    return {
        str(path) for path in (Path.home(), Path.cwd(), Path(sys.prefix)) if len(path.parts) > 2
    }


def _line(content: mmap.mmap, position: int) -> int:
    return content[:position].count(b"\n") + 1


def check_card(folder: Path, rules: CardRules) -> None:
    """`ValueError` for a card that is missing, or lacks something, naming all that it lacks."""
    path = folder / "README.md"
    if not path.is_file():
        raise ValueError("README.md: missing; it is the card")
    text = path.read_text(encoding="utf-8")
    if not text.startswith("---\n"):
        raise ValueError(
            "README.md: has no metadata: a card begins with YAML between two lines of ---"
        )
    try:
        card = RepoCard(text)
    except Exception as error:  # whatever broken YAML makes the parser raise
        raise ValueError(
            f"README.md: its metadata cannot be read: {' '.join(str(error).split())}"
        ) from error
    metadata = card.data.to_dict()
    missing = [key for key in rules.metadata if metadata.get(key) in (None, "", [])]
    missing += [
        f'the section "{title}"' for title in rules.sections if not _section(card.text, title)
    ]
    if missing:
        raise ValueError(f"README.md: lacks {', '.join(missing)}")


def _section(text: str, title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL
    )
    return found[1].strip() if found else ""
