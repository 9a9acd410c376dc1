"""The model card, from a checkpoint, facts and results: no figure in it is typed by hand.

python -m modeling_refavs.hub.card CHECKPOINT RESULTS FACTS --output model_card.md
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors import safe_open

from ..metrics.report_text import breakdown_text, conventions_text, results_table
from .card_facts import CardFacts, read_facts


TEMPLATE = Path(__file__).with_name("card_template.md")
TASK_TYPE = "image-segmentation"  # the nearest that the Hub knows
TASK_NAME = "Referring audio-visual segmentation"
METRICS = {"jaccard": ("refavs_jaccard", "J"), "fscore": ("refavs_fscore", "F"), "null": ("refavs_null", "S")}
DIGITS = 4  # of values in the metadata
TAGS = ["audio-visual-segmentation", "referring-segmentation", "video-segmentation", "ref-avs", "eemc"]
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
    "A video is a file, bytes, or a dict of `frames` (one a second), `audio` and `sampling_rate`; files are decoded with PyAV "
    "(`pip install av`), all else needs transformers and torch alone."
)
NOTE_AT_HOME = (
    "`refavs publish model` puts code and card beside the weights, so that a published model needs no such import."
)


def render_card(checkpoint: str | Path, results: str | Path, facts: str | Path, repo_id: str | None = None) -> str:
    """The card's whole text.

    Args:
        checkpoint: the model's folder.
        results: `report.json` of `refavs evaluate`.
        facts: see [`CardFacts`].
        repo_id: where the model is published; None: the card is of the folder.
    """
    known, report, checkpoint = read_facts(facts), _read_results(results), Path(checkpoint)
    processor = json.loads((checkpoint / "processor_config.json").read_text(encoding="utf-8"))
    size = processor["image_processor"]["size"]
    named = {**report, "subject": known.title, "data": known.data_name, "published": {"table_3": [], "breakdowns": {}}}
    use, note = (USE_FROM_HUB, NOTE_FROM_HUB) if repo_id else (USE_AT_HOME, NOTE_AT_HOME)
    clip = Path(known.clip).name if repo_id else known.clip
    card = ModelCard.from_template(
        _metadata(known, report, repo_id),
        template_path=str(TEMPLATE),
        facts=known,
        use=f"{use}{USE}".format(model=repo_id or checkpoint.as_posix(), clip=clip, sentence=known.sentence),
        use_note=note,
        parameters=f"{count_parameters(checkpoint):,}",
        image_size=f"{size['height']}x{size['width']}",
        max_text_length=processor["max_text_length"],
        base_models=", ".join(known.base_models) or "random weights",
        conventions=conventions_text(named),
        results=results_table(named),
        breakdowns=[breakdown_text(named, name).replace("## By", "### By", 1) for name in report["breakdowns"]],
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
        metrics=[metric for metric, _ in METRICS.values()],
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
        missing = {"splits", "mix", "breakdowns", "conventions", "pooling", "knows_scenes"} - report.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: no report.json of refavs evaluate") from error
    if missing:
        raise ValueError(f"{path}: no report.json of refavs evaluate: it lacks {', '.join(sorted(missing))}")
    return report


def _round(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m modeling_refavs.hub.card", description="Render a model card.")
    parser.add_argument("checkpoint", type=Path, help="the model's folder")
    parser.add_argument("results", type=Path, help="report.json of refavs evaluate")
    parser.add_argument("facts", type=Path, help="card_facts.yaml, see CardFacts")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    parser.add_argument(
        "--repo-id", metavar="USER/NAME", help="where the model is published (default: it is a folder)"
    )
    args = parser.parse_args(arguments)
    try:
        args.output.write_text(render_card(args.checkpoint, args.results, args.facts, args.repo_id), encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
