"""Whatever runs, atlases and series are called, results stay in their folder, and apart."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cohorts
import pandas as pd
import pytest

import daskroi as dr
from daskroi.entities import checked_label, entity_folder
from daskroi.errors import DaskroiError
from daskroi.jobs import jobs_of
from daskroi.outputs import write
from daskroi.paths import fill_pattern
from daskroi.relmat import relmat_paths
from daskroi.runstable import RunsTable
from daskroi.store import run_prefix, write_run

HOSTILE = {
    "up": "../evil",
    "far up": "../../../../evil",
    "up in the middle": "sub-01/../../evil",
    "absolute": "{outside}/evil",
    "NUL": "a\0b",
    "newline": "a\nb",
    "tab": "a\tb",
    "dots": "..",
    "more dots": "...",
    "dots of a subject": "sub-..",
    "fullwidth": "．．／evil",
    "division slash": "..∕evil",
    "fraction slash": "..⁄evil",
    "one-dot leaders": "․․/evil",
    "two-dot leader": "‥/evil",
    "reverse solidus": "..⧵evil",
    "RTL override": "a\u202egpj.exe",
    "combining": "e\u0301",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "homoglyph": "ѕub-01",
    "backslash": "..\\evil",
    "drive": "C:\\evil",
    "drive alone": "C:evil",
    "stream": "x:evil",
    "share": "\\\\host\\evil",
    "long": "x" * 300,
    "long in bytes": "é" * 150,
    "device": "CON",
    "device with an ending": "nul.txt",
    "device as a folder": "aux/x",
    "option": "-rf",
    "home": "~root",
    "shell": "$(touch evil)`touch evil`;touch evil",
    "wildcard": "*?[a]",
    "broken byte": "\udcff",
    "empty parts": "a//b/./c",
    "blank": " ",
    "hidden": ".hidden",
    "percent": "%2e%2e%2fevil",
    "URL": "s3://bucket/evil",
    "chain": "zip://evil::memory://x",
    "terminal": "\x1b]0;evil\x07",
    "nothing": "",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    phantom = dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)
    folder = tmp_path_factory.mktemp("source")
    image = str(dr.write_phantom(folder, phantom)["image"])
    ts = dr.extract(phantom.image, phantom.atlas).compute()
    return {"image": image, "atlas": phantom.atlas, "ts": ts}


class Ring:
    """An output folder, and what is around it, which must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "inside" / "a" / "out"
        self.outside = folder / "outside"
        for made in (self.out, self.outside, folder / "inside" / "work"):
            made.mkdir(parents=True)
        self._folder = folder
        self._before = self._around()

    def _around(self) -> set[Path]:
        return {p for p in self._folder.rglob("*") if self.out not in p.parents}

    def check(self) -> list[str]:
        """Nothing is new around it; names in it are such as every system can have."""
        assert self._around() == self._before
        found = [p for p in self.out.rglob("*") if p != self.out]
        for path in found:
            assert not path.is_symlink()
            name = path.name
            assert name.isprintable(), ascii(name)
            assert len(os.fsencode(name)) <= 255
            assert not set(name) & set('<>:"\\|?*'), name
            assert name.partition(".")[0].lower() not in ("con", "prn", "aux", "nul"), name
            assert not name.startswith("-")
            assert not name.endswith((".", " "))
        return [str(p.relative_to(self.out)) for p in found]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring(tmp_path / "ring")
    monkeypatch.chdir(made.out.parents[1] / "work")
    return made


Writer = Callable[[str, dict[str, Any], Path], Any]


def _cohort(runs: Any, source: dict[str, Any], out: Path, atlas: Any = None) -> None:
    given = source["atlas"] if atlas is None else atlas
    dr.extract_cohort(runs, given, out, mask=None, client="threads", progress=False)


WRITERS: dict[str, Writer] = {
    "prefix": lambda name, s, out: write_run(s["ts"], out, name),
    "prefix of a matrix": lambda name, s, out: write(relmat_paths(out, name, "A", "z").matrix, ""),
    "atlas of a result": lambda name, s, out: write_run(
        s["ts"].assign_attrs(atlas=name), out, "sub-01"
    ),
    "strategy of a result": lambda name, s, out: write_run(
        s["ts"].assign_attrs(strategy=name), out, "sub-01"
    ),
    "image": lambda name, s, out: write_run(s["ts"], out, run_prefix(name)),
    "names of runs": lambda name, s, out: _cohort({name: s["image"]}, s, out),
    "table of runs": lambda name, s, out: _cohort(
        pd.DataFrame(
            {"image": [s["image"]], "name": [name], "subject": [name], "space": [name]},
            dtype=object,
        ),
        s,
        out,
    ),
    "names of atlases": lambda name, s, out: _cohort([s["image"]], s, out, {name: s["atlas"]}),
}


