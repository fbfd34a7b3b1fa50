"""The benchmark's cases: programs as a user would write them, and what the issue asks of each.

A program is text that a fresh Python process runs. ``{bold}`` and the like are files by name and
``{out}`` is where the result goes, for comparing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CASES", "Case", "Program"]


@dataclass(frozen=True)
class Program:
    """What one process does.

    Parameters
    ----------
    who : str
        ``daskroi``, ``nilearn`` or the inflater.
    code : str
        Python, with the names of ``files`` and ``out`` in braces.
    files : dict of str to str
        Name in the code to file of `bench_data`; ``<short>`` and ``<long>`` stand for the
        numbers of volumes, 300 and 1,200.
    needs : str, optional
        Module that not everyone has; without it the program is left out.
    """

    who: str
    code: str
    files: dict[str, str]
    needs: str | None = None


@dataclass(frozen=True)
class Case:
    """One comparison.

    Parameters
    ----------
    key : str
        For ``--only``.
    title : str
        For the table.
    ours : Program
    others : tuple of Program
        Each is one row. A target holds for the first of them only.
    faster : float, optional
        At least so many times as fast as the other.
    slower : float, optional
        At most so many times the other's seconds.
    memory : float, optional
        At most this fraction of the other's peak memory.
    compare : bool
        Whether both leave a result in ``{out}``, which must agree.
    """

    key: str
    title: str
    ours: Program
    others: tuple[Program, ...]
    faster: float | None = None
    slower: float | None = None
    memory: float | None = None
    compare: bool = field(default=True)

    @property
    def target(self) -> str:
        """The targets in words."""
        words = []
        if self.faster is not None:
            words.append(f"≥ {self.faster:g}× faster")
        if self.slower is not None:
            words.append(f"≤ {self.slower:g}× its time")
        if self.memory is not None:
            words.append(f"≤ {self.memory:.0%} memory")
        return ", ".join(words)


def ours(call: str, **files: str) -> Program:
    """daskroi's program around one expression that gives a DataArray."""
    code = f"""
import daskroi as dr
import numpy as np
np.save({{out}}, {call}.compute().values)
"""
    return Program("daskroi", code, files)


def theirs(options: str, **files: str) -> Program:
    """nilearn's masker with some options."""
    code = f"""
import numpy as np
from nilearn.maskers import NiftiLabelsMasker
np.save({{out}}, NiftiLabelsMasker({{atlas}}, {options}).fit_transform({{bold}}))
"""
    return Program("nilearn", code, files)


# whole processes that do nothing but inflate; a rapidgzip handle left open aborts the process
RAPIDGZIP = """
import rapidgzip
buffer = bytearray(1 << 22)
with rapidgzip.open({bold}, parallelization=2) as file:
    while file.readinto(buffer):
        pass
"""
ISAL = """
from isal import igzip
buffer = bytearray(1 << 22)
with igzip.open({bold}) as file:
    while file.readinto(buffer):
        pass
"""


def inflaters(bold: str) -> tuple[Program, ...]:
    """Bare inflating: the floor under everything that reads .nii.gz."""
    return (
        Program("rapidgzip, 2 threads", RAPIDGZIP, {"bold": bold}, "rapidgzip"),
        Program("isal, 1 thread", ISAL, {"bold": bold}),
    )


GZ = {"bold": "bold<short>.nii.gz", "atlas": "atlas48.nii.gz"}
LONG = {"bold": "bold<long>.nii.gz", "atlas": "atlas48.nii.gz"}
NII = {"bold": "bold<short>.nii", "atlas": "atlas48.nii.gz"}
SCALED = {"bold": "scaled<short>.nii.gz", "atlas": "atlas400.nii.gz"}
FOUR = {
    "bold": "bold<short>.nii.gz", "a": "atlas48.nii.gz", "b": "atlas400.nii.gz",
    "c": "atlas100.nii.gz", "d": "atlas200.nii.gz",
}  # fmt: skip
ZARR = {"bold": "bold<short>.nii.zarr", "atlas": "atlas48.nii.gz"}
# the target is in a folder that is deleted with the results
CONVERT = """
import daskroi as dr
dr.to_zarr({bold}, {out} + ".nii.zarr", overwrite=True)
"""
ZSCORE = 'standardize="zscore_sample"'
ATLASES = """
import daskroi as dr
import dask
import numpy as np
atlases = {{"a": {a}, "b": {b}, "c": {c}, "d": {d}}}
series, = dask.compute(dr.extract({bold}, atlases, standardize="zscore_sample"))
np.savez({out}, **{{name: part.values for name, part in series.items()}})
"""
BAND = "detrend=True, low_pass=0.1, high_pass=0.01, t_r=2.0"
MEAN = f"dr.extract({{bold}}, {{atlas}}, {ZSCORE})"


