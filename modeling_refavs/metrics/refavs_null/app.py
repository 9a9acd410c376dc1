"""Draw or upload what was predicted for a sentence that is true of nothing, and see S."""

import gradio as gr
import numpy as np
from PIL import Image
from refavs_null import pool, score_frames


SIZE = 256  # pixels, the size of the published figures


def mask_of(drawing: dict | None) -> np.ndarray:
    """`(height, width)` bool of what an editor holds: whatever is bright."""
    if not drawing or drawing["composite"] is None:
        return np.zeros((SIZE, SIZE), dtype=bool)
    return np.asarray(drawing["composite"].resize((SIZE, SIZE), 0).convert("L")) > 127


def judge(first: dict | None, second: dict | None) -> str:
    """Two frames of one clip."""
    masks = np.stack([mask_of(first), mask_of(second)]).astype(np.float32)
    shares = score_frames(masks)
    value = pool(shares.sum(keepdims=True), np.array([len(shares)]))
    return (
        f"# S = {value:.4f}\n{shares[0]:.1%} of the first frame is predicted, "
        f"{shares[1]:.1%} of the second. Lower is better."
    )


def editor(label: str) -> gr.ImageEditor:
    brush = gr.Brush(colors=["#ffffff"], default_size=24, color_mode="fixed")
    blank = Image.new("L", (SIZE, SIZE))  # black, for a white brush and for white masks
    return gr.ImageEditor(
        blank, label=label, type="pil", image_mode="L", canvas_size=(SIZE, SIZE), brush=brush
    )


def build_demo() -> gr.Blocks:
    with gr.Blocks(title="Ref-AVS S") as demo:
        gr.Markdown(
            "The sentence is true of nothing in the video: whatever is predicted is wrong. Draw "
            "the masks predicted for "
            "two frames, or upload them (white is the object): **S** is the square root of the "
            "predicted part of all pixels."
        )
        with gr.Row():
            first, second = editor("prediction, first frame"), editor("prediction, second frame")
            with gr.Column():
                button = gr.Button("Judge", variant="primary")
                value = gr.Markdown("# S")
        gr.on([button.click, demo.load], judge, [first, second], value)
    return demo


if __name__ == "__main__":
    build_demo().launch()