@pytest.mark.parametrize("how", WRITERS)
def test_results_stay_in_their_folder(how: str, ring: Ring, source: dict[str, Any]) -> None:
    refused = []
    every = how in ("prefix", "names of runs", "strategy of a result")
    names = [*HOSTILE][:: 1 if every else 3]
    for case in names:
        name = HOSTILE[case].replace("{outside}", str(ring.outside))
        try:
            WRITERS[how](name, source, ring.out)
        except DaskroiError as error:
            refused.append(case)
            said = str(error)
        else:
            said = ""
        assert said.isprintable(), case
        ring.check()
    # not all: the test would then find nothing
    assert len(refused) < len(names)
    assert any(name.endswith("_timeseries.tsv") or "relmat" in name for name in ring.check())


@pytest.mark.parametrize("case", HOSTILE)
def test_entities_are_ascii_labels(case: str) -> None:
    name = HOSTILE[case]
    if name in ("CON", "x" * 300):
        assert checked_label("subject", name) == name
        return
    with pytest.raises(DaskroiError) as caught:
        checked_label("subject", name)
    assert str(caught.value).isprintable()
    if name:
        for entity in ("subject", "session", "space", "description"):
            with pytest.raises(DaskroiError):
                entity_folder({"subject": "01", entity: name})
            with pytest.raises(DaskroiError):
                fill_pattern(f"anat/x-{{{entity}}}_dseg.nii.gz", {entity: name})


@pytest.mark.parametrize("case", ["up", "absolute", "NUL", "fullwidth", "long", "option", "shell"])
def test_participants_of_the_command_line(case: str, ring: Ring, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from daskroi.cli import main

    dataset = tmp_path / "dataset"
    cohorts.write_cohort(dataset, n_runs=1, n_time=4)
    atlas = tmp_path / "atlas_dseg.nii.gz"
    dr.to_nifti(cohorts.atlas().image.astype("i2"), atlas)
    name = HOSTILE[case].replace("{outside}", str(ring.outside))
    for flag in ("--participant-label", "--space", "--task-id"):
        args = ["bids", str(dataset), str(ring.out), "participant", f"{flag}={name}"]
        said = CliRunner().invoke(main, [*args, "--atlases", str(atlas)])
        assert said.exit_code == 1, (flag, said.output)
        assert "Traceback" not in said.output
    ring.check()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sub-A", "sub-a"),
        ("sub-A/x", "SUB-a/X"),
        ("\u00e9", "\u00c9"),
        ("a b", "a-b"),
        ("a\u2215b", "a\u2044b"),
        (".x/y", "x./y"),
    ],
)
def test_two_runs_never_have_one_file(one: str, other: str, tmp_path: Path) -> None:
    jobs, _ = jobs_of({one: "/1.nii", other: "/2.nii"})
    table = RunsTable(tmp_path)
    try:
        with pytest.raises(DaskroiError, match="would have the same names"):
            [table.claim(job) for job in jobs]
    finally:
        table.close()


def test_two_atlases_never_have_one_file(tmp_path: Path, source: dict[str, Any]) -> None:
    atlas = source["atlas"]
    for names in (("AAL", "aal"), ("é1", "ü1"), ("a-b", "ab"), ("../x", "x")):
        with pytest.raises(DaskroiError, match="Two atlases are called"):
            _cohort([source["image"]], source, tmp_path / "out", dict.fromkeys(names, atlas))


