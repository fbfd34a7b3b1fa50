"""Names, folders, URLs, options, earlier results, and the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

import images
import numpy as np
from fuzz.engine import Planned, Wrong
from fuzz.mutations import joined, json_tokens, of_text, parts_of

__all__ = ["name_targets"]

SECRET = "hunter2secret"

NAMES = [
    "sub-01/func/sub-01_task-rest_space-T1w_desc-preproc_bold.nii.gz",
    "sub-01/func/sub-01_task-rest_space-T1w_desc-brain_mask.nii.gz",
    "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
    "sub-01/func/sub-01_task-rest_space-T1w_desc-preproc_bold.json",
    "sub-02/ses-a/func/sub-02_ses-a_task-rest_run-01_echo-1_desc-preproc_bold.nii.gz",
    "task-rest_bold.json",
    ".bidsignore",
    "dataset_description.json",
    "participants.tsv",
]
NAME_WORDS = (
    "sub-",
    "_ses-",
    "ses-",
    "_run-",
    "_desc-",
    "bold",
    ".nii",
    ".gz",
    ".zarr",
    "/",
    "func",
)
NAME_WORDS += (
    "task-",
    "space-",
    "..",
    ".",
    "-",
    "_",
    "\udcff",
    "CON",
    "NUL",
    "a\u0301",
    "\u0430",
    "~",
)


class _Tree:
    """A dataset whose files have odd names, and odd content where it is metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, data: bytes) -> str:
        import daskroi as dr
        from daskroi.cohort import describe_runs
        from daskroi.places import output_prefixes

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for line in data.split(b"\n")[:40]:
            # as far as a disk takes it, and below the folder
            parts = [
                p[:200] for p in line.replace(b"\0", b"").split(b"/") if p not in (b"", b".", b"..")
            ]
            if not parts or len(parts) > 8:
                continue
            path = os.path.join(os.fsencode(self.folder), *parts)
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "ab") as file:
                    file.write(data[-50:])
            except OSError:  # one name is a file and a folder
                continue
        runs = dr.find_runs(self.folder)
        if not describe_runs(runs).replace("\n", "").isprintable():
            raise Wrong("a description that does not print")
        for prefix in output_prefixes(runs):
            if not re.fullmatch(r"[A-Za-z0-9_.+/-]+", prefix) or ".." in prefix.split("/"):
                raise Wrong(f"results would go to {prefix!r}")
        return "runs"


def of_name(data: bytes) -> str:
    """What names alone say: entities, templates, where results go."""
    from daskroi.entities import parse_name
    from daskroi.jobs import jobs_of
    from daskroi.paths import bids_uri, dataset_root, fill_pattern, natural_key
    from daskroi.store import named_paths, run_prefix
    from daskroi.templates import template_of

    text = os.fsdecode(data)
    found = parse_name(text.rpartition("/")[2])
    template_of(text)
    natural_key(text)
    bids_uri(text), dataset_root(text)
    for name in (
        run_prefix(text),
        named_paths(Path("out"), "sub-01", text, "mean").timeseries.name,
    ):
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise Wrong(f"results would be named {name!r}")
    jobs, _ = jobs_of([text])
    for job in jobs:
        if job.name.startswith(("/", "..")) or "/../" in job.name or "\0" in job.name:
            raise Wrong(f"results would go to {job.name!r}")
    fill_pattern(text, {"subject": "01", "session": None})
    return "nothing" if found is None else "entities"


