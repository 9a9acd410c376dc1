"""Weights, their code and their card, as they go to the Hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import modeling_refavs

from .checks import PICKLES, CardRules
from .clean_room import ask_model
from .command import MODEL
from .publication import Publication


CARD_FACTS, EVALUATION = "card_facts.yaml", "evaluation.json"  # beside the weights; they become the card
MODEL_FILES = (".json", ".safetensors", ".txt", ".jinja", *PICKLES)  # a pickle of weights is refused, not forgotten
NOT_PUBLISHED = (
    "training_args.bin",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    EVALUATION,
    "scores.json",
)


class ModelPublication(Publication):
    """Weights as they are, the code that is installed, and a card made of results."""

    repo_type, room = MODEL, MODEL
    card = CardRules(
        metadata=("library_name", "pipeline_tag", "license", "datasets", "metrics", "model-index"),
        sections=(
            "Use", "Intended use", "Limits", "Biases", "Training data", "Training procedure", "Evaluation",
            "Environmental cost", "Citation",
        ),
    )  # fmt: skip

    def build(self, work: Path) -> Path:
        self._check_source()
        for path in sorted(self.source.iterdir()):
            if path.is_file() and path.suffix in MODEL_FILES and path.name not in NOT_PUBLISHED:
                shutil.copyfile(path, work / path.name)
            elif path.suffix != ".py" and path.name not in (CARD_FACTS, "README.md"):
                self.left_out.append(path.name)
        self._write_code(work)
        self._write_card(work)
        return work

    def _check_source(self) -> None:
        try:
            model_type = json.loads((self.source / "config.json").read_text(encoding="utf-8"))["model_type"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{self.source}: no checkpoint: it has no config.json that says a model_type") from error
        if model_type != "refavs":
            raise ValueError(f"{self.source}: holds a {model_type}, but a refavs (RefAVSForSegmentation) is published")
        if not (self.source / "processor_config.json").is_file():
            raise ValueError(f"{self.source}: has no processor: save it too, processor.save_pretrained({self.source})")

    def _write_code(self, work: Path) -> None:
        """Every file that model, processor and pipeline are made of."""
        from transformers.dynamic_module_utils import custom_object_save

        for published in (modeling_refavs.RefAVSForSegmentation, modeling_refavs.RefAVSPipeline):
            custom_object_save(published, work)

    def _write_card(self, work: Path) -> None:
        facts, results, card = (self.source / name for name in (CARD_FACTS, EVALUATION, "README.md"))
        if facts.is_file() and results.is_file():
            from .card import render_card

            (work / "README.md").write_text(render_card(self.source, results, facts, self.repo_id), encoding="utf-8")
        elif card.is_file():
            shutil.copyfile(card, work / "README.md")
        else:
            raise ValueError(
                f"{self.source}: has no card: put {CARD_FACTS} and {EVALUATION} (report.json of refavs evaluate) there"
            )

    def expected(self, folder: Path) -> Any:
        from transformers import pipeline

        import modeling_refavs.auto  # noqa: F401
        from modeling_refavs.configuration_refavs import TASK

        return ask_model(pipeline(TASK, model=str(self.source), device="cpu"))
