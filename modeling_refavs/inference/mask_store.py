"""Where the mask logits of a video of any length wait: on disk; a run that was stopped resumes
after
the last of them."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..eemc import RefAVSMemory
from ..utils.files import whole_file


# Half precision: 18 kB for each expression and frame at 96x96; no sign is lost.
LOGIT_DTYPE = np.dtype("<f2")
PRESENCE, TIMES, IOU_SCORES = "presence", "times", "iou_scores"
CLAIMS = "folders.json"


class MaskStore:
    """Holds mask logits, presence and predicted IoU of the frames that the model saw, in order.

    The logits are in a file, which is gone with this object, and the others in memory.

    Args:
        file: for the logits, open for reading and writing; by default a nameless temporary one.
    """

    def __init__(self, file: BinaryIO | None = None):
        self.file = file or tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this object
        self.shape: tuple[int, ...] | None = None  # (expressions, h, w)
        self.presence: np.ndarray | None = None  # (expressions, frames)
        self.iou_scores: np.ndarray | None = None  # likewise; None of a model without an IoU head
        self.times = np.zeros(0)  # s, of the frames
        self.memory: RefAVSMemory | None = None
        self.duration = 0.0
        self._lock = Lock()  # drawing and whoever asks for shares are different threads

    def __len__(self) -> int:
        return 0 if self.presence is None else self.presence.shape[1]

    def append(
        self,
        mask_logits: torch.Tensor,
        presence: np.ndarray,
        memory: RefAVSMemory | None,
        duration: float,
        times: np.ndarray | None = None,
        iou_scores: np.ndarray | None = None,
    ) -> None:
        """Keep what the model said of the next frames.

        Args:
            mask_logits: `(expressions, frames, h, w)`.
            presence: `(expressions, frames)`, probabilities.
            memory: of the model, after the last of them.
            duration: s, that they cover.
            times: `(frames,)` s, when they were on display; by default one second after the other.
            iou_scores: `(expressions, frames)`, or None.
        """
        # (expressions, frames, h, w) -> (frames, expressions, h, w)
        block = mask_logits.float().cpu().numpy().astype(LOGIT_DTYPE).swapaxes(0, 1)
        self.shape = block.shape[1:]
        with self._lock:
            self.file.seek(len(self) * self._frame_size)
            self.file.write(block.tobytes())
            self.file.flush()
        if times is None:
            times = len(self) + np.arange(len(block), dtype=float)
        self.times = np.concatenate([self.times, times])
        self.presence = _join(self.presence, presence)
        self.iou_scores = _join(self.iou_scores, iou_scores)
        self.memory, self.duration = memory, self.duration + duration

    def read(self, index: int) -> torch.Tensor:
        """Return `(expressions, h, w)` float32, the mask logits of one frame."""
        with self._lock:
            self.file.seek(index * self._frame_size)
            content = self.file.read(self._frame_size)
        logits = np.frombuffer(content, dtype=LOGIT_DTYPE)
        return torch.from_numpy(logits.reshape(self.shape).astype(np.float32))

    def remove(self) -> None:
        """Give the disk space back: all outputs are written."""
        self.file.close()

    @property
    def _frame_size(self) -> int:
        """Bytes of one frame's mask logits."""
        return 0 if self.shape is None else int(np.prod(self.shape)) * LOGIT_DTYPE.itemsize


class PersistentMaskStore(MaskStore):
    """A mask store in a folder that outlives the run.

    Args:
        folder: is made, or resumed if its request is the same, or begun anew.
        request: what the logits depend on, as JSON has it; see [`describe_request`].
    """

    def __init__(self, folder: str | Path, request: dict[str, Any]):
        self.folder, self.request = Path(folder), json.loads(json.dumps(request))
        self.folder.mkdir(exist_ok=True)
        state, logits = self._read_state(), self.folder / "mask_logits.f16"
        super().__init__(logits.open("r+b" if state and logits.exists() else "w+b"))
        if state:
            facts, tensors = state
            self.shape, self.duration = tuple(facts["shape"]), facts["duration"]
            self.presence, self.times = tensors.pop(PRESENCE).numpy(), tensors.pop(TIMES).numpy()
            if IOU_SCORES in tensors:
                self.iou_scores = tensors.pop(IOU_SCORES).numpy()
            self.memory = RefAVSMemory.from_dict(tensors)
            if self.file.seek(0, 2) < len(self) * self._frame_size:
                super().__init__(self.file)  # less than the state says: begin anew

    def append(
        self,
        mask_logits: torch.Tensor,
        presence: np.ndarray,
        memory: RefAVSMemory | None,
        duration: float,
        times: np.ndarray | None = None,
        iou_scores: np.ndarray | None = None,
    ) -> None:
        """As in [`MaskStore`]; when it returns, a later run resumes from here."""
        super().append(mask_logits, presence, memory, duration, times, iou_scores)
        tensors = memory.to_dict() if memory else {}
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        tensors[PRESENCE] = torch.from_numpy(self.presence)
        tensors[TIMES] = torch.from_numpy(self.times)
        if self.iou_scores is not None:
            tensors[IOU_SCORES] = torch.from_numpy(self.iou_scores)
        facts = {"request": self.request, "shape": self.shape, "duration": self.duration}
        with whole_file(self._state) as unfinished:
            unfinished.write_bytes(save(tensors, {"facts": json.dumps(facts)}))

    def claim(self, folders: Iterable[Path]) -> None:
        """Note that this run is about to write these folders: it may replace them when it is asked
        again."""
        claims = {"request": self.request, "folders": [str(path.resolve()) for path in folders]}
        with whole_file(self.folder / CLAIMS) as unfinished:
            unfinished.write_text(json.dumps(claims), encoding="utf-8")

    def remove(self) -> None:
        """As in [`MaskStore`]; the folder is removed, last of all what it claims: killed before, a
        later run may still replace that."""
        super().remove()
        for path in self.folder.iterdir():
            if path.name != CLAIMS:
                path.unlink(missing_ok=True)
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
        same = facts.get("request") == self.request and TIMES in tensors
        return (facts, tensors) if same else None


def _join(before: np.ndarray | None, after: np.ndarray | None) -> np.ndarray | None:
    """Values of more frames, `(expressions, frames)`."""
    return after if before is None else np.concatenate([before, after], axis=1)


def store_folder_of(output: str | Path) -> Path:
    """Return the folder of an output's mask store: `.out.mp4.journal` beside `out.mp4`."""
    output = Path(output)
    output = output if output.name else output.absolute()  # "."
    return output.parent / f".{output.name}.journal"


def claimed_folders(folder: Path, request: dict[str, Any]) -> set[Path]:
    """Return the folders that a stopped run of the same request may have written, see
    [`PersistentMaskStore.claim`]."""
    try:
        claims = json.loads((folder / CLAIMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    same = claims["request"] == json.loads(json.dumps(request))
    return set(map(Path, claims["folders"])) if same else set()


def describe_request(
    video: str | Path, expressions: list[str], model: str, **options: Any
) -> dict[str, Any]:
    """Describe what mask logits depend on: another file under the same name, or other weights in
    the same folder, make another request."""
    files = [
        Path(video).resolve(),
        *sorted(Path(model).glob("*.safetensors")),
        *sorted(Path(model).glob("*.json")),
    ]
    stamps = {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return {"files": stamps, "model": model, "expressions": list(expressions), **options}
