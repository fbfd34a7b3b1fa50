"""Changes to valid input: as disks, careless hands and attackers make them. All by a seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

__all__ = ["Mutate", "joined", "json_tokens", "nifti_edited", "of_bytes", "of_text", "parts_of"]

Mutate = Callable[[Random, bytes], bytes]

# between the files of one input, such as a table and its sidecar
SEAM = b"\n%%%%\n"
BYTES = [*b"\x00 \xff \x7f \x80 \xef\xbb\xbf \xff\xfe \xed\xa0\x80".split(b" "), b"\n", b"\r"]
NUMBERS = [
    *[
        "0",
        "-1",
        "1",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
        "1e15",
        "1e308",
        "-0",
        "0x10",
        "1_000",
        "1e-320",
        "1.5",
    ],
    *[
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "٣",
        "n/a",
    ],
    *("True", "null", "9" * 400, "1" + "0" * 5000, "", " ", "1 2"),
]
WORDS = [
    *("\t", "\n", "\r\n", "\0", "\x1b[31m", "\u2028", "\u202e", "é", "𝟙", "\ufeff", "í\xa0\x80"),
    *[
        '"',
        "'",
        ",",
        ";",
        "../",
        "..\\",
        "/etc/passwd",
        "%s",
        "{0}",
        "[",
        "{",
        "}",
        "]",
        "<",
        ">",
        "&",
        "#",
        "*",
        "?",
        "\\ud800",
        "\\u0000",
    ],
    "a" * 3000,
]


def joined(*files: bytes) -> bytes:
    """Several files as one input."""
    return SEAM.join(files)


def parts_of(data: bytes, count: int) -> list[bytes | None]:
    """Files of one input; None for what a mutation has taken away."""
    found: list[bytes | None] = [*data.split(SEAM, count - 1)]
    return found + [None] * (count - len(found))


def of_bytes(rng: Random, data: bytes) -> bytes:
    """A few changes anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        length = min(rng.choice((1, 1, 2, 4, 16, 200)), len(out) - at)
        kind = rng.randrange(8)
        if kind <= 2 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 4:
            del out[at : at + length]
        elif kind == 5:
            out[at:at] = rng.choice(BYTES) * rng.choice((1, 1, 2, 50))
        elif kind == 6:
            other = rng.randrange(len(out) + 1)
            out[at : at + length] = out[other : other + length]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def of_text(*words: str) -> Mutate:
    """Changes to a text whose separators and numbers mean something; with words of its own."""
    inserted = [w.encode("utf-8", "surrogateescape") for w in (*WORDS, *NUMBERS, *words, *words)]

    def mutate(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.25:
            return of_bytes(rng, data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = _edited(rng, data, inserted)
        return data

    return mutate


def _edited(rng: Random, data: bytes, words: Sequence[bytes]) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:  # a line twice, gone, or elsewhere
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        line = lines.pop(at) if rng.random() < 0.7 else lines[at]
        for _ in range(rng.choice((0, 0, 1, 2))):
            lines.insert(rng.randrange(len(lines) + 1), line)
        return b"\n".join(lines)
    if kind == 1:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(words) + data[at:]
    # a field: what lies between separators
    stops = [-1, *(i for i, c in enumerate(data) if c in b'\t\n,:;=<>"[]{} /-_.'), len(data)]
    i = rng.randrange(len(stops) - 1)
    start, stop = stops[i] + 1, stops[i + 1]
    if kind == 2:
        return data[:start] + data[stop + 1 :]
    if kind == 3 and len(stops) > 3:
        j = rng.randrange(len(stops) - 1)
        return data[:start] + data[stops[j] + 1 : stops[j + 1]] + data[stop:]
    return data[:start] + rng.choice(words) + data[stop:]


def json_tokens() -> list[str]:
    """What JSON texts have, and what parsers trip over."""
    deep = ["[" * n + "]" * n for n in (100, 5_000, 200_000)]
    deep += ['{"a":' * 3_000 + "1" + "}" * 3_000]
    return [
        *deep,
        "{}",
        "[]",
        '""',
        "null",
        "true",
        '"x"',
        "-",
        "1e400",
        '"\\ud83d"',
        "[null]",
        "[[1]]",
    ]


Field = tuple[str, int, str, int]  # name, offset, struct code, count

INTEGERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 255, 256, 1000, 32767, 30000, 2**31 - 1, 2**62)
INTEGERS += (-(2**31), -(2**15), 512, 768, 1024, 1280, 1536, 128, 2304, 352, 348, 540, 544)
FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-45, 3.4e38, -3.4e38)
FLOATS += (352.0, 353.0, 351.5, 544.0, 1e9, 1e15, 2.0, 1e-6, 0.5, 2e9, 16777217.0, -352.0, 1e300)


def nifti_fields(version: int) -> list[Field]:
    """Fields of a header, as nibabel has them."""
    from nibabel.nifti1 import header_dtype as first
    from nibabel.nifti2 import header_dtype as second

    dtype: Any = {1: first, 2: second}[version]
    codes = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "f4": "f", "f8": "d", "u1": "B", "u2": "H"}
    fields = []
    for name in dtype.names:
        own, at = dtype.fields[name][:2]
        base, count = own.base, max(1, own.itemsize // max(own.base.itemsize, 1))
        if base.kind == "S":
            fields.append((name, at, "B", base.itemsize))
        else:
            fields.append((name, at, codes[base.str[1:]], count))
    return fields


# what decides about how a file is read, more often than what does not
TELLING = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "magic")
TELLING += ("qform_code", "sform_code", "srow_x", "quatern_b", "sizeof_hdr", "xyzt_units")


def nifti_edited(rng: Random, data: bytes) -> bytes:
    """A header with other values in some fields; now and then the extensions' sizes."""
    if len(data) < 352 or rng.random() < 0.1:
        return of_bytes(rng, data)
    order = "<" if int.from_bytes(data[:4], "little") in (348, 540) else ">"
    version = 1 if int.from_bytes(data[:4], {"<": "little", ">": "big"}[order]) == 348 else 2  # type: ignore[arg-type]
    fields = nifti_fields(version)
    out = bytearray(data.ljust(560, b"\0"))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        telling = [f for f in fields if f[0] in TELLING]
        _, at, code, count = rng.choice(telling if rng.random() < 0.8 else fields)
        size = struct.calcsize(code)
        i = rng.randrange(count)
        if code in "fd":
            value: Any = rng.choice((*FLOATS, rng.uniform(-1000, 1000)))
            if code == "f" and 3.4e38 < abs(value) < float("inf"):
                value = 3.4e38
        else:
            value = rng.choice((*INTEGERS, rng.randrange(-9, 99)))
            bits = 8 * size
            value %= 1 << bits
            if code.islower() and value >= 1 << (bits - 1):
                value -= 1 << bits
        struct.pack_into(order + code, out, at + i * size, value)
    start = {1: 348, 2: 540}[version]
    if rng.random() < 0.15:  # an extension: 4 bytes that say so, then size and code of each
        values = rng.choice(((16, 4), (0, 0), (-16, 6), (8, 99), (2**31 - 16, 4), (17, 4)))
        out[start : start + 12] = bytes([rng.randrange(3), 0, 0, 0]) + struct.pack(
            order + "2i", *values
        )
    return bytes(out[: len(data)])
