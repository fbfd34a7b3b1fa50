"""Tables, labels, atlases, masks, matrices and series: text and images that come beside a run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fuzz.engine import Planned, Wrong
from fuzz.image_targets import zipped
from fuzz.mutations import SEAM, joined, json_tokens, nifti_edited, of_text, parts_of
from niftis import nifti_bytes

__all__ = ["table_targets"]

N_TIME = 12
CONFOUNDS = [f"{a}_{b}{s}" for a in ("trans", "rot") for b in "xyz" for s in ("", "_derivative1")]
CONFOUNDS += ["csf", "white_matter", "global_signal", "framewise_displacement", "std_dvars"]
CONFOUNDS += ["cosine00", "a_comp_cor_00", "a_comp_cor_01", "non_steady_state_outlier00"]
STRATEGIES: tuple[Any, ...] = (
    ("motion", "high_pass", "wm_csf"),
    "scrubbing",
    "compcor",
    "gsr_only",
)


def confound_tables() -> list[bytes]:
    """fMRIPrep's table and JSON, and simpler tables with other separators."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(N_TIME, len(CONFOUNDS))).round(4)
    numbers[:, CONFOUNDS.index("framewise_displacement")] = 0.1
    numbers[:, -1] = [1] + [0] * (N_TIME - 1)
    rows = [list(map(str, row)) for row in numbers]
    for i, name in enumerate(CONFOUNDS):
        if "derivative" in name or name in ("framewise_displacement", "std_dvars"):
            rows[0][i] = "n/a"
    table = "\n".join("\t".join(r) for r in (CONFOUNDS, *rows)) + "\n"
    about = {
        f"a_comp_cor_0{i}": {"Mask": mask, "Retained": True, "Method": "aCompCor"}
        for i, mask in enumerate(("CSF", "WM"))
    }
    plain = "\n".join(",".join(r[:3]) for r in rows[1:]) + "\n"
    return [joined(t.encode(), json.dumps(about).encode()) for t in (table, plain)]


class _Confounds:
    """`load_confounds`, or ``confounds=`` of `extract`; by strategy or by columns."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / name
        self.zip = name.endswith(".gz")

    def __call__(self, data: bytes) -> str:
        import daskroi as dr
        from daskroi.confounds import read_confounds
        from daskroi.confoundtable import sidecar_of
        from daskroi.errors import DaskroiError

        table, about = parts_of(data, 2)
        beside = Path(sidecar_of(self.path))
        self.path.write_bytes(gzip.compress(table or b"", 1) if self.zip else table or b"")
        beside.unlink(missing_ok=True)
        if about is not None:
            beside.write_bytes(about)
        done = 0
        for strategy in STRATEGIES:
            try:
                found = dr.load_confounds(self.path, strategy)
            except DaskroiError as error:
                last = error
                continue
            done += 1
            kept = found.values if found.sample_mask is None else found.values[found.sample_mask]
            if len(found.values) != found.n_time or not np.isfinite(kept.to_numpy()).all():
                raise Wrong("confounds that are no numbers")
        for columns in (None, ["trans_*", "csf"]):
            try:
                values, names = read_confounds(self.path, n_time=N_TIME, columns=columns)
            except DaskroiError as error:
                last = error
                continue
            done += 1
            if values.shape != (N_TIME, len(names)) or not np.isfinite(values).all():
                raise Wrong("confounds that are no numbers")
        if not done:
            raise last
        return f"{done} of {len(STRATEGIES) + 2}"


LUT = b"""#No. Label Name:            R   G   B   A
0   Unknown                     0   0   0   0
2   Left-Cerebral-White-Matter  245 245 245 0
3   Left Cerebral Cortex        205 62  78  0
"""
XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<atlas version="1.0"><header><name>Harvard-Oxford</name><type>Probabilistic</type>
<images><imagefile>/HarvardOxford/x</imagefile></images></header>
<data><label index="0" x="48" y="94" z="35">Frontal Pole</label>
<label index="1" x="25" y="70" z="32">Insular &amp; Cortex</label></data></atlas>
"""
TSV = b"index\tname\tcolor\n1\tV1\t#ff0000\n2\tV 2\tn/a\n40000\t\t#00ff00\n"
CSV = b'index,name\n1,"Area, one"\n2,two\n'
XML_WORDS = ("<!DOCTYPE a [", '<!ENTITY x "y">', "&x;", "]>", "<![CDATA[", "]]>", "<?xml", "?>")
XML_WORDS += ("&#0;", "&#x110000;", "<label", 'index="', "</label>", 'encoding="UTF-16"', "utf-7")
XML_WORDS += ("<label>" * 5000, "xinclude", "<xi:include href='x'/>", 'encoding="rot13"')


