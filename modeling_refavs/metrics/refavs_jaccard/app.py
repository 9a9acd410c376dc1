"""Draw or upload two masks, and see J."""

import gradio as gr
import numpy as np
from PIL import Image
from refavs_jaccard import EMPTY_TRUTHS, score_frames


SIZE = 256  # pixels, the size of the published figures
PREDICTED, TRUE = (
    (230, 159, 0),
    (86, 180, 233),
)  # orange and sky blue, told apart with any colour vision


def mask_of(drawing: dict | None) -> np.ndarray:
    """`(height, width)` bool of what an editor holds: whatever is bright."""
    if not drawing or drawing["composite"] is None:
        return np.zeros((SIZE, SIZE), dtype=bool)
    return np.asarray(drawing["composite"].resize((SIZE, SIZE), 0).convert("L")) > 127


def compare(
    truth: dict | None, prediction: dict | None, empty_truth: str
) -> tuple[str, np.ndarray]:
    true, predicted = mask_of(truth), mask_of(prediction)
    score = score_frames(predicted[None].astype(np.float32), true[None], empty_truth=empty_truth)[0]
    text = (
        f"# J = {score:.4f}\n{(true & predicted).sum():,} pixels in both, "
        f"{(true | predicted).sum():,} in either."
    )
    if not true.any():
        text = f"# J = {score:.4f}\nThe truth is empty: `{empty_truth}` decides."
    return text, picture_of(true, predicted)


def picture_of(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Truth blue, prediction orange, both white."""
    picture = np.full((*true.shape, 3), 18, dtype=np.uint8)
    picture[true], picture[predicted], picture[true & predicted] = TRUE, PREDICTED, 255
    return picture


def editor(label: str) -> gr.ImageEditor:
    brush = gr.Brush(colors=["#ffffff"], default_size=24, color_mode="fixed")
    blank = Image.new("L", (SIZE, SIZE))  # black, for a white brush and for white masks
    return gr.ImageEditor(
        blank, label=label, type="pil", image_mode="L", canvas_size=(SIZE, SIZE), brush=brush
    )


def build_demo() -> gr.Blocks:
    with gr.Blocks(title="Ref-AVS J") as demo:
        gr.Markdown(
            "Draw two masks with the brush, or upload them (white is the object). **J** is what "
            "both hold, over what either holds."
        )
        with gr.Row():
            truth, prediction = editor("truth"), editor("prediction")
            with gr.Column():
                button = gr.Button("Compare", variant="primary")
                value = gr.Markdown("# J")
                picture = gr.Image(
                    label="truth blue, prediction orange, both white", interactive=False
                )
        empty_truth = gr.Radio(
            EMPTY_TRUTHS, value=EMPTY_TRUTHS[0], label="a frame whose truth is empty scores"
        )
        inputs = [truth, prediction, empty_truth]
        gr.on([button.click, empty_truth.change, demo.load], compare, inputs, [value, picture])
    return demo


if __name__ == "__main__":
    build_demo().launch()
