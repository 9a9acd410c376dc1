"""What sentences are like: the groups that tables are broken down by."""

import json
from pathlib import Path

from dataset_script.statistics import LENGTH_BINS, length_bin, sentence_cues


BREAKDOWNS = ("grade", "dimension", "length", "category")
GRADES = ("1-2", "3", "4", "5")  # as the paper groups them


class SentenceFacts:
    """The groups that a sentence belongs to.

    A synthetic tree says in `scenes/<clip>.json` how hard a sentence is and which cues it needs. Ref-AVS Bench does not:
    there the dimension is told from words, roughly, and the grade is not known.

    Args:
        data: the tree, or whatever else was evaluated.
        breakdowns: names out of `BREAKDOWNS`.

    Raises:
        ValueError: a name is unknown, or the grade is asked for where it is not known.
    """

    def __init__(self, data: str | Path, breakdowns: tuple[str, ...]):
        unknown = [name for name in breakdowns if name not in BREAKDOWNS]
        if unknown:
            raise ValueError(f"--by {unknown[0]}: must be of {', '.join(BREAKDOWNS)}")
        self.scenes, self.breakdowns = Path(data, "scenes"), breakdowns
        self.knows_scenes = self.scenes.is_dir()
        if "grade" in breakdowns and not self.knows_scenes:
            raise ValueError(
                f"--by grade: {data} has no scenes/: only a synthetic tree says how hard its sentences are"
            )

    def of_clip(self, clip_id: str, sentences: list[dict]) -> list[dict[str, str]]:
        """Of each of a clip's sentences the group in each breakdown; `sentences` have `uid`, `expression`, `category`."""
        scene = {}
        if self.knows_scenes and {"grade", "dimension"} & set(self.breakdowns):
            entries = json.loads((self.scenes / f"{clip_id}.json").read_text(encoding="utf-8"))["expressions"]
            scene = {entry["uid"]: entry for entry in entries}
        return [
            {name: self._group(name, sentence, scene.get(sentence["uid"])) for name in self.breakdowns}
            for sentence in sentences
        ]

    def _group(self, breakdown: str, sentence: dict, scene: dict | None) -> str:
        if breakdown == "grade":
            return "1-2" if scene["grade"] < 3 else str(scene["grade"])
        if breakdown == "dimension":
            cues = sentence_cues(sentence["expression"]) if scene is None else scene["dimensions"]
            return " + ".join(cues) or "none"
        if breakdown == "length":
            return length_bin(len(sentence["expression"].split()))
        return sentence["category"]


def in_order(breakdown: str, groups: set[str]) -> list[str]:
    """Grades and lengths from easy to hard, all else by the alphabet."""
    known = {"grade": GRADES, "length": LENGTH_BINS}.get(breakdown, ())
    return [group for group in known if group in groups] + sorted(groups - set(known))
