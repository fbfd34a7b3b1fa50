"""What a row of the tables of bad input is, and how both doors, API and CLI, are given it.

A row changes one thing of good inputs and says what the message must. Its options are keywords of
`daskroi.load_atlas` and `daskroi.extract`; the command line is spelled from the same ones, so that
no row can be tried on one door and forgotten on the other.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import images
import nibabel as nib
import numpy as np
import pandas as pd

import daskroi as dr

SHAPE, N_TIME = (6, 7, 5), 40
# of load_atlas, and what the command line calls options that have other names there
OF_ATLAS = ("lut", "background_label", "radius")
SPELLED = {"lut": "labels-table", "mask_img": "mask"}


class Row(NamedTuple):
    """One mistake.

    Parameters
    ----------
    says : str
        What the message must match: culprit, reason, remedy.
    options : dict
        Keywords that are other than in `GOOD`; a function makes its value in a folder.
    usage : str
        What the command line says where it refuses the words alone, with exit code 2.
    api, cli : bool
        Whether it can be said at this door.
    """

    says: str
    options: dict[str, Any]
    usage: str = ""
    api: bool = True
    cli: bool = True

    def given(self, folder: Path) -> dict[str, Any]:
        """Make the bad files; the keywords."""
        made = {k: v(folder) if callable(v) else v for k, v in self.options.items()}
        good = {"image": folder / "run.nii.gz"}
        return good | ({} if "seeds" in made else {"atlas": folder / "atlas.nii"}) | made


def row(says: str, usage: str = "", *, api: bool = True, cli: bool = True, **options: Any) -> Row:
    return Row(says, options, usage, api, cli)


@cache
def _good_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((N_TIME, 3)), columns=["trans_x", "trans_y", "csf"])
    names = "index\tname\n1\tV1\n2\tV2\n5\tA1\n9\tM1\n"
    return {
        "run.nii.gz": gzip.compress(images.run(rng, (*SHAPE, N_TIME)).to_bytes()),
        "atlas.nii": images.labels(rng).to_bytes(),
        "names.txt": names.encode(),
        "mask.nii": nib.Nifti1Image(np.ones(SHAPE, "u1"), images.STRAIGHT).to_bytes(),
        "confounds.tsv": table.to_csv(sep="\t", index=False).encode(),
    }


def write_good(folder: Path) -> Path:
    """A run with all that goes with it, of which every row spoils something."""
    folder.mkdir()
    for name, content in _good_files().items():
        (folder / name).write_bytes(content)
    return folder


def table_of_confounds(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "confounds.tsv", sep="\t")


# what makes bad files: all give a function of the folder that returns the path


def named(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


def text(name: str, content: str, encoding: str = "utf-8") -> Callable[[Path], Path]:
    return raw(name, content.encode(encoding))


def raw(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def saved(
    values: Any, name: str = "x.nii", affine: Any = images.STRAIGHT
) -> Callable[[Path], Path]:
    """An image of these voxels."""
    return lambda folder: images.save(nib.Nifti1Image(values, affine), folder / name)


def edited(
    edit: Callable[[bytearray], Any], name: str = "bad.nii", t_r: float = 2.0
) -> Callable[[Path], Path]:
    """A good run whose raw bytes were changed."""

    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        path = images.save(images.run(rng, (*SHAPE, N_TIME), t_r=t_r), folder / name)
        content = bytearray(path.read_bytes())
        path.write_bytes(edit(content) or content)
        return path

    return make


def put(offset: int, values: Any, dtype: str) -> Callable[[bytearray], None]:
    """Overwrite fields of a header."""
    data = np.asarray(values, dtype).tobytes()

    def edit(content: bytearray) -> None:
        start = offset % len(content)
        content[start : start + len(data)] = data

    return edit


def beside(name: str, content: str, encoding: str = "utf-8") -> Callable[[Path], Path]:
    """The good run under another name, with a file beside it."""

    def make(folder: Path) -> Path:
        text(name, content, encoding)(folder)
        path = folder / f"{name.partition('.')[0]}.nii.gz"
        path.write_bytes(_good_files()["run.nii.gz"])
        return path

    return make


def confounds(change: Callable[[pd.DataFrame], Any], name: str = "c.tsv", **how: Any) -> Any:
    """The good table, changed: a frame, or the text of the file."""

    def make(folder: Path) -> Path:
        found = change(table_of_confounds(folder))
        if isinstance(found, pd.DataFrame):
            found = found.to_csv(sep="\t", index=False, na_rep="n/a")
        return text(name, found, **how)(folder)

    return make


def frames(values: Iterable[Any]) -> Callable[[Path], Path]:
    """A sample mask as a file of words, as the command line wants it."""
    return text("frames.txt", "\n".join(str(int(v)) for v in values))


# the two doors


def call(given: dict[str, Any]) -> Any:
    """`daskroi.extract` as a script has it, computed."""
    given = dict(given)
    of_atlas = {name: given.pop(name) for name in OF_ATLAS if name in given}
    if "seeds" in given:
        given["atlas"] = pd.read_csv(given.pop("seeds"), sep="\t")
    if of_atlas:
        given["atlas"] = dr.load_atlas(given["atlas"], **of_atlas)
    if isinstance(given.get("sample_mask"), Path):
        kept = np.loadtxt(given["sample_mask"], int, ndmin=1)
        flags = kept.size > 2 and np.isin(kept, (0, 1)).all()
        given["sample_mask"] = kept.astype(bool) if flags else kept
    return dr.extract(**given).compute()


def words(given: dict[str, Any]) -> list[str]:
    """The same as words of ``daskroi extract``, without ``--output``."""
    found = ["extract", str(given["image"])]
    for name, value in given.items():
        option = f"--{SPELLED.get(name, name)}".replace("_", "-")
        if name == "image":
            continue
        if isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        elif name == "columns":
            found += [option, *value]
        elif isinstance(value, tuple):
            found.append(f"{option}={','.join(map(str, value))}")
        else:  # with =, for a value may start with a dash
            found.append(f"{option}={'none' if value is None else value}")
    return found
