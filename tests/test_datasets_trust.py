"""What is downloaded is not trusted: archives that lead elsewhere, bytes that are others."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from datasetmirror import Server

import daskroi as dr
from daskroi import datasets

pytestmark = pytest.mark.usefixtures("bare_machine")


def test_broken_archive_of_the_first_mirror(server: Server, monkeypatch: Any) -> None:
    bad = server.folder / "bad" / "fsl" / "HarvardOxford.tgz"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(gzip.compress(b"no tar at all" * 1000))
    monkeypatch.setenv("DASKROI_DATASETS_URL", f"{server.url}/bad {server.url}")
    assert len(datasets.harvard_oxford(verbose=0).table) == 4


def archive_of(path: Path, *members: tuple[str, bytes], link: str = "") -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)


@pytest.mark.parametrize("name", ["../evil.txt", "data/../../evil.txt", "/tmp/evil.txt"])
def test_archive_that_leads_out_of_its_folder(server: Server, tmp_path: Path, name: str) -> None:
    archive_of(server.folder / "fsl" / "HarvardOxford.tgz", ("data/a", b"a"), (name, b"evil"))
    with pytest.raises(dr.DaskroiError, match="holds a path that leads out of its folder"):
        datasets.harvard_oxford(verbose=0)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_links_in_archives_are_not_made(server: Server, tmp_path: Path) -> None:
    wanted = "data/atlases/HarvardOxford/HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"
    archive_of(server.folder / "fsl" / "HarvardOxford.tgz", ("data/a", b"a"), link=wanted)
    with pytest.raises(dr.DaskroiError, match=f"HarvardOxford.tgz: holds no {wanted}"):
        datasets.harvard_oxford(verbose=0)
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink()]


def test_checksum_of_the_first_download_binds_later_ones(server: Server, tmp_path: Path) -> None:
    (path,) = datasets.development_fmri(verbose=0).func
    Path(path).unlink()
    name = Path(path).name
    other = gzip.compress(b"another run")
    sent = (server.folder / "development_fmri" / name).read_bytes()
    (server.folder / "development_fmri" / name).write_bytes(other)
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.development_fmri(verbose=0)
    message = str(caught.value)
    assert f"SHA-256 is {hashlib.sha256(other).hexdigest()[:12]}…" in message
    assert f"not {hashlib.sha256(sent).hexdigest()[:12]}…" in message
    assert ".checksums" in message
    assert not Path(path).exists()


def test_known_checksum_binds_the_first_download(server: Server) -> None:
    # the one atlas whose checksums are public; ours is not it
    with pytest.raises(
        dr.DaskroiError, match=r"order_FSLMNI152_1mm.nii.gz: its SHA-256 is \w+…, not abb80328"
    ):
        datasets.schaefer(400, resolution_mm=1, verbose=0)


def test_file_cut_short_later_is_downloaded_again(server: Server) -> None:
    (path,) = datasets.development_fmri(verbose=0).func
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-10])
    assert datasets.development_fmri(verbose=0).func == [path]
    assert Path(path).read_bytes() == content
    assert server.requests[Path(path).name] == 2
