"""What the page shows of an answer."""

import re
import subprocess
import sys
from xml.etree import ElementTree as ET

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
        "ratio": 4 / 3,
        "wave": [0.5, 1.0, 0.1] * 25,
        "sounding": [[True, False, False], [False] * 3],
        "nearest": [None, {"second": 1, "presence": 0.1, "name": "barrel", "probability": 0.3}],
    }


def page():
    import app

    return app.load_texts(app.LIMITS, 180.0, app.load_examples())["en"]


def test_it_says_when_and_it_says_nothing_plainly():
    from answer import draw_answer

    html = draw_answer(make_answer(), page())
    assert "seen 0-2 s" in html
    assert "Nothing in this video fits. The nearest was at 1 s, with 10 %" in html
    assert "“barrel”" in html
    assert "second by second: 90, 80, 10" in html
    lanes = [ET.fromstring(svg) for svg in re.findall("<svg.*?</svg>", html)]
    assert [len(lane.findall("rect[@class='seen']")) for lane in lanes] == [2, 0]
    strokes = [
        {path.get("class").strip(): path.get("d").count("M") for path in lane.iter("path")}
        for lane in lanes
    ]
    assert strokes == [{"wave": 50, "wave heard": 25}, {"wave": 75}]  # 25 strokes a second


def test_no_name_no_sound_no_strip():
    from answer import draw_answer

    answer = {**make_answer(), "wave": None, "sounding": None}
    answer["nearest"] = [None, {"second": 1, "presence": 0.1}]
    html = draw_answer(answer, page())
    assert html.count("This video has no sound") == 1
    assert "<path" not in html
    assert "looks like" not in html


def test_quality_is_a_line_where_it_is_told():
    from answer import draw_answer

    answer = make_answer()
    assert "polyline" not in draw_answer(answer, page())
    answer["summary"]["expressions"][0]["iou_scores"] = [1.0, 0.5, 0.0]
    assert 'points="0,0.0 10,0.0 10,20.0 20,20.0 20,40.0 30,40.0"' in draw_answer(answer, page())


def test_a_sentence_is_text_not_html():
    from answer import draw_answer

    html = draw_answer(make_answer('<img src=x onerror="alert(1)">'), page())
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_the_lines_of_python_run(tmp_path):
    from answer import python_lines

    code = python_lines(
        str(FOLDER / "synthetic_checkpoint"),
        str(FOLDER / "examples" / "bell_first.mp4"),
        ["the drum"],
    )
    assert "'spaces_demo/examples/bell_first.mp4'" in code
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
