"""What a model card says that neither weights nor results know: `card_facts.yaml`."""

import json
import math
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import safe_open

from ..metrics.report import breakdown_text, conventions_text, results_table


KINDS = {str: "a text", int: "a whole number", float: "a number", list[str]: "a list"}
PAPER = """\
@inproceedings{wang2024refavs,
  title     = {Ref-AVS: Refer and Segment Objects in Audio-Visual Scenes},
  author    = {Wang, Yaoting and Sun, Peiwen and Zhou, Dongzhan and Li, Guangyao and Zhang, Honggang and Hu, Di},
  booktitle = {European Conference on Computer Vision},
  year      = {2024},
  note      = {arXiv:2407.10957}
}"""  # noqa: E501


@dataclass(frozen=True)
class CardFacts:
    """What neither the weights nor the results say: the fields of `card_facts.yaml` (or JSON),
    texts in Markdown.

    Args:
        title, summary: of the model.
        licence: an id of the Hub's list.
        data_name, data_id, data: of the training data: a name, an id on the Hub, and what they are.
        procedure, recipe, commands, seed: of training: in words, the recipe's file, the shell
            lines, the seed.
        hours, hardware, power_watts, carbon_intensity: what training took: h, on what, W, g
            CO2eq/kWh.
        intended_use, limits, biases: limits and biases are lists of sentences.
        base_models: ids of what it was made from; empty: random weights.
        clip, sentence: of the example; the clip is a file of the reader's unless the card is of a
            folder.
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
        raise ValueError(
            f"{path}: lacks {', '.join(sorted(missing if isinstance(found, dict) else needed))}"
        )
    if unknown := found.keys() - {field.name for field in known}:
        raise ValueError(f"{path}: there is no fact {', '.join(sorted(unknown))}")
    for field in known:
        kind = (int, float) if field.type is float else get_origin(field.type) or field.type
        if field.name in found and not isinstance(found[field.name], kind):
            raise ValueError(
                f"{path}: {field.name} must be {KINDS[field.type]}, got {found[field.name]!r}"
            )
    stripped = {
        name: value.strip() if isinstance(value, str) else value for name, value in found.items()
    }
    return CardFacts(**stripped)


TEMPLATE = Path(__file__).with_name("card_template.md")
TASK_TYPE = "image-segmentation"  # the nearest that the Hub knows
TASK_NAME = "Referring audio-visual segmentation"
METRICS = {
    "jaccard": ("refavs_jaccard", "J"),
    "fscore": ("refavs_fscore", "F"),
    "null": ("refavs_null", "S"),
    "n_acc": ("refavs_noref", "N-acc"),
    "t_acc": ("refavs_noref", "T-acc"),
}
DIGITS = 4  # of values in the metadata
TAGS = [
    "audio-visual-segmentation",
    "referring-segmentation",
    "video-segmentation",
    "ref-avs",
    "eemc",
]
USE_FROM_HUB = """\
from transformers import pipeline

segment = pipeline(model="{model}", trust_remote_code=True)
"""
USE_AT_HOME = """\
from modeling_refavs import RefAVSForSegmentation, RefAVSPipeline, RefAVSProcessor

