"""What must not leave the machine, and cards that lack something: each is seen once."""

import pickle

import pytest

from modeling_refavs.hub.checks import CardRules, check_card, check_files


TOKEN = "hf_" + "aB3" * 11 + "x"  # of no one
RULES = CardRules(("license", "tags"), ("Use", "Limits"))
CARD = (
    "---\nlicense: apache-2.0\ntags:\n- video\n---\n\n# A\n\n## Use\n\nSo.\n\n## Limits\n\nMany.\n"
)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "config.json",
            '{\n "_name_or_path": "/home/someone/runs/eemc"}',
            "config.json, line 2: /home/someone is a path",
        ),
        ("notes.md", "see /mnt/disk/data for more", "notes.md, line 1: /mnt/disk is a path"),
        ("code.py", 'open("/tmp/x")', "code.py, line 1: /tmp/x is a path"),
        ("code.py", 'open("C:\\\\Users\\\\me")', "is a path of this machine"),
        (
            "inner/settings.yaml",
            f"a: 1\ntoken: {TOKEN}\n",
            "inner/settings.yaml, line 2: holds what looks like a token (hf_aB3...)",
        ),
        (
            "weights.safetensors",
            b"\0\0\0" + TOKEN.encode() + b"\0",
            "holds what looks like a token",
        ),
        (
            "pytorch_model.bin",
            pickle.dumps({}),
            "pytorch_model.bin: a pickle runs code when it is opened",
        ),
        ("inner/Model.PT", b"", "a pickle runs code"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "bytes",
)
def test_what_must_not_leave(tmp_path, name, content, words):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "model.safetensors").write_bytes(b"\0")
    with pytest.raises(ValueError, match=name) as failure:
        check_files(tmp_path)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_the_own_token_and_the_own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "of-another-kind")
    (tmp_path / "a.txt").write_text("\nuse of-another-kind here")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: holds your own token"):
        check_files(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "other")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(f"made in {tmp_path}")
    with pytest.raises(ValueError, match=r"a\.txt, line 1: .* is a path of this machine"):
        check_files(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/user/page",
        "refavs live /dev/video0 --format v4l2",
        "media/<clip>/frames and ./data/x, ~/data/x, a/tmp/b",
        "hf_hub_download(hf_hub_url)",
        r"re.compile(r'/home/(\w+)')",
        "",
    ],
)
def test_what_is_harmless(tmp_path, text):
    (tmp_path / "a.py").write_text(text)
    check_files(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("## Limits\n\nMany.\n", ""), 'README.md: lacks the section "Limits"'),
        (("So.", ""), 'lacks the section "Use"'),
        (("license: apache-2.0\n", ""), "lacks license"),
        (("- video", ""), "lacks tags"),
        (("---\nlicense", "license"), "has no metadata"),
        (("apache-2.0", "[apache"), "its metadata cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_lacks_something(tmp_path, change, words):
    (tmp_path / "README.md").write_text(CARD.replace(*change))
    with pytest.raises(ValueError, match=r"^README\.md: ") as failure:
        check_card(tmp_path, RULES)
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_whole_card_and_none(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    check_card(tmp_path, RULES)
    (tmp_path / "README.md").unlink()
    with pytest.raises(ValueError, match=r"README\.md: missing"):
        check_card(tmp_path, RULES)
