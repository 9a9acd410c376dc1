"""What the objects are: 51 categories in 4 super-categories, 3 silent ones, and the 13 that
training never shows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modeling_refavs.utils.files import whole_file


NULL_CATEGORY = "null"  # a sentence that is true of nothing in its clip
TAXONOMY_FILE = "taxonomy.json"  # beside metadata.csv: a tree with categories of its own


@dataclass(frozen=True)
class Taxonomy:
    """Categories, their super-categories, and the ones kept for the unseen split.

    Args:
        categories: category -> super-category, in the order tables show them.
        unseen: categories that only `test_u` may show.
    """

    categories: dict[str, str]
    unseen: frozenset[str]

    def super_category(self, category: str) -> str | None:
        """The super-category, None for `null` and for a category that the taxonomy does not
        know."""
        return self.categories.get(category)


def read_taxonomy(root: str | Path) -> Taxonomy:
    """The taxonomy of the tree at `root`: its `taxonomy.json` where there is one, else the paper's.

    Raises:
        ValueError: when the file is not `{"categories": {name: super-category}, "unseen": [name,
            ...]}`.
    """
    path = Path(root) / TAXONOMY_FILE
    if not path.exists():
        return PAPER_TAXONOMY
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    categories = content.get("categories") if isinstance(content, dict) else None
    unseen = content.get("unseen", []) if isinstance(content, dict) else None
    named = isinstance(categories, dict) and all(
        isinstance(name, str) for name in categories.values()
    )
    if not named or not isinstance(unseen, list):
        raise ValueError(
            f'{path} must hold {{"categories": {{name: super-category}}, "unseen": [name, ...]}}'
        )
    unknown = sorted(
        str(name) for name in unseen if not isinstance(name, str) or name not in categories
    )
    if unknown:
        raise ValueError(
            f"{path} calls {', '.join(unknown)} unseen, but does not list it among its categories"
        )
    return Taxonomy(categories=categories, unseen=frozenset(unseen))


def write_taxonomy(
    root: str | Path, categories: dict[str, str], unseen: Iterable[str] = ()
) -> None:
    """Write the file that [`read_taxonomy`] reads."""
    content = {"categories": categories, "unseen": sorted(unseen)}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with whole_file(Path(root) / TAXONOMY_FILE) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _paper_taxonomy() -> Taxonomy:
    groups = {
        "instrument": "accordion bass cello clarinet drum flute guitar guzheng handpan harmonica "
        "harp marimba piano "
        "pipa saxophone sitar tabla tuba ukulele violin",
        "animal": "cat dog leopard lion pig sheep tiger wolf",
        # `keyboard` is a computer's: its sentences speak of letters, blue light and tapping
        # fingers.
        "machine": "airplane boat car clock emergency-car gun hair-dryer helicopter keyboard "
        "motorcycle mower razor "
        "saw truck vacuum-cleaner",
        "human": "baby boy girl man woman",
        "silent": "chair couch table",
    }
    unseen = "baby emergency-car gun leopard lion motorcycle mower pig sheep tiger truck tuba wolf"
    categories = {name: group for group, names in groups.items() for name in names.split()}
    return Taxonomy(categories=categories, unseen=frozenset(unseen.split()))


# Sec. 3.1: 48 categories that can sound (20 instruments, 8 animals, 15 machines, 5 humans), 3
# silent and still.
PAPER_TAXONOMY = _paper_taxonomy()
