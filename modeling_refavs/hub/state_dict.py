"""State dicts that others saved: read without running their code, and compared with what a model expects."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from ..media.writing import whole_file


@dataclass(frozen=True)
class KeyReport:
    """What becomes of every key.

    Args:
        used: name in the file -> name in the model.
        ignored: name in the file -> why it is left out on purpose.
        missing, unexpected: names that only the model knows, names that only the file knows.
        misshapen: name -> the shape that came and the one that the model has.
    """

    used: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{len(self.used)} keys used, {len(self.ignored)} ignored on purpose"
        for kind in ("missing", "unexpected", "misshapen"):
            names = list(getattr(self, kind))
            text += f", {len(names)} {kind}" + (f" (such as {names[0]})" if names else "")
        return text

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    def write(self, path: str | Path) -> None:
        """As JSON."""
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth` file. Only tensors are read: a pickle that would run code is refused.

    Raises:
        ValueError: the file is missing, broken, or holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or foreign file makes the unpickler raise
        raise ValueError(
            f"{path}: not a file of tensors that torch can read safely ({type(error).__name__})"
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError(
            f"{path}: not a state dict (names and tensors), but a {type(loaded).__name__} of other things"
        )
    return dict(loaded)


def saved_names(model: PreTrainedModel) -> dict[str, str]:
    """Name in a file that `save_pretrained` writes -> name in the model: transformers renames Swin's in between."""
    markers = {name: torch.tensor(index) for index, name in enumerate(model.state_dict())}
    names = list(markers)
    return {saved: names[int(marker)] for saved, marker in revert_weight_conversion(model, markers).items()}


def compare(
    found: Mapping[str, torch.Size],
    expected: Mapping[str, tuple[str, torch.Size]],
    ignored: Mapping[str, str],
) -> KeyReport:
    """Sort every key.

    Args:
        found: names and shapes of the file.
        expected: name in the file -> name in the model, shape.
        ignored: end of a name -> why such keys are left out.
    """
    report = KeyReport()
    for name, shape in found.items():
        reason = next((reason for end, reason in ignored.items() if name.endswith(end)), None)
        if reason:
            report.ignored[name] = reason
        elif name not in expected:
            report.unexpected.append(name)
        elif shape != expected[name][1]:
            report.misshapen[name] = f"{tuple(shape)} and not {tuple(expected[name][1])}"
        else:
            report.used[name] = expected[name][0]
    report.missing.extend(name for name in expected if name not in found)
    return report


def check_output(folder: str | Path) -> None:
    """`ValueError` before the work for a folder that cannot be written to after it."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: must be a new or empty folder, so that nothing older stays in it")
    if not folder.resolve().parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.resolve().parent} to put it in")