def of_filter(folder: Path) -> Any:
    """A filter file as fMRIPrep has it, on a list of images."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "filter.json"

    def run(data: bytes) -> str:
        import daskroi as dr

        path.write_bytes(data)
        dr.find_runs(
            [f"/nowhere/{name}" for name in NAMES if "_bold.nii" in name], bids_filter=path
        )
        return "accepted"

    return run


def of_url(data: bytes) -> str:
    """Text of a URL: what is shown of it has no secret, and only what is local is opened."""
    import daskroi as dr
    from daskroi.listing import local_or_url
    from daskroi.targets import as_target
    from daskroi.urls import is_url, protocol_of, secrets_of, shown

    text = os.fsdecode(data)
    said = shown(text)
    # a mutation may have made something else of what was behind the question mark
    if is_url(text) and re.search(f"/[^/@]*:{SECRET}@", said):
        raise Wrong(f"shown as {said!r}")
    secrets_of(text, {})
    # a chain of web addresses is asked at once; the others when something is read
    for work in (local_or_url, *(() if "::" in text else (as_target,))):
        try:
            work(text)
        except dr.DaskroiError as error:
            if is_url(text) and f":{SECRET}@" in str(error):
                raise Wrong(f"secret in {error}") from error
    local = ("memory", "file", "nonsense", "")
    if not is_url(text) or (protocol_of(text) in local and "::" not in text):
        dr.open_image(text)
    return "accepted"


def of_options(data: bytes) -> str:
    """``storage_options``: any JSON object, for a memory filesystem and one that is unknown."""
    import daskroi as dr
    from daskroi.urls import StorageOptions

    try:
        options = json.loads(data)
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(options, dict):
        return "no object"
    # what fsspec does with these is its own business: other threads, folders and caches
    options = {k: v for k, v in options.items() if k not in ("fo", "protocol", "target_protocol")}
    held = StorageOptions(options)
    hash(held)
    # names of options are no secrets
    if SECRET in repr(held) and not any(SECRET in key for key in options):
        raise Wrong("a secret in a repr")
    for url in ("memory://nowhere/x.nii.gz", "nonsense://x.nii"):
        try:
            dr.open_image(url, storage_options=options)
        except dr.DaskroiError as error:
            if SECRET in str(error) and not any(SECRET in key for key in options):
                raise Wrong(f"secret in {error}") from error
    return "accepted"


class _State:
    """One file that an earlier cohort left is damaged; the next one makes the same results."""

    def __init__(self, folder: Path) -> None:
        from cohorts import atlas, write_cohort

        self.runs = write_cohort(folder / "in", 2, 6, gz=False)
        self.out, self.atlas = folder / "out", atlas()
        self.again()
        self.before = {p: p.read_bytes() for p in sorted(self.out.rglob("*")) if p.is_file()}
        self.files = list(self.before)
        self.seeds = [joined(str(i).encode(), self.before[p]) for i, p in enumerate(self.files)]

    def again(self) -> Any:
        import daskroi as dr

        return dr.extract_cohort(
            self.runs, {"A": self.atlas}, self.out, confounds="24P", client="threads",
            progress=False, cohort_zarr=True, connectome="correlation",
        )  # fmt: skip

    def __call__(self, data: bytes) -> str:
        number, content = parts_of(data, 2)
        digits = (number or b"").decode("latin-1")
        which = int(digits) if re.fullmatch("[0-9]{1,3}", digits) else 0
        path = self.files[which % len(self.files)]
        try:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            said = self.again()
        finally:
            for file, before in self.before.items():
                if not file.exists() or file.read_bytes() != before:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(before)
        return str(getattr(said, "counts", "done")) if said is None else "done"


class _CommandLine:
    """Arguments, one a line; in a folder of their own, without network or cluster."""

    FORBIDDEN = (
        "demo",
        "client",
        "cluster",
        "scheduler",
        "dashboard",
        "://",
        "nilearn",
        "open",
        "workers",
    )

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        rng = np.random.default_rng(0)
        images.save(images.run(rng, (6, 7, 5, 30)), folder / "bold.nii")
        images.save(images.labels(rng), folder / "atlas.nii")
        (folder / "c.tsv").write_text("a\tb\n" + "1\t2\n3\t1\n" * 15)
        (folder / "s.tsv").write_text("x\ty\tz\n1\t2\t3\n4\t5\t6\n")
        base = "extract\nbold.nii\n--atlas\natlas.nii\n-o\nout"
        self.seeds = [
            base.encode(),
            f"{base}\n--confounds\nc.tsv\n--columns\na\n--detrend\n--high-pass\n0.01".encode(),
            f"{base}\n--smoothing\n6\n--standardize\nzscore_sample\n--dummy-scans\n2\n-v".encode(),
            b"extract\nbold.nii\n--seeds\ns.tsv\n--radius\n4\n-o\nout\n--strategy\nmedian\n--t-r\n2",
            b"convert\nbold.nii\nx.nii.zarr\n--chunks\ntime=5\n--compressor\nzstd",
            b"report\nout\n-o\nr.html",
            b"bids\nin\nout2\nparticipant\n--atlases\nA=atlas.nii\n-p\n36P\n--task-id\nrest",
        ]
        self.words = (
            "--help",
            "--version",
            "-v",
            "--",
            "-",
            "=",
            "--atlas",
            "atlas.nii",
            "bold.nii",
            "c.tsv",
        )
        self.words += (
            "--overwrite",
            "--connectome",
            "--sample-mask",
            "--mask",
            "--dtype",
            "--plan",
            "1e9",
        )

    def __call__(self, data: bytes) -> str:
        from click.testing import CliRunner

        from daskroi.cli import main

        text = os.fsdecode(data)
        arguments = [_inside(a) for a in text.split("\n")[:30] if "\0" not in a]
        if any(word in text.lower() for word in self.FORBIDDEN) or not arguments:
            return "skipped"
        before, place = dict(os.environ), os.getcwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        finally:
            os.chdir(place)
            os.environ.clear()
            os.environ.update(before)
            for path in self.folder.iterdir():
                if path.name not in ("bold.nii", "atlas.nii", "c.tsv", "s.tsv"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        if done.exit_code not in (0, 1, 2, 3, 4, 5) or (
            # what -v is for
            "Traceback" in done.output and "-v" not in text
        ):
            raise Wrong(f"exit code {done.exit_code}: {done.output[-500:]}")
        return f"code {done.exit_code}"


def _inside(argument: str) -> str:
    """An argument that names nothing outside of the folder."""
    return re.sub(r"/+|\.\.+|~", "_", argument)[:5000]


def lines_of(mutate: Any) -> Any:
    """Changes to single lines."""

    def changed(rng: Random, data: bytes) -> bytes:
        lines = data.split(b"\n")
        i = rng.randrange(len(lines))
        lines[i] = mutate(rng, lines[i])
        return b"\n".join(lines)

    return changed


def _state(folder: Path) -> Any:
    made = _State(folder)
    return made.seeds, made, of_text(*json_tokens(), "n/a", "ok", "failed")


def _command_line(folder: Path) -> Any:
    made = _CommandLine(folder / "cli")
    return made.seeds, made, lines_of(of_text(*made.words))


def _encoded(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def name_targets() -> list[Planned]:
    """All of this file."""
    name_words = of_text(*NAME_WORDS)
    urls = _encoded(
        f"s3://key:{SECRET}@bucket/x.nii.gz?X-Amz-Signature={SECRET}", "memory://nowhere/x.nii.gz",
        f"https://me:{SECRET}@example.org/bold.nii.gz?token={SECRET}#x", "/nowhere/bold.nii.gz",
        f"simplecache::zip://x.nii::https://u:{SECRET}@e.org/a.zip?t={SECRET}", "file:///nowhere.nii",
    )  # fmt: skip
    options = _encoded(
        json.dumps({"key": "me", "secret": SECRET, "client_kwargs": {"endpoint_url": "http://x"}}),
        json.dumps({"memory": {"secret": SECRET}, "s3": {"anon": True}}),
    )
    filters = _encoded(
        '{"bold": {"task": ["rest"], "echo": null, "run": "*"}, "t1w": {}}', '{"bold": {}}'
    )
    url_words = of_text("://", "@", ":", "?", "#", "::", "//", "[", "]", "%00", "memory", "s3")
    words = of_text(*json_tokens(), "bold", "secret", "key", "regex", "(a+)+$")
    tree = _encoded("\n".join(NAMES))
    return [
        Planned("tree", 1, lambda f: (tree, _Tree(f / "tree"), lines_of(name_words))),
        Planned("name", 3, lambda f: (_encoded(*NAMES), of_name, name_words)),
        Planned("bids-filter", 1, lambda f: (filters, of_filter(f), words)),
        Planned("url", 1, lambda f: (urls, of_url, url_words)),
        Planned("storage-options", 1, lambda f: (options, of_options, words)),
        Planned("state", 0.02, _state),
        Planned("command-line", 0.1, _command_line),
    ]
