"""What a synthetic tree's scene graphs say of its training clips, as labels for the encoders."""

import json
from dataclasses import dataclass
from pathlib import Path

from dataset_script.synthetic.scene import Scene


@dataclass(frozen=True)
class LabelledScene:
    """A clip's scene graph; `categories` in the order of its objects' numbers."""

    clip_id: str
    scene: Scene

    @property
    def is_null(self) -> bool:
        return self.clip_id.startswith("null_")

    @property
    def categories(self) -> list[str]:
        return [item.category for item in self.scene.objects]


def read_scenes(tree: Path, split: str) -> list[LabelledScene]:
    """The scene graphs of a split, by name."""
    scenes = []
    for path in sorted((tree / "scenes").glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["split"] == split:
            scenes.append(LabelledScene(path.stem, Scene.from_json(stored["scene"])))
    if not scenes:
        raise ValueError(f"{tree} holds no scene graphs of split {split}: encoders are pretrained on synthetic clips")
    return scenes
