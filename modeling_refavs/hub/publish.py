"""One thing that is published: what goes into its folder, what its card needs, how it is tried."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_token
from safetensors.torch import save_file
from transformers import PreTrainedModel, ProcessorMixin

import modeling_refavs

from ..utils.files import copy_tree, describe, list_files
from .checks import PICKLES, CardRules, check_card, check_files
from .clean_room import ask_model, load_in_clean_room
from .remote import Remote, check_repo_id


MODEL, METRICS, DATASET, SPACE = "model", "metrics", "dataset", "space"


class Publication:
    """One repository.

    Args:
        source: what it is made of.
        repo_id: where it goes.
    """

    repo_type: str
    kind: str  # of the clean room, see [`load_in_clean_room`]
    card: CardRules
    space_sdk: str | None = None
    loads_by_id = True

    def __init__(self, source: Path, repo_id: str):
        check_repo_id(repo_id)
        self.source, self.repo_id = source, repo_id
        self.left_out: list[str] = []

    def build(self, work: Path) -> Path:
        """Write into the empty folder `work`. Returns the folder that goes to the Hub."""
        raise NotImplementedError

    def expected(self, folder: Path) -> Any:
        """What the clean room has to answer; None: that it answers is enough."""
        return None

    def load_folder(self, folder: Path) -> None:
        """`ValueError` where the built folder does not load, or answers otherwise than at home."""
        self.answer = self.expected(folder)
        self._compare(load_in_clean_room(self.kind, folder))

    def load_remote(self, commit: str) -> None:
        """The same of what arrived, by its id."""
        self._compare(load_in_clean_room(self.kind, self.repo_id, commit, get_token()))

    def _compare(self, answer: Any) -> None:
        if self.answer is not None and answer != self.answer:
            raise ValueError(
                f"{self.repo_id}: where this package is not installed it answers otherwise than "
                "here"
            )


CARD_FACTS, EVALUATION = (
    "card_facts.yaml",
    "evaluation.json",
)  # beside the weights; they become the card
MODEL_FILES = (
    ".json",
    ".safetensors",
    ".txt",
    ".jinja",
    *PICKLES,
)  # a pickle of weights is refused, not forgotten
NOT_PUBLISHED = (
    "training_args.bin",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    EVALUATION,
    "scores.json",
)
# A checkpoint in float16, where what training never changes has files of its own, so that a better
# model replaces only the small rest
LARGEST = 40 * 2**20  # bytes of a file, unless one tensor alone is larger
ENCODERS = ("pixel_level_module.encoder.", "text_encoder.", "audio_encoder.")
INDEX = "model.safetensors.index.json"


def save_in_shards(model: PreTrainedModel, processor: ProcessorMixin, folder: str | Path) -> None:
    """Write a folder for `from_pretrained`, weights in float16. The configuration asks for float32,
    in which the model then computes.

    Args:
        model: its frozen encoders come first, what was trained last.
    """
    folder = Path(folder)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in [*folder.glob("*.safetensors"), folder / INDEX]:
        path.unlink(missing_ok=True)
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    shards: list[dict[str, torch.Tensor]] = []
    for frozen in (True, False):
        shards.append({})
        for name, tensor in weights.items():
            if any(part in name for part in ENCODERS) != frozen:
                continue
            if shards[-1] and size_of(shards[-1]) + tensor.nbytes > LARGEST:
                shards.append({})
            shards[-1][name] = tensor.contiguous()
    shards = [shard for shard in shards if shard]
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(map(size_of, shards))}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def size_of(shard: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in shard.values())


def write_code(folder: Path) -> None:
    """Put into the folder of a checkpoint every file that model and processor are made of, and no
    other; the processor imports the pipeline."""
    from transformers.dynamic_module_utils import custom_object_save

    for path in folder.glob("*.py"):
        path.unlink()
    for published in (modeling_refavs.RefAVSForSegmentation, modeling_refavs.RefAVSProcessor):
        custom_object_save(published, folder)


class ModelPublication(Publication):
    """Weights as they are, the code that is installed, and a card made of results."""

    repo_type, kind = MODEL, MODEL
    card = CardRules(
        metadata=("library_name", "pipeline_tag", "license", "datasets", "metrics", "model-index"),
        sections=(
            "Use",
            "Intended use",
            "Limits",
            "Biases",
            "Training data",
            "Training procedure",
            "Evaluation",
            "Environmental cost",
            "Citation",
        ),
    )

    def build(self, work: Path) -> Path:
        self._check_source()
        for path in sorted(self.source.iterdir()):
            if path.is_file() and path.suffix in MODEL_FILES and path.name not in NOT_PUBLISHED:
                shutil.copyfile(path, work / path.name)
            elif path.suffix != ".py" and path.name not in (CARD_FACTS, "README.md"):
                self.left_out.append(path.name)
        write_code(work)
        self._write_card(work)
        return work

    def _check_source(self) -> None:
        try:
            model_type = json.loads((self.source / "config.json").read_text(encoding="utf-8"))[
                "model_type"
            ]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.source}: no checkpoint: it has no config.json that says a model_type"
            ) from error
        if model_type != "refavs":
            raise ValueError(
                f"{self.source}: holds a {model_type}, but a refavs (RefAVSForSegmentation) is "
                "published"
            )
        if not (self.source / "processor_config.json").is_file():
            raise ValueError(
                f"{self.source}: has no processor: save it too, "
                f"processor.save_pretrained({self.source})"
            )

    def _write_card(self, work: Path) -> None:
        facts, results, card = (
            self.source / name for name in (CARD_FACTS, EVALUATION, "README.md")
        )
        if facts.is_file() and results.is_file():
            from .card import render_card

            (work / "README.md").write_text(
                render_card(self.source, results, facts, self.repo_id), encoding="utf-8"
            )
        elif card.is_file():
            shutil.copyfile(card, work / "README.md")
        else:
            raise ValueError(
                f"{self.source}: has no card: put {CARD_FACTS} and {EVALUATION} (report.json of "
                "refavs evaluate) there"
            )

    def expected(self, folder: Path) -> Any:
        from transformers import pipeline

        import modeling_refavs.auto  # noqa: F401
        from modeling_refavs.configuration_refavs import TASK

        return ask_model(pipeline(TASK, model=str(self.source), device="cpu"))


PACKAGES = Path(modeling_refavs.__file__).parents[
    1
]  # modeling_refavs/ and dataset_script/ lie here


class MetricPublication(Publication):
    """One folder of metrics/: a Space that `evaluate.load` takes by its id."""

    repo_type, kind, space_sdk = "space", "metric", "gradio"
    card = CardRules(
        ("title", "sdk", "sdk_version", "app_file", "license", "tags"),
        ("Use it", "Limits", "Citation"),
    )

    def build(self, work: Path) -> Path:
        folder = work / self.source.name  # evaluate looks for a file named like its folder
        copy_tree(self.source, folder)
        return folder

    def expected(self, folder: Path) -> dict[str, float]:
        from .clean_room import metric

        return metric(str(self.source), None)


class DatasetPublication(Publication):
    """A tree is exported; what was exported goes as it is."""

    repo_type, kind = DATASET, DATASET
    card = CardRules(("pretty_name", "license", "task_categories", "configs"), ("Citation",))

    def __init__(self, source: Path, repo_id: str, licence: str = "other"):
        super().__init__(source, repo_id)
        self.licence = licence

    def build(self, work: Path) -> Path:
        if (self.source / "export.json").is_file():
            return self.source
        from dataset_script.export_parquet import export

        export(self.source, work, licence=self.licence, progress=True)
        return work

    def expected(self, folder: Path) -> dict[str, int]:
        """Rows of each split of the configuration that is loaded by default, the first that was
        exported."""
        shards = json.loads((folder / "export.json").read_text(encoding="utf-8"))["shards"]
        first = next(iter(shards)).partition("/")[0]
        rows: dict[str, int] = {}
        for name, shard in shards.items():
            configuration, _, file = name.partition("/")
            if configuration == first:
                split = file.partition("-")[0]
                rows[split] = rows.get(split, 0) + shard["rows"]
        return rows


class SpacePublication(Publication):
    """The demo, and beside its app.py the packages that it imports, which no registry has."""

    repo_type, kind, space_sdk = "space", "space", "gradio"
    loads_by_id = False  # it is run, and that is the Hub's work
    card = CardRules(("title", "sdk", "sdk_version", "app_file"))

    def build(self, work: Path) -> Path:
        for name in ("app.py", "README.md", "requirements.txt"):
            if not (self.source / name).is_file():
                raise ValueError(f"{self.source}: no Space: it has no {name}")
        copy_tree(self.source, work, "draw_examples.py")
        for package in ("modeling_refavs", "dataset_script"):
            copy_tree(PACKAGES / package, work / package)
        licence = next(
            (path for path in (self.source / "LICENSE", PACKAGES / "LICENSE") if path.is_file()),
            None,
        )
        if licence is None:
            raise ValueError(f"{self.source}: has no LICENSE: put one there")
        shutil.copyfile(licence, work / "LICENSE")
        return work


def publications_of(
    action: str, source: Path, repo_id: str, licence: str | None = None
) -> list[Publication]:
    """What `refavs publish ACTION SOURCE REPO_ID` asks for, all of it checked before the first is
    built."""
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder")
    if action == METRICS:
        return _metrics(source, repo_id)
    if action == DATASET:
        return [DatasetPublication(source, repo_id, licence or "other")]
    return [(ModelPublication if action == MODEL else SpacePublication)(source, repo_id)]


def _metrics(source: Path, repo_id: str) -> list[Publication]:
    """USER: each folder under its own name; USER/NAME: the one of that name."""
    source = source.resolve()
    folders = (
        [source] if (source / f"{source.name}.py").is_file() else sorted(source.glob("refavs_*/"))
    )
    user, _, name = repo_id.partition("/")
    chosen = [folder for folder in folders if name in ("", folder.name)]
    if not chosen:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise ValueError(
            f"{source}: no metric for {repo_id}: evaluate loads USER/<name of the folder>, of "
            f"{names}"
        )
    return [MetricPublication(folder, f"{user}/{folder.name}") for folder in chosen]


def publish(
    publication: Publication,
    private: bool,
    dry_run: bool,
    revision: str | None,
    say: Callable[[str], None],
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
            "checked: no path of this machine, no token, no pickle; the card is complete; it loads "
            "without this package"
        )
        if dry_run:
            say("dry run: nothing was sent")
            return
        _send(publication, remote, folder, private, say)


def _send(
    publication: Publication,
    remote: Remote,
    folder: Path,
    private: bool,
    say: Callable[[str], None],
) -> None:
    remote.create(private, publication.space_sdk)
    if removed := remote.other_files(folder):
        say(f"on the Hub, and not among these: removed there: {', '.join(removed)}")
    commit = remote.push(folder)
    remote.compare(folder, commit)
    say(f"{remote.url}: commit {commit[:12]}, {len(list_files(folder))} files read back and equal")
    if publication.loads_by_id:
        publication.load_remote(commit)
        say("loaded by its id")
