"""``daskroi extract`` where results are: up to date they are skipped, made otherwise made again."""

from __future__ import annotations

import os
import re
from typing import Any

import images
import nibabel as nib
from click.testing import Result
from clirun import check_ok, invoke


def test_every_option_makes_a_result_stale(files, tmp_path):
    """What was made in another way is never taken for what is asked for."""
    seeds = tmp_path / "seeds.tsv"
    seeds.write_text(files.seeds.read_text())
    soft = tmp_path / "soft.nii"
    image = nib.load(files.maps)
    images.save(image, soft)
    args = ("extract", files.plain, "-o", tmp_path / "out")
    labels = ("--atlas", files.coarse, "--resampling-target", "labels")
    smooth = ("--atlas", files.atlas, "--smoothing")
    balls = ("--seeds", seeds)
    for one, other in [
        ((*smooth, 4), (*smooth, 5)),
        ((*smooth, "4,4,5"), (*smooth, "fast")),
        ((*smooth, 4), ("--atlas", files.atlas)),
        ((*smooth, 4), (*smooth, 4, "--spatial", "voxelwise")),
        (labels, labels[:2]),
        ((*labels, "--resampling-clip"), (*labels, "--no-resampling-clip")),
        (balls, (*balls, "--radius", 3)),
        ((*balls, "--radius", 3), (*balls, "--radius", 4)),
    ]:
        check_ok(invoke(*args, *one, "--overwrite"))
        assert "up to date" in check_ok(invoke(*args, *one)).stderr
        done = check_ok(invoke(*args, *other))
        assert re.search("made with other (recipe|atlas), is made again", done.stderr), other
    for path, change in [
        (soft, lambda: images.save(image.__class__(image.get_fdata() + 1, image.affine), soft)),
        (seeds, lambda: seeds.write_text(seeds.read_text().replace("8", "6"))),
    ]:
        option = ("--atlas" if path == soft else "--seeds", path)
        check_ok(invoke(*args, *option))
        stat = path.stat()
        change()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        # by content, even where size and time stay
        assert "atlas" in check_ok(invoke(*args, *option)).stderr.split("made with other")[1]


def test_results_that_are_up_to_date_are_skipped(files, tmp_path, monkeypatch):
    image = tmp_path / "run.nii"
    image.write_bytes(files.plain.read_bytes())
    args = ("extract", image, "--atlas", files.atlas, "-o", tmp_path / "out")
    check_ok(invoke(*args))
    [path] = (tmp_path / "out").glob("*_timeseries.tsv")

    def touched(*more: Any) -> tuple[bool, Result]:
        os.utime(path, (1, 1))
        done = check_ok(invoke(*args, *more))
        assert str(path) in done.stdout
        return path.stat().st_mtime != 1, done

    made, done = touched()
    assert not made
    assert re.fullmatch(r"Note: .*timeseries\.tsv: up to date, skipped\.\n", done.stderr)
    assert "skipped" in done.stdout
    made, done = touched("--overwrite")
    assert made
    assert done.stderr == ""
    made, done = touched("--detrend")
    assert made
    assert "made with other recipe, is made again" in done.stderr
    made, done = touched("--detrend", "--dummy-scans", 1)
    assert made
    assert "frames" in done.stderr
    assert touched("--detrend", "--dummy-scans", 1)[0] is False
    os.utime(image, (5, 5))
    made, done = touched("--detrend", "--dummy-scans", 1)
    assert made
    assert "made with other input files" in done.stderr