def grows(key: str, suffix: str) -> Case:
    """Peak memory of four times the volumes against that of the short run."""
    return Case(
        key,
        f"{suffix}, <long> volumes against <short>",
        ours(MEAN, bold=f"bold<long>{suffix}", atlas="atlas48.nii.gz"),
        (replace_who(ours(MEAN, bold=f"bold<short>{suffix}", atlas="atlas48.nii.gz"), "<short>"),),
        memory=1.1,
        compare=False,
    )


def replace_who(program: Program, volumes: str) -> Program:
    """daskroi again, named by what is different."""
    return Program(f"daskroi, {volumes}", program.code, program.files)


SMOOTH = "dr.extract({bold}, {atlas}, smoothing_fwhm=6)"
GZ400 = {"bold": "bold<short>.nii.gz", "atlas": "atlas400.nii.gz"}
COARSE = {"bold": "coarse156.nii.gz", "atlas": "atlas48.nii.gz"}
LABELS = 'resampling_target="labels"'

CASES = (
    Case("gz-mean", ".nii.gz, mean, z-score", ours(MEAN, **GZ), (theirs(ZSCORE, **GZ),),
         faster=7, memory=0.25),
    Case("gz-mean-long", ".nii.gz, mean, z-score, <long> volumes", ours(MEAN, **LONG),
         (theirs(ZSCORE, **LONG),), faster=7, memory=0.25),
    Case("gz-scaled", "int16 × slope .nii.gz, 400 regions, detrend, 0.01–0.1 Hz",
         ours(f"dr.extract({{bold}}, {{atlas}}, {BAND})", **SCALED),
         (theirs(BAND, **SCALED),), faster=10, memory=0.20),
    Case("nii-mean", ".nii, mean, z-score", ours(MEAN, **NII), (theirs(ZSCORE, **NII),),
         faster=8, memory=0.30),
    Case("gz-median", ".nii.gz, median",
         ours('dr.extract({bold}, {atlas}, strategy="median")', **GZ),
         (theirs('strategy="median"', **GZ),), faster=6),
    Case("gz-compcor", ".nii.gz, high_variance_confounds",
         ours("dr.high_variance_confounds({bold})", bold=GZ["bold"]),
         (Program("nilearn", """
import numpy as np
from nilearn.image import high_variance_confounds
np.save({out}, high_variance_confounds({bold}))
""", {"bold": GZ["bold"]}),), faster=5, memory=0.30),
    Case("gz-atlases", ".nii.gz, four atlases in one call",
         Program("daskroi", ATLASES, FOUR),
         (replace_who(ours(MEAN, **GZ), "one atlas"),), slower=1.4, compare=False),
    Case("gz-smooth", ".nii.gz, mean, smoothing 6 mm", ours(SMOOTH, **GZ),
         (theirs("smoothing_fwhm=6", **GZ),), faster=14),
    Case("gz-labels", "3 mm int16 .nii.gz, 156 volumes, resampled to a 2 mm atlas",
         ours(f"dr.extract({{bold}}, {{atlas}}, {LABELS})", **COARSE),
         (theirs(LABELS, **COARSE),), faster=20),
    Case("gz-smooth-cost", ".nii.gz, smoothing 6 mm against none", ours(SMOOTH, **GZ),
         (replace_who(ours("dr.extract({bold}, {atlas})", **GZ), "not smoothed"),),
         slower=1.3, compare=False),
    Case("gz-smooth-400", ".nii.gz, smoothing 6 mm, 400 regions against 48",
         ours(SMOOTH, **GZ400), (replace_who(ours(SMOOTH, **GZ), "48 regions"),),
         slower=2, compare=False),
    Case("gz-smooth-median", ".nii.gz, median, smoothing 6 mm",
         ours('dr.extract({bold}, {atlas}, smoothing_fwhm=6, strategy="median")', **GZ),
         (theirs('smoothing_fwhm=6, strategy="median"', **GZ),)),
    Case("zarr-mean", ".nii.zarr, mean, z-score", ours(MEAN, **ZARR),
         (replace_who(ours(MEAN, **GZ), ".nii.gz"),)),
    Case("zarr-convert", ".nii.gz converted to .nii.zarr",
         Program("daskroi", CONVERT, {"bold": GZ["bold"]}),
         (replace_who(ours(MEAN, **GZ), "extracting from it"),), compare=False),
    grows("gz-memory", ".nii.gz"),
    grows("nii-memory", ".nii"),
    Case("gz-floor", ".nii.gz, bare inflating", ours(MEAN, **GZ), inflaters(GZ["bold"]),
         slower=1.6, compare=False),
    Case("gz-floor-long", ".nii.gz, <long> volumes, bare inflating",
         ours(MEAN, bold="bold<long>.nii.gz", atlas=GZ["atlas"]), inflaters("bold<long>.nii.gz"),
         slower=1.6, compare=False),
)  # fmt: skip
