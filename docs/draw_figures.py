"""Draw the pictures of README.md and docs/outputs.md again: `python docs/draw_figures.py`, two
minutes. `refavs benchmark`, `refavs dataset stats` and training draw theirs themselves."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from modeling_refavs.inference.loading import load_model
from modeling_refavs.inference.segment import segment_video
from modeling_refavs.visualization.contact_sheet import draw_contact_sheet
from modeling_refavs.visualization.dependence_plot import plot_dependence
from modeling_refavs.visualization.overlay import font_of, tint_of
from modeling_refavs.visualization.render import blur_rest, cut_out, draw_matte


ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "spaces_demo", ROOT / "docs" / "images"
HEADLINE = ["the bear", "the cello", "the object that is making a sound", "the airplane"]
SECOND = 5  # at which the modes are shown
PANEL, GAP, TEXT = (410, 308), 8, 20  # pixels; two panels beside each other are as wide as a README
SQUARE = 10  # pixels, of the pattern that stands for nothing


def draw_modes(frame: np.ndarray, mask: np.ndarray) -> Image.Image:
    """A panel with its name for each `--mode` of `refavs segment`."""
    overlay, tint = Image.fromarray(frame), tint_of(mask[None], first=1)
    overlay.paste(tint, mask=tint)
    cutout = Image.fromarray(cut_out(frame, mask))
    rows, columns = np.indices(mask.shape) // SQUARE
    pattern = np.where((rows + columns) % 2, 205, 235).astype(np.uint8)
    nothing = Image.fromarray(pattern).convert("RGB")
    nothing.paste(cutout, mask=cutout)
    panels = {
        "overlay": overlay,
        "cutout (transparent in WebM and PNG)": nothing,
        "matte": Image.fromarray(draw_matte(mask)),
        "blur-rest": Image.fromarray(blur_rest(frame, mask)),
    }
    width, height = PANEL[0] + GAP, PANEL[1] + TEXT + 2 * GAP
    sheet = Image.new("RGB", (2 * width - GAP, 2 * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, panel) in enumerate(panels.items()):
        corner = number % 2 * width, number // 2 * height
        sheet.paste(panel.resize(PANEL, Image.Resampling.LANCZOS), corner)
        place = corner[0], corner[1] + PANEL[1] + 4
        pen.text(place, name, font=font_of(TEXT - 3), fill="black")
    return sheet


def main() -> None:
    device = torch.device("cpu")
    found = segment_video(
        *load_model(str(PAGE / "photo_checkpoint"), device),
        PAGE / "examples" / "bear_first.mp4",
        HEADLINE,
    )
    draw_contact_sheet(found).save(IMAGES / "contact_sheet.jpg", quality=88, optimize=True)
    item = next(islice((i for i in found.masked_frames() if i.starts_step), SECOND, None))
    modes = draw_modes(item.frame.rgb, item.masks[HEADLINE.index("the cello")])
    modes.save(IMAGES / "modes.png", optimize=True)
    figure = plot_dependence(
        *load_model(str(PAGE / "synthetic_checkpoint"), device),
        PAGE / "examples" / "bell_first.mp4",
        "the first object to make a sound",
    )
    figure.savefig(IMAGES / "cues.png")
    cues = Image.open(IMAGES / "cues.png").convert("RGB")
    cues.quantize(256).save(IMAGES / "cues.png", optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
