"""Make the clips of `examples/`: `python spaces_demo/draw_examples.py [LIBRARY]`.

Two are drawn, in the form of the synthetic benchmark: a bell, a cat and a house, in one the bell is
heard first, in the other the cat. `synthetic_checkpoint` has learned from clips of this kind, not
from these. Of some forty scenes tried, they are of those that it answers best.

With a library that `refavs library build` made, also those of the page: a bear that leaves and a
cello that comes, the bear heard first; a lion and a rooster over a dune, in either order. The
page's model has learned from this bear, this cello and this rooster, and from no lion. Of some
sixty scenes tried it answers that of the bear and the cello best, by name and by sound in every
second; of thirty pairs of animals the lion and the rooster. Their parts are of packages under one
licence, GPL-2 or later, under which the clips are too; `examples/CREDITS.md` names them.
"""

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from dataset_script.synthetic.appearance import appearance_of
from dataset_script.synthetic.generate import encode_video
from dataset_script.synthetic.scene import Scene, SceneObject, Sound
from dataset_script.synthetic.sounds import render_sound
from modeling_refavs.video_refavs import read_steps


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


THUMBNAIL, STILL = (320, 240), 4  # pixels; second
PHOTO_SIZE = (360, 480)
PHOTO_GROUND = "backgrounds/mate-Dune.jpg"
PHOTOGRAPHS = {
    "lion": ("pictures/lion-1.png", 0.27, (0.36, 0.58), "sounds/lion-1.wav", "roaring"),
    "rooster": ("pictures/rooster-1.png", 0.25, (1.0, 0.6), "sounds/rooster-1.wav", "crowing"),
}  # picture, radius, centre, recording, what one hears
BEAR_GROUND = "backgrounds/mate-Blinds.jpg"
BEAR_SEED, BEAR_PRESENCE, CELLO_PRESENCE = 523, (0.0, 7.6), (2.6, float(SECONDS))
PHOTO_CLIPS = {"lion_first": ("lion", "rooster")}


def make_photo_scene(order: tuple[str, str]) -> Scene:
    """As `make_scene`."""
    whole, half = (0.0, float(SECONDS)), SECONDS / 2
    halves = dict(zip(order, [(0.0, half), (half, whole[1])], strict=True))
    objects = []
    for fid, (kind, about) in enumerate(PHOTOGRAPHS.items()):
        picture, radius, centre, recording, does = about
        sound = Sound((halves[kind],), (-18.0, -18.0), None, 1.0, recording, (0.0, 60.0), does)
        item = SceneObject(fid, kind, "", "", radius, centre, "still", 0.0, whole, fid, sound)
        objects.append(replace(item, picture=picture))
    height, width = PHOTO_SIZE
    return Scene(3, whole[1], width / height, 1.0, tuple(objects), PHOTO_GROUND)


def make_bear_scene() -> Scene:
    """A bear leaves, a cello comes; the bear sounds in the first half, the cello in the second."""
    half, level = SECONDS / 2, (-12.0, -12.0)
    growl = Sound(((0.0, half),), level, None, 1.0, "sounds/bear-1.wav", (0.0, 60.0), "growling")
    music = Sound(
        ((half, float(SECONDS)),), level, None, 1.0, "sounds/cello-2.wav", (0.0, 60.0), "playing"
    )
    bear = SceneObject(
        0, "bear", "", "", 0.2803, (0.375, 0.605), "still", 0.0, BEAR_PRESENCE, 0, growl
    )
    cello = SceneObject(
        1, "cello", "", "", 0.3326, (0.9, 0.611), "still", 0.0, CELLO_PRESENCE, 1, music
    )
    objects = (
        replace(bear, picture="pictures/bear-1.png"),
        replace(cello, picture="pictures/cello-1.png"),
    )
    height, width = PHOTO_SIZE
    return Scene(BEAR_SEED, float(SECONDS), width / height, 1.0, objects, BEAR_GROUND)


def draw_thumbnails(video: Path) -> None:
    """A still and a moving picture of a clip, beside it: for the page's cards."""
    pictures = [Image.fromarray(step.frame) for step in read_steps(video)]
    for picture in pictures:
        picture.thumbnail(THUMBNAIL)
    pictures[STILL].save(video.with_suffix(".jpg"), quality=85)
    pictures[0].save(
        video.with_suffix(".webp"), save_all=True, append_images=pictures[1:], duration=400, loop=0
    )


def main(library: str | None = None) -> None:
    if library:
        photographed = appearance_of(library)
        scenes = {name: make_photo_scene(order) for name, order in PHOTO_CLIPS.items()}
        for name, scene in {"bear_first": make_bear_scene(), **scenes}.items():
            sound = photographed.render_sound(scene)
            video = encode_video(scene, sound, *PHOTO_SIZE, photographed)
            (EXAMPLES / f"{name}.mp4").write_bytes(video)
    for name, order in CLIPS.items():
        scene = make_scene(order)
        (EXAMPLES / f"{name}.mp4").write_bytes(encode_video(scene, render_sound(scene), *SIZE))
    for video in sorted(EXAMPLES.glob("*.mp4")):
        draw_thumbnails(video)


if __name__ == "__main__":
    main(*sys.argv[1:])