def test_links_in_the_output_folder(ring: Ring, source: dict[str, Any]) -> None:
    """A file that is a link is replaced, and what it points to stays; so does a store."""
    kept = {}
    for name in ("runs.tsv", "dataset_description.json", "cohort.zarr/zarr.json", "tsv", "json"):
        path = ring.outside / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        kept[path] = path.read_bytes()
    runs = {"x": source["image"]}
    ring.out.joinpath("cohort.zarr").symlink_to(ring.outside / "cohort.zarr")
    for name in ("runs.tsv", "dataset_description.json"):
        ring.out.joinpath(name).symlink_to(ring.outside / name)
    for ending in ("tsv", "json"):
        name = f"x_atlas-Phantom_stat-mean_timeseries.{ending}"
        ring.out.joinpath(name).symlink_to(ring.outside / ending)
    with suppress(DaskroiError):
        dr.extract_cohort(
            runs, source["atlas"], ring.out, client="threads", progress=False, cohort_zarr=True
        )
    assert not ring.out.joinpath("x_atlas-Phantom_stat-mean_timeseries.tsv").is_symlink()
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_table_of_runs_that_came_with_its_folder(ring: Ring, source: dict[str, Any]) -> None:
    """Pages and stores are made by the names in runs.tsv, which somebody else may have written."""
    write_run(source["ts"], ring.outside, "sub-01")
    write_run(source["ts"], ring.out / "sub-01", "sub-01")
    before = sorted(ring.outside.iterdir())
    dr.extract_cohort({"x": source["image"]}, source["atlas"], ring.out, progress=False)
    table = ring.out / "runs.tsv"
    header, row = table.read_text().splitlines()
    names = ("../../../outside/sub-01", f"{ring.outside}/sub-01", "a/../../../../outside/sub-01")
    rows = [row.replace("x\t", f"{name}\t", 1) for name in names]
    table.write_text("\n".join([header, row, *rows]) + "\n")
    list(dr.cohort_reports(ring.out))
    built = dr.build_cohort_zarr(ring.out)
    assert built.runs == 1
    assert sorted(ring.outside.iterdir()) == before


def modes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), stat.S_IMODE(path.lstat().st_mode)


MAKE = """
import sys, os
import daskroi as dr
os.umask(int(sys.argv[1], 8))
out = sys.argv[2]
run = dr.make_phantom((12, 14, 12), n_time=4, n_regions=4)
paths = dr.write_phantom(out + "/in", run)
image = str(paths["image"])
dr.build_index(image)
dr.extract_cohort({"x": image}, run.atlas, out + "/out", progress=False, cohort_zarr=True,
                  parquet=True, connectome="correlation", mask=None)
list(dr.cohort_reports(out + "/out"))
dr.to_zarr(image, out + "/x.nii.zarr")
dr.to_nifti(dr.open_image(out + "/x.nii.zarr"), out + "/y.nii.gz")
"""


@pytest.mark.parametrize("umask", [0o027])
def test_permissions_follow_the_umask(umask: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    env = os.environ | {"DASKROI_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", MAKE, f"{umask:o}", str(made)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = dict(modes(made))
    assert len(found) > 30
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode not in (0o777 & ~umask, 0o666 & ~umask)
    }
    assert wrong == {}
    cached = dict(modes(tmp_path / "cache"))
    assert any(name.endswith(".gzi") for name in cached)
    assert {name: oct(mode) for name, mode in cached.items() if mode & umask} == {}


def test_who_may_not_read_a_file_may_not_read_its_index(
    tmp_path: Path, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index has pieces of the image in it, and its folder may be one for all."""
    image = tmp_path / "x.nii.gz"
    image.write_bytes(Path(source["image"]).read_bytes())
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    for mode in (0o600, 0o640, 0o444):
        image.chmod(mode)
        os.utime(image, ns=(mode, mode))  # another version, hence another index
        dr.build_index(image)
    found = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "cache").rglob("*.gzi")}
    umask = os.umask(0)
    os.umask(umask)
    assert found == {mode & ~umask for mode in (0o600, 0o640, 0o644)}


def test_sidecars_are_json_whatever_is_in_a_name(tmp_path: Path, source: dict[str, Any]) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/r\xff\x1b[31m\xe2\x80\xa8.nii.gz")
    Path(odd).write_bytes(Path(source["image"]).read_bytes())
    out = tmp_path / "out"
    done = dr.extract_cohort([odd], source["atlas"], out, mask=None, progress=False)
    assert (done.done, done.failed) == (1, 0)
    again = dr.extract_cohort([odd], source["atlas"], out, mask=None, progress=False)
    assert again.skipped == 1
    assert (out / "runs.tsv").read_text().replace("\n", "").replace("\t", "").isprintable()
    [sidecar] = out.rglob("*_timeseries.json")
    assert json.loads(sidecar.read_bytes())["Inputs"]["image"][0]["Path"] == odd
    list(dr.cohort_reports(out))
