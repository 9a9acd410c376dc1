"""What `hub/imagenet_names.json` is made of: every noun that is true of one of ImageNet's 1000
classes, from WordNet 3.0 (Debian's package wordnet-base) and the list of the classes' synsets that
timm's wheel holds.

python -m modeling_refavs.research.imagenet_names data.noun imagenet_synsets.txt
"""

import json
import sys
from pathlib import Path

from ..hub.parts import IMAGENET_NAMES
from ..utils.files import whole_file


def read_nouns(lines: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Of WordNet's `data.noun`: each synset's words, and the synsets that are its hypernyms."""
    nouns = {}
    for line in lines:
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
        pointers = fields[5 + 2 * count :]
        above = [
            target
            for kind, target in zip(pointers[::4], pointers[1::4], strict=True)
            if kind in ("@", "@i")
        ]
        nouns[fields[0]] = words, above
    return nouns


def main(nouns: str, synsets: str) -> None:
    lines = Path(nouns).read_text(encoding="utf-8").splitlines()
    head = sum(line.startswith("  ") for line in lines)  # the licence, its lines numbered
    table = read_nouns(lines[head:])
    classes = [synset.removeprefix("n") for synset in Path(synsets).read_text().split()]
    found = list(dict.fromkeys(classes))
    for synset in found:
        found += [above for above in table[synset][1] if above not in found]
    place = {synset: row for row, synset in enumerate(found)}
    content = {
        "licence": "\n".join(line.lstrip(" 0123456789").rstrip() for line in lines[:head]),
        "synsets": [
            [table[synset][0], [place[above] for above in table[synset][1]]] for synset in found
        ],
    }
    with whole_file(IMAGENET_NAMES) as unfinished:
        unfinished.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
