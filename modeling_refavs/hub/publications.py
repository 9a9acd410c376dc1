"""What `refavs publish` is asked for: metrics, data and the demo here, the model next door."""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import modeling_refavs

from .checks import CardRules
from .command import DATASET, METRICS, MODEL
from .files import copy_tree
from .model_publication import ModelPublication
from .publication import Publication


PACKAGES = Path(modeling_refavs.__file__).parents[1]  # modeling_refavs/ and dataset_script/ lie here


class MetricPublication(Publication):
    """One folder of metrics/: a Space that `evaluate.load` takes by its id."""

    repo_type, room, space_sdk = "space", "metric", "gradio"
    card = CardRules(("title", "sdk", "sdk_version", "app_file", "license", "tags"), ("Use it", "Limits", "Citation"))

    def build(self, work: Path) -> Path:
        folder = work / self.source.name  # evaluate looks for a file named like its folder
        copy_tree(self.source, folder)
        return folder

    def expected(self, folder: Path) -> dict[str, float]:
        from .clean_room import metric

        return metric(str(self.source), None)


class DatasetPublication(Publication):
    """A tree is exported; what was exported goes as it is."""

    repo_type, room = DATASET, DATASET
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
        """Rows of each split of the configuration that is loaded by default, the first that was exported."""
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

    repo_type, room, space_sdk = "space", "space", "gradio"
    loads_by_id = False  # it is run, and that is the Hub's work
    card = CardRules(("title", "sdk", "sdk_version", "app_file"))

    def build(self, work: Path) -> Path:
        for name in ("app.py", "README.md", "requirements.txt"):
            if not (self.source / name).is_file():
                raise ValueError(f"{self.source}: no Space: it has no {name}")
        copy_tree(self.source, work, "draw_examples.py")
        for package in ("modeling_refavs", "dataset_script"):
            copy_tree(PACKAGES / package, work / package)
        licence = next((path for path in (self.source / "LICENSE", PACKAGES / "LICENSE") if path.is_file()), None)
        if licence is None:
            raise ValueError(f"{self.source}: has no LICENSE: put one there")
        shutil.copyfile(licence, work / "LICENSE")
        return work


def publications_of(args: argparse.Namespace) -> Iterator[Publication]:
    """What the arguments of `refavs publish` ask for, all of it checked before the first is built."""
    if not args.source.is_dir():
        raise ValueError(f"{args.source}: no such folder")
    if args.action == METRICS:
        return iter(_metrics(args.source, args.repo_id))
    if args.action == DATASET:
        return iter([DatasetPublication(args.source, args.repo_id, args.licence)])
    return iter([(ModelPublication if args.action == MODEL else SpacePublication)(args.source, args.repo_id)])


def _metrics(source: Path, repo_id: str) -> list[Publication]:
    """USER: each folder under its own name; USER/NAME: the one of that name."""
    source = source.resolve()
    folders = [source] if (source / f"{source.name}.py").is_file() else sorted(source.glob("refavs_*/"))
    user, _, name = repo_id.partition("/")
    chosen = [folder for folder in folders if name in ("", folder.name)]
    if not chosen:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise ValueError(f"{source}: no metric for {repo_id}: evaluate loads USER/<name of the folder>, of {names}")
    return [MetricPublication(folder, f"{user}/{folder.name}") for folder in chosen]
