"""Draw or upload a true mask and a predicted one, in greys if you like, and see F at every
threshold."""

import gradio as gr
import numpy as np
import pandas as pd
from PIL import Image
from refavs_fscore import score_frames, thresholds


SIZE = 256  # pixels, the size of the published figures


def levels_of(drawing: dict | None) -> np.ndarray:
    """`(height, width)` float32 in [0, 1] of what an editor holds: black is 0, white is 1."""
    if not drawing or drawing["composite"] is None:
        return np.zeros((SIZE, SIZE), dtype=np.float32)
    return (
        np.asarray(drawing["composite"].resize((SIZE, SIZE), 0).convert("L"), dtype=np.float32)
        / 255
    )


def compare(truth: dict | None, prediction: dict | None) -> tuple[str, pd.DataFrame | None]:
    true, probabilities = levels_of(truth) > 0.5, levels_of(prediction)
    if not true.any():
        return "# F\nThe truth is empty: F leaves such a frame out.", None
    curve = score_frames(probabilities[None], true[None])[0]
    best = int(curve.argmax())
    text = (
        f"# F = {curve[best]:.4f}\nat threshold {thresholds()[best]:.3f}, the best of {len(curve)}."
    )
    return text, plot_of(curve)


def plot_of(curve: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"threshold": thresholds(), "F": curve})


def editor(label: str, greys: list[str]) -> gr.ImageEditor:
    brush = gr.Brush(colors=greys, default_size=24, color_mode="fixed")
    blank = Image.new("L", (SIZE, SIZE))  # black, for a white brush and for white masks
    return gr.ImageEditor(
        blank, label=label, type="pil", image_mode="L", canvas_size=(SIZE, SIZE), brush=brush
    )


def build_demo() -> gr.Blocks:
    with gr.Blocks(title="Ref-AVS F") as demo:
        gr.Markdown(
            "Draw two masks with the brush, or upload them (white is the object). Greys in the "
            "prediction are probabilities: **F** is "
            "the F measure at the threshold that suits them best."
        )
        with gr.Row():
            truth = editor("truth", ["#ffffff"])
            prediction = editor("prediction", ["#ffffff", "#c0c0c0", "#808080", "#404040"])
            with gr.Column():
                button = gr.Button("Compare", variant="primary")
                value = gr.Markdown("# F")
                plot = gr.LinePlot(x="threshold", y="F", y_lim=[0, 1], height=220)
        gr.on([button.click, demo.load], compare, [truth, prediction], [value, plot])
    return demo


if __name__ == "__main__":
    build_demo().launch()
