"""The Hub's routes: enough for the genuine clients to push and to load."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import parse_qs

from .connection import Connection


TOKEN = "loopback-token"
OWN_NAMESPACES = ("user", "organization")
LFS_SUFFIXES = (".safetensors", ".parquet", ".mp4", ".png")
EMPTY_COMMIT = "0" * 40


@dataclass
class Repo:
    private: bool
    created: dict
    branches: dict = field(default_factory=lambda: {"main": EMPTY_COMMIT})
    commits: dict = field(
        default_factory=lambda: {EMPTY_COMMIT: {".gitattributes": b"*.safetensors filter=lfs\n"}}
    )

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class Routes(Connection):
    """What is asked for."""

    @property
    def has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def find(
        self, kind: str, repo_id: str, revision: str = "main"
    ) -> tuple[Repo, str, dict] | None:
        """A repository, the commit that a revision means and its files; else the refusal is
        sent."""
        repo = self.server.repos.get(((kind or "models").removesuffix("s"), repo_id))
        if repo is None or (repo.private and not self.has_token):
            return self.fail(404, "Repository not found", "RepoNotFound")
        if (commit := repo.commit_of(revision)) is None:
            return self.fail(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit, repo.commits[commit]

    def whoami(self, body: bytes) -> None:
        if not self.has_token:
            return self.fail(401, "Invalid credentials in Authorization header")
        organizations = [{"name": name} for name in OWN_NAMESPACES[1:]]
        return self.json({"type": "user", "name": OWN_NAMESPACES[0], "orgs": organizations})

    def create(self, body: bytes) -> None:
        wish = json.loads(body)
        namespace = wish["organization"] or OWN_NAMESPACES[0]
        if not self.has_token:
            return self.fail(401, "Invalid username or password.")
        if namespace not in OWN_NAMESPACES:
            return self.fail(
                403,
                f'You don\'t have the rights to create a model under the namespace "{namespace}"',
            )
        key = (wish.get("type", "model"), f"{namespace}/{wish['name']}")
        prefix = "" if key[0] == "model" else f"{key[0]}s/"
        url = f"{self.server.url}/{prefix}{key[1]}"
        if key in self.server.repos:
            return self.fail(409, "You already created this repo", url=url)
        self.server.repos[key] = Repo(wish.get("visibility") == "private", wish)
        return self.json({"url": url})

    def branch(self, body: bytes, kind: str, repo_id: str, revision: str) -> None:
        if found := self.find(kind, repo_id):
            if revision in found[0].branches:
                return self.fail(409, "Reference already exists")
            found[0].branches[revision] = found[1]
            self.json({})

    def validate_yaml(self, body: bytes) -> None:
        self.json({"errors": [], "warnings": []})

    def info(self, body: bytes, kind: str, repo_id: str, revision: str) -> None:
        if found := self.find(kind, repo_id, revision or "main"):
            repo, commit, files = found
            siblings = [{"rfilename": path} for path in files]
            self.json(
                {
                    "id": repo_id,
                    "sha": commit,
                    "private": repo.private,
                    "siblings": siblings,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }
            )

    def tree(self, body: bytes, kind: str, repo_id: str, revision: str, folder: str = "") -> None:
        """Files and folders below a folder; without `recursive` those directly in it."""
        if found := self.find(kind, repo_id, revision):
            start = f"{folder}/" if folder else ""
            inside = [path for path in found[2] if path.startswith(start)]
            if folder and not inside:
                return self.fail(404, f"{folder} does not exist", "EntryNotFound")
            folders = {
                str(parent) for path in inside for parent in PurePosixPath(path).parents[:-1]
            }
            paths = [path for path in (*sorted(folders), *inside) if path.startswith(start)]
            if "true" not in self.query.get("recursive", ["false"])[0].lower():
                paths = [path for path in paths if "/" not in path.removeprefix(start)]
            return self.json([self.describe(path, found[2].get(path)) for path in paths])
        return None

    def paths_info(self, body: bytes, kind: str, repo_id: str, revision: str) -> None:
        asked = (
            json.loads(body)["paths"]
            if body.startswith(b"{")
            else parse_qs(body.decode()).get("paths", [])
        )
        if found := self.find(kind, repo_id, revision):
            folders = {
                str(parent) for path in found[2] for parent in PurePosixPath(path).parents[:-1]
            }
            self.json(
                [
                    self.describe(path, found[2].get(path))
                    for path in asked
                    if path in found[2] or path in folders
                ]
            )

    def describe(self, path: str, entry: bytes | str | None) -> dict:
        if entry is None:
            return {"type": "directory", "path": path, "size": 0, "oid": git_sha(path.encode())}
        content = self.server.content(entry)
        lfs = (
            {"lfs": {"oid": entry, "size": len(content), "pointerSize": 134}}
            if isinstance(entry, str)
            else {}
        )
        return {"type": "file", "path": path, "size": len(content), "oid": git_sha(content), **lfs}

    def preupload(self, body: bytes, kind: str, repo_id: str, revision: str) -> None:
        if found := self.find(kind, repo_id, revision):
            answers = []
            for file in json.loads(body)["files"]:
                entry = found[2].get(file["path"])
                mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
                oid = git_sha(entry) if isinstance(entry, bytes) else entry
                answers.append(
                    {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
                )
            self.json({"files": answers})

    def lfs_batch(self, body: bytes, kind: str, repo_id: str) -> None:
        if not self.has_token:
            return self.fail(401, "Unauthorized")
        objects = [
            {"oid": wish["oid"], "size": wish["size"]} for wish in json.loads(body)["objects"]
        ]
        for item in objects:
            if item["size"] > self.server.quota:
                item["error"] = {"code": 413, "message": "Repository storage limit reached"}
            elif item["oid"] not in self.server.objects:
                item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
        return self.json({"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.fail(400, "the content has another hash")
        self.server.objects[oid] = body
        return self.send(b"", ETag=oid)

    def commit(self, body: bytes, kind: str, repo_id: str, revision: str) -> None:
        if not self.has_token:
            return self.fail(401, "Unauthorized")
        if not (found := self.find(kind, repo_id, revision)):
            return None
        files = dict(found[2])
        for key, value in (
            (line["key"], line["value"]) for line in map(json.loads, body.splitlines())
        ):
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile" and value["oid"] not in self.server.objects:
                return self.fail(400, f"LFS pointer {value['path']} points to nothing")
            elif key == "lfsFile":
                files[value["path"]] = value["oid"]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(repr((found[1], sorted(files.items()))).encode()).hexdigest()
        found[0].commits[commit] = files
        found[0].branches[revision] = commit
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.server.url}/{prefix}{repo_id}/commit/{commit}"
        return self.json({"success": True, "commitOid": commit, "commitUrl": url})

    def resolve(self, body: bytes, kind: str, repo_id: str, revision: str, path: str) -> None:
        if not (found := self.find(kind, repo_id, revision)):
            return None
        if path not in found[2]:
            return self.fail(404, "Entry not found", "EntryNotFound")
        entry = found[2][path]
        content = self.server.content(entry)
        etag = entry if isinstance(entry, str) else git_sha(content)
        headers = {
            "X_Repo_Commit": found[1],
            "ETag": f'"{etag}"',
            "X_Linked_Etag": f'"{etag}"',
            "X_Linked_Size": len(content),
        }
        if self.fault and self.fault.change:
            content = bytes([content[0] ^ 1]) + content[1:]
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.send(content[start : end + 1], 206, **headers)
        return self.send(content, **headers)


def git_sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
FILES = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+?)"
REVISION = r"(?P<revision>refs/[^/]+/[^/]+|[^/]+)"
Routes.routes = [
    (r"GET /api/whoami-v2", Routes.whoami),
    (r"POST /api/repos/create", Routes.create),
    (r"POST /api/validate-yaml", Routes.validate_yaml),
    (rf"POST {API}/branch/{REVISION}", Routes.branch),
    (rf"GET {API}(/revision/{REVISION})?", Routes.info),
    (rf"GET {API}/tree/{REVISION}(/(?P<folder>.+))?", Routes.tree),
    (rf"POST {API}/paths-info/{REVISION}", Routes.paths_info),
    (rf"POST {API}/preupload/{REVISION}", Routes.preupload),
    (rf"POST {API}/commit/{REVISION}", Routes.commit),
    (rf"POST {FILES}\.git/info/lfs/objects/batch", Routes.lfs_batch),
    (r"PUT /lfs/(?P<oid>\w+)", Routes.lfs_put),
    (rf"(GET|HEAD) {FILES}/resolve/{REVISION}/(?P<path>.+)", Routes.resolve),
]
