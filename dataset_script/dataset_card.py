"""The card of an export: what the Hub shows, and the YAML that keeps the splits' names."""

from collections import defaultdict
from dataclasses import dataclass

from .examples import Tree
from .schema import SPLITS
from .taxonomy import PAPER_TAXONOMY


COLUMNS = {
    "expressions": "one row a sentence",
    "clips": "one row a clip, with all its sentences and objects: encode a clip once, ask it often",
}

PAPER = (
    "[Ref-AVS: Refer and Segment Objects in Audio-Visual "
    "Scenes](https://arxiv.org/abs/2407.10957) (ECCV 2024)"
)

LICENCE_NOTE = """\
The annotations are the Ref-AVS authors' (Zenodo record [12970978](https://zenodo.org/records/12970978)). The frames
and sounds are cut from YouTube videos: their rights stay with those who made them, and this export grants none.
Look at the terms of the record and of the videos before you publish or redistribute this folder."""  # noqa: E501

CITATION = """\
```bibtex
@inproceedings{wang2024refavs,
  title     = {Ref-AVS: Refer and Segment Objects in Audio-Visual Scenes},
  author    = {Wang, Yaoting and Sun, Peiwen and Zhou, Dongzhan and Li, Guangyao and Zhang, Honggang and Hu, Di},
  booktitle = {European Conference on Computer Vision},
  year      = {2024}
}
```"""  # noqa: E501


@dataclass(frozen=True)
class CardFacts:
    """What the card says of an export beside its shards."""

    tree: Tree
    configurations: tuple[str, ...]
    licence: str
    paper_splits: bool

    @property
    def is_ref_avs(self) -> bool:
        """Whether the tree uses the paper's categories; a tree with its own is another data set in
        the same layout."""
        return self.tree.taxonomy == PAPER_TAXONOMY


def card_text(facts: CardFacts, shards: dict[str, dict]) -> str:
    """The whole README.md of an export."""
    rows, left_out = _rows_by_split(shards)
    parts = [
        _yaml(facts, shards),
        f"# {_title(facts)}\n",
        "Videos of ten seconds with sound, sentences that refer to one object each by what it "
        "looks like, what it "
        "sounds like and when, and that object's mask in ten frames. The task is that of "
        f"{PAPER}.\n",
        "```python\nfrom datasets import load_dataset\n\n"
        'sentences = load_dataset("<this folder or id>", split="val")\n```\n',
        _table(facts, rows),
        "Splits: `test_s` shows categories that were trained, `test_u` others, and the sentences "
        "of `test_n` are true "
        "of nothing in their clip (every mask is empty).\n",
    ]
    if facts.paper_splits:
        parts.append("`test_u` holds the unseen categories only, as the paper counts it.\n")
    if left_out:
        parts.append(
            f"{left_out} sentences were left out because their frames, sound or masks are missing "
            "or damaged.\n"
        )
    parts += [_columns(facts)]
    if facts.is_ref_avs:
        parts += ["## Licence\n", f"{LICENCE_NOTE}\n"]
    parts += ["## Citation\n", f"{CITATION}\n", "Checksums: `sha256sum -c SHA256SUMS`.\n"]
    return "\n".join(parts)


def _title(facts: CardFacts) -> str:
    return (
        "Ref-AVS Bench"
        if facts.is_ref_avs
        else "Objects in scenes with sound, referred to by sentences"
    )


def _yaml(facts: CardFacts, shards: dict[str, dict]) -> str:
    lines = ["---", f"pretty_name: {_title(facts)}", f"license: {facts.licence}", "language: en"]
    lines += ["task_categories:", "- image-segmentation", "- video-classification"]
    lines += ["tags:", "- referring-segmentation", "- audio-visual", "configs:"]
    for configuration in facts.configurations:
        lines += [f"- config_name: {configuration}"]
        lines += ["  default: true"] if configuration == facts.configurations[0] else []
        lines += ["  data_files:"]
        for split in SPLITS:
            if any(name.startswith(f"{configuration}/{split}-") for name in shards):
                lines += [f"  - split: {split}", f"    path: {configuration}/{split}-*.parquet"]
    return "\n".join([*lines, "---", ""])


def _rows_by_split(shards: dict[str, dict]) -> tuple[dict[tuple[str, str], int], int]:
    rows: dict[tuple[str, str], int] = defaultdict(int)
    left_out: dict[str, int] = defaultdict(int)
    for name, entry in shards.items():
        configuration, _, file = name.partition("/")
        rows[configuration, file.split("-")[0]] += entry["rows"]
        left_out[configuration] += entry["left_out"]
    return rows, max(left_out.values(), default=0)


def _table(facts: CardFacts, rows: dict[tuple[str, str], int]) -> str:
    header = f"| rows | {' | '.join(SPLITS)} |\n|---|{'---|' * len(SPLITS)}\n"
    lines = (
        f"| `{name}`: {COLUMNS[name]} | {' | '.join(f'{rows[name, split]:,}' for split in SPLITS)} "
        "|\n"
        for name in facts.configurations
    )
    return header + "".join(lines)


def _columns(facts: CardFacts) -> str:
    return (
        "Columns: `clip_id`, `youtube_id`, `start_ms`, `null_kind`, `frames` (ten images, one a "
        "second), `audio` (a WAV "
        "file's bytes), `sampling_rate` (Hz); of each sentence `uid`, `expression`, "
        "`raw_expression`, `category`, "
        "`super_category`, `fid` (the object's number in its clip) and `masks` (ten images, any "
        "value above 0 is the "
        "object). In `clips` the sentences are in `expressions` and the masks, once an object, in "
        "`objects`.\n"
    )
