"""The model's outputs about a video of any length, on disk; a run that was stopped goes on after
the last of them."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..eemc import RefAVSMemory
from ..utils.files import whole_file


STORED_TYPE = np.dtype(
    "<f2"
)  # half precision: 18 kB for each sentence and output at 96x96; no sign is lost
PRESENCE = "presence"


class MaskStore:
    """Mask logits and presence of one output after the other.

    In memory stands the presence alone: the masks' logits are in a file that is gone with this
        object, or in a [`PersistentMaskStore`].

    Args:
        file: for the logits, open for reading and writing; by default a nameless temporary one.
    """

    def __init__(self, file: BinaryIO | None = None):
        self.file = file or tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this object
        self.shape: tuple[int, ...] | None = None  # (expressions, h, w)
        self.presence: np.ndarray | None = None  # (expressions, outputs)
        self.memory: RefAVSMemory | None = None
        self.duration = 0.0

    def __len__(self) -> int:
        return 0 if self.presence is None else self.presence.shape[1]

    def append(
        self,
        mask_logits: torch.Tensor,
        presence: np.ndarray,
        memory: RefAVSMemory | None,
        duration: float,
    ) -> None:
        """What the model said of the next pictures.

        Args:
            mask_logits: `(expressions, outputs, h, w)`.
            presence: `(expressions, outputs)`, probabilities.
            memory: of the model, after the last of them.
            duration: s, that they cover.
        """
        block = (
            mask_logits.float().cpu().numpy().astype(STORED_TYPE).swapaxes(0, 1)
        )  # -> (outputs, expressions, h, w)
        self.shape = block.shape[1:]
        self.file.seek(len(self) * self._output_size)
        self.file.write(block.tobytes())
        self.file.flush()
        self.presence = (
            presence if self.presence is None else np.concatenate([self.presence, presence], axis=1)
        )
        self.memory, self.duration = memory, self.duration + duration

    def read(self, index: int) -> torch.Tensor:
        """`(expressions, h, w)` float32 of one output."""
        self.file.seek(index * self._output_size)
        record = np.frombuffer(self.file.read(self._output_size), dtype=STORED_TYPE)
        return torch.from_numpy(record.reshape(self.shape).astype(np.float32))

    def remove(self) -> None:
        """All outputs are written: nothing is left to go on with."""
        self.file.close()

    @property
    def _output_size(self) -> int:
        return 0 if self.shape is None else int(np.prod(self.shape)) * STORED_TYPE.itemsize


class PersistentMaskStore(MaskStore):
    """MaskStore in a folder that outlives the run.

    Args:
        folder: is made, or continued if its request is the same, or begun anew.
        request: what the outputs depend on, as JSON has it; see [`describe_request`].
    """

    def __init__(self, folder: str | Path, request: dict[str, Any]):
        self.folder, self.request = Path(folder), json.loads(json.dumps(request))
        self.folder.mkdir(exist_ok=True)
        state = self._read_state()
        outputs = self.folder / "mask_logits.f16"
        super().__init__(outputs.open("r+b" if state and outputs.exists() else "w+b"))
        if state:
            facts, tensors = state
            self.shape, self.duration = tuple(facts["shape"]), facts["duration"]
            self.presence = tensors.pop(PRESENCE).numpy()
            self.memory = RefAVSMemory.from_dict(tensors)
            if (
                self.file.seek(0, 2) < len(self) * self._output_size
            ):  # not what the state says: begin anew
                super().__init__(self.file)

    def append(
        self,
        mask_logits: torch.Tensor,
        presence: np.ndarray,
        memory: RefAVSMemory | None,
        duration: float,
    ) -> None:
        """As in [`MaskStore`]; when it returns, a later run goes on from here."""
        super().append(mask_logits, presence, memory, duration)
        tensors = (
            {name: value.cpu().contiguous() for name, value in memory.to_dict().items()}
            if memory
            else {}
        )
        tensors[PRESENCE] = torch.from_numpy(self.presence)
        facts = {"request": self.request, "shape": self.shape, "duration": self.duration}
        with whole_file(self._state) as unfinished:
            unfinished.write_bytes(save(tensors, {"facts": json.dumps(facts)}))

    def remove(self) -> None:
        """As in [`MaskStore`]; the folder goes."""
        super().remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _state(self) -> Path:
        return self.folder / "state.safetensors"

    def _read_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        try:
            with safe_open(self._state, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("facts", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
        except (OSError, SafetensorError):
            return None
        return (facts, tensors) if facts.get("request") == self.request else None


def store_folder_of(output: str | Path) -> Path:
    """The folder beside an output in which its outputs wait: `.out.mp4.journal` of `out.mp4`."""
    output = Path(output)
    return output.with_name(f".{output.name}.journal")


def describe_request(
    video: str | Path, expressions: list[str], model: str, **options: Any
) -> dict[str, Any]:
    """What the outputs depend on: another file under the same name, or other weights in the same
    folder, are another request."""
    files = [
        Path(video).resolve(),
        *sorted(Path(model).glob("*.safetensors")),
        *sorted(Path(model).glob("*.json")),
    ]
    stamps = {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return {"files": stamps, "model": model, "expressions": list(expressions), **options}
