"""Draw or upload what was predicted for a sentence, and see whether it counts as answered."""

import gradio as gr
import numpy as np
from PIL import Image
from refavs_noref import is_answered


SIZE = 256  # pixels, the size of the published figures


def mask_of(drawing: dict | None) -> np.ndarray:
    """`(height, width)` bool of what an editor holds: whatever is bright."""
    if not drawing or drawing["composite"] is None:
        return np.zeros((SIZE, SIZE), dtype=bool)
    return np.asarray(drawing["composite"].resize((SIZE, SIZE), 0).convert("L")) > 127


def judge(first: dict | None, second: dict | None, refers: bool) -> str:
    """Two frames of one clip."""
    masks = np.stack([mask_of(first), mask_of(second)]).astype(np.float32)
    answered = is_answered(masks)
    name = "T-acc" if refers else "N-acc"
    return (
        f"# {name} = {float(answered == refers):.0f}\nThe sentence is "
        f"{'answered' if answered else 'left empty'}, and refers to "
        f"{'something' if refers else 'nothing'}: {'right' if answered == refers else 'wrong'}."
    )


def editor(label: str) -> gr.ImageEditor:
    brush = gr.Brush(colors=["#ffffff"], default_size=24, color_mode="fixed")
    blank = Image.new("L", (SIZE, SIZE))  # black, for a white brush and for white masks
    return gr.ImageEditor(
        blank, label=label, type="pil", image_mode="L", canvas_size=(SIZE, SIZE), brush=brush
    )


def build_demo() -> gr.Blocks:
    with gr.Blocks(title="Ref-AVS N-acc and T-acc") as demo:
        gr.Markdown(
            "Draw the masks predicted for two frames, or upload them (white is the object). Of "
            "sentences that are true of nothing in the video, **N-acc** is the share that is left "
            "empty; of the others, **T-acc** is the share that is answered. This is one sentence."
        )
        with gr.Row():
            first, second = editor("prediction, first frame"), editor("prediction, second frame")
            with gr.Column():
                refers = gr.Checkbox(label="The sentence refers to something")
                button = gr.Button("Judge", variant="primary")
                value = gr.Markdown("# N-acc")
        gr.on([button.click, demo.load], judge, [first, second, refers], value)
    return demo


if __name__ == "__main__":
    build_demo().launch()
