"""Push, read back and compare, with the genuine client, and everything that can go wrong
between."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from modeling_refavs.cli import main
from modeling_refavs.hub.checks import CardRules
from modeling_refavs.hub.publish import Publication, publish

from .connection import Fault


WEIGHTS = bytes(range(256)) * 400  # 100 kB
CARD = "---\nlicense: apache-2.0\n---\n\n## Use\n\nAs you like.\n"


class Folder(Publication):
    """Any folder, which nobody loads."""

    repo_type, card = "model", CardRules(("license",), ("Use",))

    def build(self, work: Path) -> Path:
        return Path(shutil.copytree(self.source, work, dirs_exist_ok=True))

    def load_folder(self, folder: Path) -> None:
        pass

    def load_remote(self, commit: str) -> None:
        pass


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "inner" / "code.py").write_text("import torch\n")
    return folder


@pytest.fixture
def push(hub, source, monkeypatch):
    """`push()` publishes `source` as user/folder; returns what it said."""
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client's pauses before it tries again

    def run(repo_id="user/folder", private=False, dry_run=False, revision=None) -> str:
        lines: list[str] = []
        publish(Folder(source, repo_id), private, dry_run, revision, lines.append)
        return "\n".join(lines)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def arrived(hub, revision="main") -> dict[str, bytes]:
    files = hub.files("model", "user/folder", revision)
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def commits(hub) -> int:
    return len([line for line in hub.log if "/commit/" in line])


def uploads(hub) -> int:
    return len([line for line in hub.log if line.startswith("PUT")])


def test_what_arrives_is_what_was_shown(hub, source, push):
    said = push()
    assert arrived(hub) == contents(source)
    assert "102.4 kB  model.safetensors" in said
    assert "in 3 files" in said
    assert "3 files read back and equal" in said
    assert not hub.repos["model", "user/folder"].private
    assert uploads(hub) == 1  # the weights by the LFS route


def test_again_sends_nothing(hub, push):
    push()
    hub.log.clear()
    push()
    assert commits(hub) == uploads(hub) == 0


def test_a_file_that_went_is_removed_and_named(hub, source, push):
    push()
    (source / "inner" / "code.py").rename(source / "inner" / "other.py")
    assert "removed there: inner/code.py" in push()
    assert arrived(hub) == contents(source)


def test_private_and_a_branch(hub, source, push):
    push(private=True, revision="v2")
    assert hub.repos["model", "user/folder"].private
    assert arrived(hub, "v2") == contents(source)
    assert arrived(hub) == {}


def test_a_dry_run_needs_no_hub(hub, push, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "nothing was sent" in push(dry_run=True)
    assert not hub.log


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST .*/preupload/", status=500, times=2),
        Fault("POST .*/lfs/objects/batch", status=503, times=2),
        Fault("PUT /lfs/", status=500, times=2),
        Fault("PUT /lfs/", cut=True, times=2),
        Fault("GET .*model.safetensors", cut=True, times=2),
        Fault("GET .*model.safetensors", pause=0.05),
    ],
    ids=lambda fault: f"{fault.pattern} {fault.status or ('cut' if fault.cut else 'slow')}",
)
def test_faults_that_pass_are_survived(hub, source, push, fault):
    hub.faults.append(fault)
    assert "read back and equal" in push()
    assert arrived(hub) == contents(source)
    assert not hub.faults or fault.pause


def test_a_download_that_stalls_is_taken_up_where_it_was(hub, push, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults.append(Fault("GET .*model.safetensors", pause=1.0))
    assert "read back and equal" in push()
    assert (
        len(
            [
                line
                for line in hub.log
                if line.startswith("GET") and line.endswith("model.safetensors")
            ]
        )
        == 2
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("POST .*/commit/", status=500), "a fault of its own (500"),
        (Fault("POST .*/commit/", cut=True), "broke ("),
        (Fault("PUT /lfs/", status=500, times=6), "a fault of its own (500"),
        (Fault("PUT /lfs/", cut=True, times=6), "broke ("),
        (Fault("GET .*/resolve/", status=500), "a fault of its own (500"),
        (Fault("GET .*/resolve/.*code.py", change=True), "not what was sent: inner/code.py"),
        (
            Fault("GET .*/resolve/.*model.safetensors", change=True),
            "not what was sent: model.safetensors",
        ),
    ],
    ids=lambda value: f"{value.pattern} {value.status}" if isinstance(value, Fault) else "",
)
def test_after_a_failure_the_same_command_goes_on(hub, source, push, fault, words):
    hub.faults.append(fault)
    with pytest.raises(ValueError, match="run the same command again") as failure:
        push()
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)
    hub.faults.clear()
    sent_before = len(hub.objects)
    hub.log.clear()
    push()
    assert arrived(hub) == contents(source)
    assert uploads(hub) == 1 - sent_before  # what has arrived is not sent twice


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("whoami", status=401), "does not accept the token: run `hf auth login`"),
        (Fault("repos/create", status=401), "does not accept the token"),
        (
            Fault("POST .*/commit/", status=403, message="Forbidden: pass `create_pr=1`"),
            "no right to write there",
        ),
        (
            Fault(
                "lfs/objects/batch", status=403, message="Private repository storage limit reached"
            ),
            "no room is left",
        ),
        (Fault("PUT /lfs/", status=413, message="Payload Too Large"), "no room is left on the Hub"),
        (Fault("POST .*/commit/", status=507), "no room is left on the Hub"),
        (
            Fault("repos/create", status=402, message="Payment required"),
            "asks for a payment or a subscription",
        ),
        (Fault("POST .*/preupload/", status=404), "check the id and the branch"),
        (
            Fault("POST .*/commit/", status=400, message="bad pointer"),
            "refused it (400: bad pointer",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_are_one_clear_line(hub, push, fault, words):
    hub.faults.append(fault)
    with pytest.raises(ValueError, match="user/folder: ") as failure:
        push()
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_full_quota(hub, push):
    hub.quota = 1000
    with pytest.raises(ValueError, match=r"no room is left on the Hub \(.*storage limit reached"):
        push()
    assert commits(hub) == 0


def test_no_token(hub, push, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=r"^no token: run `hf auth login`, or set HF_TOKEN"):
        push()
    assert not hub.log


def test_a_wrong_token(hub, push, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(ValueError, match="does not accept the token"):
        push()


def test_a_namespace_of_others(push):
    with pytest.raises(ValueError, match=r'no right to write there .*namespace "somebody"'):
        push("somebody/folder")


def test_no_hub_at_all(hub, push, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"the connection to http://127.0.0.1:9 broke"):
        push()


@pytest.mark.parametrize(
    "repo_id", ["folder", "a/b/c", "user/na me", "user/..", "user/name.git", "user/-name"]
)
def test_a_wrong_id(tmp_path, capsys, repo_id):
    assert main(["publish", "model", str(tmp_path), repo_id]) == 2
    complaint = capsys.readouterr().err
    assert f"refavs publish: {repo_id}: no id of a repository" in complaint
    assert complaint.count("\n") == 1
