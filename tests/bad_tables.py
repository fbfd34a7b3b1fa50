"""Bad files: label tables, seeds, confounds, sample masks; and what is merely doubtful."""

from __future__ import annotations

import numpy as np
import pandas as pd
from bad_images import LABELS, RNG, SOFT
from bad_inputs import N_TIME, Row, beside, confounds, frames, named, raw, row, saved, text


def table(says: str, content: str, name: str = "lut.tsv", encoding: str = "utf-8") -> Row:
    """A bad label table."""
    return row(rf"{name}: {says}", lut=text(name, content, encoding))


TABLES: dict[str, Row] = {
    "missing": row("absent.tsv: no such file. Check", lut=named("absent.tsv")),
    "folder": row("is a folder. Give", lut=lambda d: d),
    "empty": table("the file is empty. Copy", ""),
    "header alone": table("the label table has no rows. Give one row", "index\tname\n"),
    "other columns": table(
        "a label table needs.*'index' and 'name' missing, found: 'id', 'label'. Rename",
        "id\tlabel\n1\ta\n",
    ),
    "no id in common": table(
        r"none of its ids \(100\) is in .*atlas.nii \(1, 2, 5, 9\)\. Give", "index\tname\n100\ta\n"
    ),
    "an id twice": table("'index' has the same label .*: 1. Keep", "index\tname\n1\ta\n1\tb\n"),
    "fractional id": table("'index' must hold whole numbers.*'1.5'", "index\tname\n1.5\ta\n"),
    "id of 20 digits": table("'index' must hold whole", f"index\tname\n{10**20}\ta\n"),
    "exchanged columns": table("'index' must hold whole.*'a'", "index\tname\na\t1\n"),
    "name twice": table("more than one column 'name'. Keep", "index\tname\tname\n1\ta\tb\n"),
    "ragged": table("line 2 has 4 fields, the header 2. Quote", "index\tname\n1\ta\tb\tc\n"),
    "open quote": table("line 3 cannot be read .*quotes", 'index\tname\n1\t"a\n2\tb\n'),
    "an image": row("atlas.nii: a label table needs", lut=named("atlas.nii")),
    "broken XML": table(r"broken XML .*Copy", "<atlas><data>", "lut.xml"),
    "XML of something else": table(r"no <label index=.*Give an FSL", "<html/>", "lut.xml"),
    "XML with entities": table(
        "the XML declares a DTD or entities.*Remove",
        '<!DOCTYPE x [<!ENTITY a "b">]><atlas/>',
        "l.xml",
    ),
    "beside the atlas": row(
        "x_dseg.tsv: none of its ids .*Give the table",
        atlas=lambda d: [
            text("x_dseg.tsv", "index\tname\n100\ta\n")(d),
            saved(LABELS, "x_dseg.nii")(d),
        ][1],
    ),
}

SEEDS: dict[str, Row] = {
    "no columns": row(
        "the table needs the columns x, y and z.*Rename", seeds=text("s.tsv", "a\n1\n")
    ),
    "no numbers": row(
        r"not three finite numbers .* at position 0; the first is \['a', 1, 2\]. Correct",
        seeds=text("s.tsv", "x\ty\tz\na\t1\t2\n"),
    ),
    "a hole": row(
        r"not three finite numbers .* at position 1",
        seeds=text("s.tsv", "x\ty\tz\n1\t1\t1\n1\t\t2\n"),
    ),
    "elsewhere": row(
        "no label left on the image's grid", seeds=text("s.tsv", "x\ty\tz\n900\t0\t0\n")
    ),
}

