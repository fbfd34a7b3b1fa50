"""Runs of development_fmri, the data of nilearn's examples: which subjects, which files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskroi.datasetdownload import storing
from daskroi.datasetfiles import DataFile, fetch_files, own_folder
from daskroi.errors import DaskroiError, DaskroiTypeError, check_choice, warn
from daskroi.partfiles import placed
from daskroi.texttable import decoded, header_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dataset", "development_fmri"]

# the file's page, which redirects, and the storage behind it
OSF = (
    "https://osf.io/download/{}/",
    "https://files.osf.io/v1/resources/5hju4/providers/osfstorage/{}",
)
REDUCED = (
    *("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "framewise_displacement"),
    *(f"a_comp_cor_{i:02}" for i in range(6)),
    *("csf", "white_matter"),
)
PHENOTYPIC = ("participant_id", "Age", "AgeGroup", "Child_Adult", "Gender", "Handedness")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Mapping[str, Any]):
    """Runs of a dataset and what is known of them; fields by name, as attributes or as keys.

    Parameters
    ----------
    func : list of str
        Path of each run's image.
    confounds : list of str
        Path of each run's confounds, in the same order.
    phenotypic : DataFrame
        A row per subject, in the same order.
    t_r : float
        Seconds between volumes.
    description : str
        What it is, whom to cite, under which licence.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskroi.datasets import Dataset
    >>> people = pd.DataFrame({"Child_Adult": ["adult"]})
    >>> data = Dataset(["bold.nii.gz"], ["confounds.tsv"], people, 2.0, "One run.")
    >>> data.t_r, data["func"]
    (2.0, ['bold.nii.gz'])
    """

    func: list[str]
    confounds: list[str]
    phenotypic: pd.DataFrame
    t_r: float
    description: str

    def __getitem__(self, name: str) -> Any:
        if name not in set(self):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))

    def __repr__(self) -> str:
        groups = self.phenotypic["Child_Adult"].value_counts().sort_index()
        people = ", ".join(f"{n} {group}" for group, n in groups.items())
        where = os.path.dirname(self.func[0])
        return (
            f"<{type(self).__name__} development_fmri: {len(self.func)} "
            f"run{'s' if len(self.func) != 1 else ''} ({people}), t_r {self.t_r:g} s, in {where}>"
        )


def development_fmri(
    n_subjects: int | None = 1,
    reduce_confounds: bool = True,
    data_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    age_group: str = "both",
) -> Dataset:
    """Preprocessed runs of children and adults watching a film (Richardson et al. 2018).

    One run per subject: 168 volumes, 2 s apart, on a 4 mm grid in MNI152NLin2009cAsym, with
    fMRIPrep's confounds; some 6 MB each. What nilearn's ``fetch_development_fmri`` gives.

    Parameters
    ----------
    n_subjects : int, optional
        How many of the 155. One adult for 1 (nilearn's default is all), one adult and one child for
        2, in the proportion of all for more; None for all.
    reduce_confounds : bool
        Whether to keep 15 columns (motion, framewise displacement, six CompCor components, csf,
        white matter) of the confounds, as nilearn does, or all. The reduced file lies beside the
        full one, or with the downloads when it is not there.
    data_dir : str or Path, optional
        Looked in first, and where downloads go; by default the cache (``DASKROI_CACHE``). It may
        be nilearn's data folder.
    verbose : int
        0 for no progress bar.
    age_group : {"both", "adult", "child"}
        Whom to take.

    Returns
    -------
    Dataset
        Fields ``func``, ``confounds`` (lists of paths), ``phenotypic`` (table), ``t_r`` (2 s: the
        files come without a sidecar that says so), ``description``.

    Raises
    ------
    DaskroiNotFoundError
        Not on this machine, and cannot be downloaded; folders, URLs and reasons are named.
    DaskroiError
        ``n_subjects`` is no positive whole number; pooch is missing; damaged tables.

    Warns
    -----
    DaskroiWarning
        ``n_subjects`` is more than there are: all are taken.

    Notes
    -----
    Looked for in ``data_dir``, ``$NILEARN_SHARED_DATA``, ``$NILEARN_DATA``, ``~/nilearn_data``
    (in ``development_fmri/`` or ``development_fmri/development_fmri/``) and the cache; then
    downloaded from the Open Science Framework, or from ``$DASKROI_DATASETS_URL`` if that is set:
    blank-separated URLs below which files lie as in nilearn's data folder. nilearn knows no
    checksums of these files; the SHA-256 of the first download is kept in ``.checksums`` beside
    them, and a later download must match it.

    Examples
    --------
    >>> from daskroi.datasets import development_fmri
    >>> import daskroi as dr
    >>> data = development_fmri(n_subjects=1)  # doctest: +SKIP
    >>> dr.extract(data.func[0], atlas, confounds=data.confounds[0], t_r=data.t_r)  # doctest: +SKIP
    >>> development_fmri(n_subjects=0)
    Traceback (most recent call last):
        ...
    daskroi.errors.DaskroiTypeError: n_subjects=0 is no positive whole number. Give one, or None ...
    """
    check_choice("age_group", age_group, ("both", "adult", "child"))
    count = _counted(n_subjects)
    options = {"data_dir": data_dir, "verbose": verbose}
    everyone = _participants(_development_file("participants.tsv", "yr3av"), options)
    chosen = _chosen(everyone, count, age_group)
    keys = _osf_keys()
    runs = []
    for subject in chosen["participant_id"]:
        if subject not in keys:
            raise DaskroiError(
                f"participants.tsv: names {subject!r}, of which no run was published. Remove the "
                "file, so that it is downloaded again."
            )
        stem = f"{subject}_task-pixar_"
        names = (
            f"{stem}desc-confounds_regressors.tsv",
            f"{stem}space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
        )
        files = tuple(_development_file(n, k) for n, k in zip(names, keys[subject], strict=True))
        runs.append(_fetched(files, options))
    confounds = [table for table, _ in runs]
    if reduce_confounds:
        confounds = [_reduced(table, data_dir) for table in confounds]
    return Dataset(
        func=[str(image) for _, image in runs],
        confounds=[str(table) for table in confounds],
        phenotypic=chosen,
        t_r=2.0,
        description=(
            "fMRI of children and adults watching Pixar's 'Partly Cloudy', OpenNeuro ds000228, "
            "preprocessed by fMRIPrep and brought to 4 mm for nilearn (https://osf.io/5hju4). "
            "Cite Richardson et al. 2018, Nature Communications 9:1027. Licence, as nilearn has "
            "it: usage is unrestricted for non-commercial research purposes."
        ),
    )


def _development_file(name: str, key: str) -> DataFile:
    urls = ("https://osf.io/yr3av/download",) if key == "yr3av" else OSF
    return DataFile("development_fmri", name, tuple(url.format(key) for url in urls))


def _fetched(files: tuple[DataFile, ...], options: dict[str, Any]) -> tuple[Path, ...]:
    remedy = (
        "On a machine with a network, run nilearn.datasets.fetch_development_fmri and copy its "
        "~/nilearn_data here."
    )
    return fetch_files([files], options["data_dir"], remedy=remedy, verbose=options["verbose"])


def _osf_keys() -> dict[str, tuple[str, str]]:
    """Keys of each subject's confounds and image at OSF: as nilearn lists them."""

    text = resources.files("daskroi").joinpath("development_fmri.csv").read_text(encoding="ascii")
    rows = [line.split(",") for line in text.split()[1:]]
    return {subject: (confounds, image) for subject, confounds, image in rows}


def _participants(file: DataFile, options: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    (path,) = _fetched((file,), options)
    try:
        return pd.read_table(path, usecols=list(PHENOTYPIC))
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise DaskroiError(
            f"{path}: is not the table of participants ({error}). Remove it, so that it is "
            "downloaded again."
        ) from error


def _counted(n_subjects: Any) -> int | None:
    if n_subjects is None:
        return None
    if isinstance(n_subjects, bool) or not hasattr(n_subjects, "__index__") or n_subjects < 1:
        raise DaskroiTypeError(
            f"n_subjects={n_subjects!r} is no positive whole number. Give one, or None for all."
        )
    return int(n_subjects)


def _chosen(everyone: pd.DataFrame, n_subjects: int | None, age_group: str) -> pd.DataFrame:
    """Rows of the subjects to take: nilearn's rule, so that it is the same people."""
    import numpy as np
    import pandas as pd

    groups = everyone["Child_Adult"]
    counts = {g: int((groups == g).sum()) for g in ("adult", "child")}
    if age_group != "both":
        counts["child" if age_group == "adult" else "adult"] = 0
    most = sum(counts.values())
    if not most:
        raise DaskroiError(
            f"participants.tsv: names no {'adult or child' if age_group == 'both' else age_group}. "
            "Remove the file, so that it is downloaded again."
        )
    if n_subjects is not None and n_subjects > most:
        warn(f"n_subjects={n_subjects} is more than there are ({age_group}): all {most} are taken.")
    n_subjects = most if n_subjects is None else min(n_subjects, most)
    # Python's rounding is NumPy's: half to even
    take = {g: round(n_subjects / most * n) for g, n in counts.items()}
    if n_subjects == 1 and age_group != "child":
        take = {"adult": 1, "child": 0}
    if n_subjects == 2 and age_group == "both":
        take = {"adult": 1, "child": 1}
    ids = pd.concat([everyone[groups == g]["participant_id"][:n] for g, n in take.items()])
    kept = everyone[np.isin(everyone["participant_id"], ids)]
    # as nilearn sorts, with pandas' default, which need not be stable: its order is ours
    return kept.sort_values(by=["Child_Adult"])


def _reduced(table: Path, data_dir: str | os.PathLike[str] | None) -> Path:
    """File of the columns that nilearn keeps; beside the full one if nilearn was here before."""

    import numpy as np
    import pandas as pd

    name = table.name.replace("desc-confounds", "desc-reducedConfounds")
    if (beside := table.with_name(name)).is_file() and beside.stat().st_size:
        return beside
    try:
        header_of(decoded(table.read_bytes()), "\t")
        values = pd.read_csv(table, delimiter="\t", usecols=list(REDUCED))[list(REDUCED)]
        buffer = io.StringIO()
        header = "\t".join(REDUCED)
        np.savetxt(buffer, values.to_numpy(float), header=header, delimiter="\t", comments="")
    except ValueError as error:
        raise DaskroiError(
            f"{table}: lacks columns of the reduced confounds, or numbers in them ({error}). Use "
            "reduce_confounds=False, or remove the file, so that it is downloaded again."
        ) from error
    # not beside it: that folder is somebody else's, or cannot be written
    target = own_folder("development_fmri", data_dir) / name
    content = buffer.getvalue().encode()
    # untouched when it is the same: its time is part of what results are keyed by
    if not (target.is_file() and target.read_bytes() == content):
        with storing(name, target.parent), placed(target) as file:
            file.write(content)
    return target
