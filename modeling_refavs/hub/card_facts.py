"""What a model card says that neither weights nor results know: `card_facts.yaml`."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_origin

import yaml


KINDS = {str: "a text", int: "a whole number", float: "a number", list[str]: "a list"}
PAPER = """\
@inproceedings{wang2024refavs,
  title     = {Ref-AVS: Refer and Segment Objects in Audio-Visual Scenes},
  author    = {Wang, Yaoting and Sun, Peiwen and Zhou, Dongzhan and Li, Guangyao and Zhang, Honggang and Hu, Di},
  booktitle = {European Conference on Computer Vision},
  year      = {2024},
  note      = {arXiv:2407.10957}
}"""


@dataclass(frozen=True)
class CardFacts:
    """What neither the weights nor the results say: the fields of `card_facts.yaml` (or JSON), texts in Markdown.

    Args:
        title, summary: of the model.
        licence: an id of the Hub's list.
        data_name, data_id, data: of the training data: a name, an id on the Hub, and what they are.
        procedure, recipe, commands, seed: of training: in words, the recipe's file, the shell lines, the seed.
        hours, hardware, power_watts, carbon_intensity: what training took: h, on what, W, g CO2eq/kWh.
        intended_use, limits, biases: limits and biases are lists of sentences.
        base_models: ids of what it was made from; empty: random weights.
        clip, sentence: of the example; the clip is a file of the reader's unless the card is of a folder.
    """

    title: str
    summary: str
    licence: str
    data_name: str
    data_id: str
    data: str
    procedure: str
    recipe: str
    commands: list[str]
    seed: int
    hours: float
    hardware: str
    power_watts: float
    carbon_intensity: float
    intended_use: str
    limits: list[str]
    biases: list[str]
    base_models: list[str]
    clip: str = "clip.mp4"
    sentence: str = "the first object to make a sound"
    language: str = "en"
    citation: str = PAPER

    @property
    def energy(self) -> float:
        """kWh."""
        return self.hours * self.power_watts / 1000

    @property
    def emissions(self) -> float:
        """g CO2eq."""
        return self.energy * self.carbon_intensity


def read_facts(path: str | Path) -> CardFacts:
    """`ValueError` for a file that is no YAML, lacks a fact, or has one of an unknown name."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    known = fields(CardFacts)
    needed = {field.name for field in known if field.default is MISSING}
    if not isinstance(found, dict) or (missing := needed - found.keys()):
        raise ValueError(f"{path}: lacks {', '.join(sorted(missing if isinstance(found, dict) else needed))}")
    if unknown := found.keys() - {field.name for field in known}:
        raise ValueError(f"{path}: there is no fact {', '.join(sorted(unknown))}")
    for field in known:
        kind = (int, float) if field.type is float else get_origin(field.type) or field.type
        if field.name in found and not isinstance(found[field.name], kind):
            raise ValueError(f"{path}: {field.name} must be {KINDS[field.type]}, got {found[field.name]!r}")
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in found.items()}
    return CardFacts(**stripped)