CONFOUNDS: dict[str, Row] = {
    "missing": row("absent.tsv: no such file. Check", confounds=named("absent.tsv")),
    "folder": row("is a folder. Give", confounds=lambda d: d),
    "empty": row("c.tsv: the file is empty. Copy", confounds=text("c.tsv", "")),
    "blank": row("c.tsv: the confounds file is empty. Write", confounds=text("c.tsv", "\n\n")),
    "header alone": row("c.tsv: .* header and no rows. Write", confounds=text("c.tsv", "a\tb\n")),
    "a row too few": row(
        "c.tsv has 39 rows and the run has 40 frames. Pass confounds of this run",
        confounds=confounds(lambda t: t[:-1]),
    ),
    "a row too many": row(
        "c.tsv has 41 rows and the run has 40 frames",
        confounds=confounds(lambda t: pd.concat([t, t[:1]])),
    ),
    "words": row(
        "c.tsv: column 'csf' has values that are no numbers. Leave out",
        confounds=confounds(lambda t: t.assign(csf="high")),
    ),
    "all n/a": row(
        r"c.tsv: column 'csf' has NaN or infinite values in 40 frames. Leave them out",
        confounds=confounds(lambda t: t.assign(csf=np.nan)),
    ),
    "n/a first": row(
        "c.tsv: column 'csf' has NaN or infinite values in frame 0.*first row with 0",
        confounds=confounds(lambda t: t.assign(csf=[np.nan] + [1.0] * (N_TIME - 1))),
    ),
    "infinite": row(
        "c.tsv: column 'csf' has NaN or infinite",
        confounds=confounds(lambda t: t.assign(csf=np.inf)),
    ),
    "semicolons": row(
        "c.tsv: its columns are not separated by tabs but by ';'. Write",
        confounds=confounds(lambda t: t.to_csv(sep=";")),
    ),
    "decimal commas": row(
        "c.csv: columns .* values that are no numbers",
        confounds=confounds(lambda t: t.to_csv(sep=";", index=False, decimal=","), "c.csv"),
    ),
    "UTF-16": row(
        "c.tsv: not a table of text .*in UTF-8",
        confounds=confounds(lambda t: t, encoding="utf-16"),
    ),
    "a name twice": row(
        "c.tsv: there are several columns 'csf'. Keep one",
        confounds=confounds(lambda t: t.rename(columns={"trans_x": "csf"})),
        columns=["csf"],
    ),
    "ragged": row(
        "c.tsv: not a table of confounds .*as many values",
        confounds=confounds(lambda t: t.to_csv(sep="\t", index=False) + "1\t2\t3\t4\n"),
    ),
    "an image": row(
        "run.nii.gz: not a table of text.*Pass a CSV or TSV", confounds=named("run.nii.gz")
    ),
    "not gzip": row("c.tsv.gz: is named .gz", confounds=confounds(lambda t: t, "c.tsv.gz")),
    "no such column": row(
        "confounds.tsv: no column of 3 matches 'trans_z'. Use, for example: trans_",
        confounds=named("confounds.tsv"),
        columns=["trans_z"],
    ),
    "columns alone": row(
        r"columns=\['csf'\] were chosen, but confounds were not given. Give both", columns=["csf"]
    ),
}

SAMPLE_MASKS: dict[str, Row] = {
    "too long": row("41 entries.*40 frames. Make", sample_mask=frames([1] * 41)),
    "too short": row("39 booleans .* 40 frames. Give", sample_mask=frames([1] * 39)),
    "below 0": row("negative index -1. Count", sample_mask=frames([-1, 3])),
    "a frame too many": row(
        "names frame 40 .* 40 frames, 0 to 39. Count", sample_mask=frames([40])
    ),
    "a frame twice": row("neither sorted nor free of repeats. Pass", sample_mask=frames([3, 3])),
    "nothing kept": row("censors all 40 frames.*Relax", sample_mask=frames([0] * N_TIME)),
    "words": row(
        r"m.txt: not a sample mask .*Give numbers", sample_mask=text("m.txt", "keep all"), api=False
    ),
    "fractions": row(
        r"m.txt: .*holds fractions. Give numbers", sample_mask=text("m.txt", "0.5 1"), api=False
    ),
    "pickle": row(
        r"m.npy: not a sample mask .*Give numbers",
        sample_mask=raw("m.npy", b"\x80\x04."),
        api=False,
    ),
    "too few for the filter": row(
        "3 frames and the butterworth filter needs 19 .*Lower",
        sample_mask=frames([3, 4, 5]),
        high_pass=0.01,
    ),
}

# what is suspicious, and may be meant: a warning, and the work goes on
DOUBTS: dict[str, Row] = {
    "TR of the sidecar": row(
        "b.json says 2000 s, .*; the header's 2 s is used. Pass t_r",
        image=beside("b.json", '{"RepetitionTime": 2000}'),
    ),
    "TR of sidecar and header": row(
        "header says TR 2 s and .*b.json says 1.5 s; the sidecar's is used. Pass t_r",
        image=beside("b.json", '{"RepetitionTime": 1.5}'),
    ),
    "TR of argument and header": row("t_r=1 s, but the image says 2 s .*argument is used", t_r=1.0),
    "ids without a name": row(
        r"lut.tsv: has no row for these labels .*: 2, 5, 9\. .*complete the table",
        lut=text("lut.tsv", "index\tname\n1\tV1\n"),
    ),
    "radius as a column": row(
        r"column 'radius' \(8\) is not used.*radius=8",
        seeds=text("s.tsv", "x\ty\tz\tradius\n4\t6\t4\t8\n"),
    ),
    "probability map as mask": row(
        "x.nii: holds fractions .*cut at a threshold", mask_img=saved(SOFT[..., 0].astype("f4"))
    ),
    "row numbers": row(
        "c.tsv: its first column has no name and counts the rows.*index=False",
        confounds=confounds(lambda t: t.to_csv(sep="\t")),
    ),
    "as many confounds as frames": row(
        "40 confounds are regressed out of 40 frames: .*Choose fewer",
        confounds=confounds(lambda t: pd.DataFrame(RNG.random((N_TIME, N_TIME))).add_prefix("c")),
    ),
    "cutoff beyond Nyquist": row(
        "low_pass=0.3 Hz lies outside 0 to 0.25 Hz.*Check t_r", low_pass=0.3
    ),
    "cutoff next to 0": row("high_pass=1e-12 Hz lies outside .*becomes 2.98", high_pass=1e-12),
    "no width": row("smoothing_fwhm=0.*: nothing is smoothed. Use None", smoothing_fwhm=0.0),
}