model = RefAVSForSegmentation.from_pretrained("{model}")
processor = RefAVSProcessor.from_pretrained("{model}")
segment = RefAVSPipeline(model=model, processor=processor)
"""
USE = """\
answers = segment("{clip}", text=["{sentence}"])
print(answers[0]["expression"], answers[0]["masks"].shape, answers[0]["score"])"""
NOTE_FROM_HUB = (
    "A video is a file, bytes, or a dict of `frames` (one a second), `audio` and `sampling_rate`; "
    "files are decoded with PyAV "
    "(`pip install av`), all else needs transformers and torch alone."
)
NOTE_AT_HOME = (
    "`refavs publish model` puts code and card beside the weights, so that a "
    "published model needs no such import."
)


def render_card(
    checkpoint: str | Path, results: str | Path, facts: str | Path, repo_id: str | None = None
) -> str:
    """The card's whole text.

    Args:
        checkpoint: the model's folder.
        results: `report.json` of `refavs evaluate`.
        facts: see [`CardFacts`].
        repo_id: where the model is published; None: the card is of the folder.
    """
    known, report, checkpoint = read_facts(facts), _read_results(results), Path(checkpoint)
    processor = json.loads((checkpoint / "processor_config.json").read_text(encoding="utf-8"))
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    size = processor["image_processor"]["size"]
    named = {
        **report,
        "subject": known.title,
        "data": known.data_name,
        "published": {"table_3": [], "breakdowns": {}},
    }
    use, note = (USE_FROM_HUB, NOTE_FROM_HUB) if repo_id else (USE_AT_HOME, NOTE_AT_HOME)
    clip = Path(known.clip).name if repo_id else known.clip
    card = ModelCard.from_template(
        _metadata(known, report, repo_id),
        template_path=str(TEMPLATE),
        facts=known,
        use=f"{use}{USE}".format(
            model=repo_id or checkpoint.as_posix(), clip=clip, sentence=known.sentence
        ),
        use_note=note,
        parameters=f"{count_parameters(checkpoint):,}",
        image_size=f"{size['height']}x{size['width']}",
        max_text_length=processor["max_text_length"],
        base_models=", ".join(known.base_models) or "random weights",
        looks_ahead=bool(config.get("grounding_config", {}).get("object_head_size")),
        conventions=conventions_text(named),
        results=results_table(named),
        breakdowns=[
            breakdown_text(named, name).replace("## By", "### By", 1)
            for name in report["breakdowns"]
        ],
        sentences=f"{sum(part['sentences'] for part in report['splits'].values()):,}",
        clips=f"{sum(part['clips'] for part in report['splits'].values()):,}",
        energy=_round(known.energy),
        emissions=_round(known.emissions),
    )
    return f"{str(card).rstrip()}\n"


def _metadata(facts: CardFacts, report: dict[str, Any], repo_id: str | None) -> ModelCardData:
    return ModelCardData(
        language=facts.language,
        license=facts.licence,
        library_name="transformers",
        pipeline_tag=TASK_TYPE,
        tags=TAGS,
        base_model=facts.base_models or None,
        datasets=[facts.data_id],
        metrics=list(dict.fromkeys(metric for metric, _ in METRICS.values())),
        model_name=repo_id.partition("/")[2] if repo_id else facts.title,
        eval_results=eval_results(facts, report),
        co2_eq_emissions={
            "emissions": _round(facts.emissions),
            "source": "hours x estimated power x estimated carbon intensity",
            "training_type": "fine-tuning" if facts.base_models else "pre-training",
            "hardware_used": facts.hardware,
        },
    )


def eval_results(facts: CardFacts, report: dict[str, Any]) -> list[EvalResult]:
    """The model-index: of each split the measures that it has."""
    return [
        EvalResult(
            task_type=TASK_TYPE,
            task_name=TASK_NAME,
            dataset_type=facts.data_id,
            dataset_name=facts.data_name,
            dataset_split=split,
            metric_type=metric,
            metric_name=name,
            metric_value=round(part[measure]["value"], DIGITS),
        )
        for split, part in report["splits"].items()
        for measure, (metric, name) in METRICS.items()
        if part.get(measure) is not None
    ]


def count_parameters(checkpoint: Path) -> int:
    """Of all weights, from the headers of their files."""
    count = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def _read_results(path: str | Path) -> dict[str, Any]:
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        missing = {
            "splits",
            "mix",
            "breakdowns",
            "conventions",
            "pooling",
            "knows_scenes",
        } - report.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: no report.json of refavs evaluate") from error
    if missing:
        raise ValueError(
            f"{path}: no report.json of refavs evaluate: it lacks {', '.join(sorted(missing))}"
        )
    return report


def _round(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
