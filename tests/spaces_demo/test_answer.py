"""What the page shows of an answer."""

import subprocess
import sys

from .conftest import FOLDER, ROOT


def make_answer(text: str = "the cat") -> dict:
    video = {"name": "clip.mp4", "duration": 2.5, "steps": 3, "has_audio": True}
    seen = {
        "text": text,
        "fits": True,
        "intervals": [[0, 2.0]],
        "presence": [0.9, 0.8, 0.1],
        "share": [0.1, 0.1, 0.0],
    }
    nothing = {
        "text": "the drum",
        "fits": False,
        "intervals": [],
        "presence": [0.1] * 3,
        "share": [0.0] * 3,
    }
    return {
        "summary": {"video": video, "expressions": [seen, nothing]},
        "spectrogram": "iVBOR",
    }


def page():
    import app

    return app.load_texts(app.LIMITS, 180.0, app.load_examples())["en"]


def test_it_says_when_and_it_says_nothing_plainly():
    from answer import draw_answer

    html = draw_answer(make_answer(), page())
    assert "seen 0-2 s" in html
    assert "nothing in this video fits" in html
    assert "second by second: 90, 80, 10" in html
    assert "data:image/png;base64," in html
    silent = draw_answer({**make_answer(), "spectrogram": None}, page())
    assert "no sound track" in silent


def test_a_sentence_is_text_not_html():
    from answer import draw_answer

    html = draw_answer(make_answer('<img src=x onerror="alert(1)">'), page())
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_the_lines_of_python_run(tmp_path):
    from answer import python_lines

    code = python_lines(
        "spaces_demo/synthetic_checkpoint",
        str(FOLDER / "examples" / "bell_first.mp4"),
        ["the drum"],
    )
    code = code.replace("overlay.mp4", str(tmp_path / "overlay.mp4"))
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[[]]\n"
    assert (tmp_path / "overlay.mp4").stat().st_size > 1000


def test_the_servers_folders_are_not_told(tmp_path):
    from answer import python_lines

    (tmp_path / "mine").mkdir()
    assert str(tmp_path) not in python_lines(str(tmp_path / "mine"), "clip.mp4", ["a dog"])
    assert "'some/id'" in python_lines("some/id", "clip.mp4", ["a dog"])
