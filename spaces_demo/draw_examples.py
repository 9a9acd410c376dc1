"""Draw the two clips that the page opens with: `python spaces_demo/draw_examples.py`.

They show the same, a bell, a cat and a house, in the form of the synthetic benchmark; in one the
bell is heard first, in the other the cat. The model of the page has learned from clips of this
kind, not from these. Of some forty scenes tried, they are of those that it answers best.
"""

from pathlib import Path

from dataset_script.synthetic.generate import encode_video
from dataset_script.synthetic.scene import Scene, SceneObject, Sound
from dataset_script.synthetic.sounds import render_sound


EXAMPLES = Path(__file__).parent / "examples"
SECONDS, SIZE = 10, (320, 320)  # s; height and width, pixels
THINGS = {
    "bell": ("yellow", "striped", "leftwards", (0.26, 0.62)),
    "cat": ("white", "plain", "still", (0.52, 0.26)),
    "house": ("red", "spotted", "still", (0.77, 0.66)),
}  # colour, surface, motion, centre; the height of the frame is 1
RATES = {"bell": 1.3, "cat": 5.2}  # strokes a second
CLIPS = {"bell_first": ("bell", "cat"), "cat_first": ("cat", "bell")}  # which sounds in which half


def make_scene(order: tuple[str, str]) -> Scene:
    """The first of `order` sounds in the first half, the second in the second."""
    whole, half = (0.0, float(SECONDS)), SECONDS / 2
    halves = dict(zip(order, [(0.0, half), (half, whole[1])], strict=True))
    objects = []
    for fid, (category, (colour, surface, motion, centre)) in enumerate(THINGS.items()):
        sound = None
        if category in halves:
            rate = RATES[category]
            sound = Sound((halves[category],), level=(-18.0, -18.0), rate=(rate, rate), pitch=1.0)
        objects.append(
            SceneObject(
                fid, category, colour, surface, 0.15, centre, motion, fid, whole, fid, sound
            )
        )
    return Scene(0, whole[1], 1.0, 1.0, tuple(objects))


def main() -> None:
    for name, order in CLIPS.items():
        scene = make_scene(order)
        (EXAMPLES / f"{name}.mp4").write_bytes(encode_video(scene, render_sound(scene), *SIZE))


if __name__ == "__main__":
    main()