class _Labels:
    """A table of labels in any format."""

    def __init__(self, folder: Path, by_position: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.by_position = folder / "labels.txt", by_position

    def __call__(self, data: bytes) -> str:
        from daskroi.labeltable import read_label_table

        self.path.write_bytes(data)
        table = read_label_table(self.path, by_position=self.by_position)
        if not table["index"].is_unique or table["index"].dtype != np.int64 or not len(table):
            raise Wrong("labels that do not name regions")
        return str(table.attrs["format"])


def label_images() -> list[bytes]:
    """Labels, maps and masks, as NIfTI."""
    shape = (4, 3, 2)
    ids = (np.arange(24) % 5).reshape(shape)
    maps = np.linspace(0, 1, 72).reshape(*shape, 3)
    found = [nifti_bytes(ids.astype(t)) for t in ("u1", "i2", "f4", "i4", "f8", "i8", "u8")]
    return [*found, nifti_bytes(maps.astype("f4")), nifti_bytes(ids.astype("i2"), version=2)]


class _Atlas:
    """An atlas or a mask; labels as nibabel has them."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / name

    def __call__(self, data: bytes) -> str:
        from daskroi.atlas import Atlas, load_atlas
        from daskroi.errors import DaskroiError
        from daskroi.placement import load_mask

        self.path.write_bytes(data)
        found = ""
        try:
            mask = load_mask(self.path)
            found = "mask"
            if not mask.values.any():
                raise Wrong("an empty mask")
        except DaskroiError as error:
            last = error
        try:
            atlas = load_atlas(self.path)
        except DaskroiError as error:
            last = error
            atlas = None
        if atlas is None:
            if found:
                return found
            raise last
        if isinstance(atlas, Atlas):
            self._compare(atlas)
        return f"{found} {type(atlas).__name__}"

    def _compare(self, atlas: Any) -> None:
        try:
            image = nib.load(self.path)
            if image.dataobj.offset < 348:
                return
            with np.errstate(all="ignore"):
                theirs = np.asarray(image.dataobj).astype(np.float64)
        except Exception:  # what nibabel cannot read is no oracle
            return
        theirs = theirs.T.reshape(atlas.labels.shape)
        theirs[~np.isfinite(theirs)] = 0
        if not np.allclose(theirs, atlas.labels, rtol=1e-6, atol=1e-6):
            raise Wrong("labels differ from nibabel's")


class _Beside:
    """A table with its sidecar, read back: series or a matrix."""

    def __init__(self, folder: Path, kind: str) -> None:
        import daskroi as dr
        from daskroi.relmat import write_relmat
        from daskroi.store import write_run

        run = dr.make_phantom((12, 14, 12), n_time=8, n_regions=4)
        series = dr.extract(run.image, run.atlas).compute()
        if kind == "relmat":
            matrix = dr.connectome(series, shrinkage=None).compute()
            paths: Any = write_relmat(matrix, folder, "sub-01")
            self.table, self.sidecar = paths.matrix, paths.sidecar
        else:
            paths = write_run(series, folder, "sub-01")
            self.table, self.sidecar = paths.timeseries, paths.sidecar
        self.kind = kind
        self.seed = joined(self.table.read_bytes(), self.sidecar.read_bytes())
        assert SEAM not in self.table.read_bytes()

    def __call__(self, data: bytes) -> str:
        from daskroi.readback import read_timeseries
        from daskroi.relmat import read_relmat

        table, sidecar = parts_of(data, 2)
        self.table.write_bytes(table or b"")
        self.sidecar.unlink(missing_ok=True)
        if sidecar is not None:
            self.sidecar.write_bytes(sidecar)
        found = (read_relmat if self.kind == "relmat" else read_timeseries)(self.table)
        if found.dtype.kind != "f":
            raise Wrong(f"read back as {found.dtype}")
        return "accepted"


class _Participants:
    """The table of a dataset that is known by name, and lies in a folder of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "development_fmri"
        self.folder.mkdir(parents=True)
        for subject in ("sub-pixar123", "sub-pixar124"):
            stem = self.folder / f"{subject}_task-pixar_"
            for end in (
                "desc-confounds_regressors.tsv",
                "desc-reducedConfounds_regressors.tsv",
                "space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz",
            ):
                Path(f"{stem}{end}").write_text("x")
        names = "participant_id\tAge\tAgeGroup\tChild_Adult\tGender\tHandedness\n"
        rows = "sub-pixar123\t27\tAdult\tadult\tF\tR\nsub-pixar124\t5.1\t5yo\tchild\tM\tR\n"
        self.seed = (names + rows).encode()

    def __call__(self, data: bytes) -> str:
        import daskroi as dr

        (self.folder / "participants.tsv").write_bytes(data)
        # a subject that does not lie here would be looked for elsewhere, by a request
        rows = data.split(b"\n")[1:]
        known = (b"sub-pixar123", b"sub-pixar124", b"", b"n/a")
        if any(row.split(b"\t")[0].strip() not in known for row in rows):
            return "skipped"
        found = dr.datasets.development_fmri(2, data_dir=self.folder.parent, verbose=0)
        return f"{len(found.func)} runs"


def _beside(folder: Path, kind: str) -> Any:
    made = _Beside(folder, kind)
    keys = of_text(*json_tokens(), "Regions", "index", "DataType", "int8", "object", "O", "S5",
                   "float128", "datetime64", "KeptFrames", "VolumeTiming", "Recipe")  # fmt: skip
    return [made.seed], made, keys


def _participants(folder: Path) -> Any:
    made = _Participants(folder)
    return [made.seed], made, of_text("adult", "child")


def table_targets() -> list[Planned]:
    """All of this file."""
    names = of_text(*json_tokens(), *CONFOUNDS, '"', '""')
    labels = [LUT, XML, TSV, CSV, TSV.decode().encode("utf-16")]
    words = of_text(*json_tokens(), *XML_WORDS, "index", "name", "color", "component")
    tables, images = confound_tables(), label_images()
    packed, atlas = [gzip.compress(i, 1) for i in images], "atlas-x_dseg.nii"
    return [
        Planned("confounds", 0.7, lambda f: (tables, _Confounds(f, "x_timeseries.tsv"), names)),
        Planned("confounds-gz", 0.2, lambda f: (tables, _Confounds(f, "x.csv.gz"), names)),
        Planned("labels", 5, lambda f: (labels, _Labels(f), words)),
        Planned("labels-in-order", 2, lambda f: (labels, _Labels(f, True), words)),
        Planned("atlas", 1, lambda f: (images, _Atlas(f, atlas), nifti_edited)),
        Planned(
            "atlas-gz", 0.5, lambda f: (packed, _Atlas(f, f"{atlas}.gz"), zipped(nifti_edited))
        ),
        Planned("relmat", 2, lambda f: _beside(f, "relmat")),
        Planned("series", 2, lambda f: _beside(f, "series")),
        Planned("participants", 0.5, _participants),
    ]
