"""Remote files against real servers that misbehave: what passes is waited for, the rest is said."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import traceback
from pathlib import Path
from typing import Any

import dask.base
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import BUSY, DROP, RESET, S3, SHORT, SILENT, Server, free_port, http_server, put, read

from daskroi import remote
from daskroi.bytesource import HEAD_BYTES, ByteSource, _first_bytes
from daskroi.errors import DaskroiError, DaskroiNotFoundError, DaskroiPermissionError
from daskroi.rangereader import RangeReader
from daskroi.remote import filesystem, identify
from daskroi.urls import StorageOptions, shown

PAYLOAD = random.Random(0).randbytes(3_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of the retries, a hundredth as long."""
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.002)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.08)
    _first_bytes.cache_clear()


def written(folder: Path, name: str = "x.bin", payload: bytes = PAYLOAD) -> Path:
    return put(folder / name, payload)


# reading


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_any_part_over_http(tmp_path: Path, web: Server, name: str) -> None:
    written(tmp_path, name)
    source = ByteSource.of(f"{web.url}/{name}")
    assert source.gzipped == name.endswith(".gz")
    assert source.head(540) == PAYLOAD[:540]
    for start, stop in ((0, 10), (2_999_990, 3_000_000), (100_000, 2_500_000), (5, 6)):
        assert read(source, start, stop) == PAYLOAD[start:stop]
    assert source.read() == PAYLOAD


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_range_reader_is_a_file(tmp_path: Path, web: Server, data: st.DataObject) -> None:
    payload = PAYLOAD[:5000]
    path = tmp_path / "small.bin"
    if not path.exists():
        path.write_bytes(payload)
    start = data.draw(st.integers(0, 4000))
    stop = data.draw(st.integers(start, 5000))
    block = data.draw(st.integers(300, 3000))
    ahead = data.draw(st.integers(0, 3))
    options = StorageOptions()
    web.forget()
    with RangeReader(f"{web.url}/small.bin", options, start, stop, block=block, ahead=ahead) as f:
        for position, count in data.draw(
            st.lists(st.tuples(st.integers(start, stop), st.integers(0, 4000)), max_size=4)
        ):
            f.seek(position)
            found = b""
            while len(found) < count and (piece := f.read(count - len(found))):
                found += piece
            assert found == payload[position : min(position + count, stop)]
            assert f.tell() == position + len(found)
    for request in web.requests:
        first, last = map(int, (request.range or "").removeprefix("bytes=").split("-"))
        assert start <= first <= last < stop, "nothing outside the range is fetched"


def test_a_part_costs_a_part(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    source = ByteSource.of(f"{web.url}/x.bin")
    web.forget()
    assert read(source, 1_000_000, 1_100_000) == PAYLOAD[1_000_000:1_100_000]
    assert web.bytes_sent == 100_000


def test_opening_costs_the_head(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    ByteSource.of(f"{web.url}/x.bin").head(540)
    assert web.bytes_sent <= HEAD_BYTES + 100


def test_s3(s3: S3) -> None:
    with s3.filesystem.open(s3.url("a/x.bin.gz"), "wb") as file:
        file.write(gzip.compress(PAYLOAD, 1))
    source = ByteSource.of(s3.url("a/x.bin.gz"), s3.options)
    assert source.read() == PAYLOAD
    assert read(pickle.loads(pickle.dumps(source)), 7, 99) == PAYLOAD[7:99]


# faults that pass


@pytest.mark.parametrize("fault", [DROP, RESET, BUSY, SHORT])
@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_faults_that_pass(tmp_path: Path, web: Server, fault: str, name: str) -> None:
    written(tmp_path, name)
    source = ByteSource.of(f"{web.url}/{name}")
    web.faults[:] = [fault] * 3
    assert source.read() == PAYLOAD
    assert not web.faults
    web.faults[:] = [fault] * 3
    assert read(source, 10, 2_000_000) == PAYLOAD[10:2_000_000]


def test_a_silent_server(tmp_path: Path, web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.3)
    written(tmp_path)
    source = ByteSource.of(f"{web.url}/x.bin")
    web.faults[:] = [SILENT]
    assert source.read() == PAYLOAD


def test_what_came_is_not_fetched_again(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    source = ByteSource.of(f"{web.url}/x.bin")
    web.forget()
    web.faults[:] = [SHORT]
    assert read(source, 0, 1_000_000) == PAYLOAD[:1_000_000]
    assert web.bytes_sent == 1_000_000
    assert [r.range for r in web.requests if r.sent] == ["bytes=0-999999", "bytes=500000-999999"]


@pytest.mark.parametrize("fault", [DROP, RESET, BUSY])
def test_faults_of_s3_that_pass(s3: S3, fault: str) -> None:
    with s3.filesystem.open(s3.url("x.bin"), "wb") as file:
        file.write(PAYLOAD)
    with http_server(upstream=s3.endpoint) as proxy:
        source = ByteSource.of(s3.url("x.bin"), s3.options_at(proxy.url))
        proxy.faults[:] = [fault] * 2
        assert read(source, 10, 2_000_000) == PAYLOAD[10:2_000_000]
        assert not proxy.faults


# faults that stay


def test_a_server_that_stays_busy(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    source = ByteSource.of(f"{web.url}/x.bin")
    web.faults[:] = [BUSY] * 1000
    with pytest.raises(DaskroiError, match=r"/x\.bin: the server answers with status 503\. Try"):
        read(source, 0, 10)
    assert len(web.faults) == 1000 - remote.ATTEMPTS


def test_no_server() -> None:
    with pytest.raises(DaskroiError, match=r"^http://127\.0\.0\.1:\d+/x\.nii: cannot be read \("):
        ByteSource.of(f"http://127.0.0.1:{free_port()}/x.nii")


def test_missing(web: Server, s3: S3) -> None:
    with pytest.raises(DaskroiNotFoundError, match=r"/no\.nii: no such file\. Check the URL"):
        ByteSource.of(f"{web.url}/no.nii")
    with pytest.raises(DaskroiNotFoundError, match=r"/no\.nii: no such file\. Check the URL"):
        ByteSource.of(s3.url("no.nii"), s3.options)


def test_folders_and_empty_files(s3: S3) -> None:
    s3.filesystem.pipe_file(s3.url("folder/x.nii"), b"")
    with pytest.raises(DaskroiError, match="is a folder"):
        ByteSource.of(s3.url("folder"), s3.options)
    with pytest.raises(DaskroiError, match="the file is empty"):
        ByteSource.of(s3.url("folder/x.nii"), s3.options)


def test_forbidden(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    web.forbidden = True
    with pytest.raises(DaskroiPermissionError, match=r"x\.bin: the server forbids reading it"):
        ByteSource.of(f"{web.url}/x.bin")


def test_a_forbidden_bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto checks no credentials: here the answer of the protocol is made up."""
    import s3fs

    async def forbid(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", forbid)
    with pytest.raises(DaskroiPermissionError, match=r"'anon': True.*'requester_pays': True"):
        ByteSource.of(s3.url("x.nii"), s3.options)


def test_no_credentials(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"client_kwargs": {"endpoint_url": s3.endpoint}, "skip_instance_cache": True}
    with pytest.raises(DaskroiError, match=r"no credentials .* storage_options=\{'anon': True\}"):
        ByteSource.of(s3.url("x.nii"), options)


def test_a_server_without_ranges(tmp_path: Path, web: Server) -> None:
    written(tmp_path)
    web.ranges = False
    with pytest.raises(DaskroiError, match="answers requests for a part with the whole file"):
        ByteSource.of(f"{web.url}/x.bin")


def test_unknown_protocol_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DaskroiError, match=r"protocol nosuch:// is not known\. Use s3://"):
        ByteSource.of("nosuch://x/y.nii")
    import fsspec

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(DaskroiError, match=r"s3:// needs a package .* pip install 'daskroi\[s3\]'"):
        ByteSource.of("s3://bucket/y.nii")


def test_a_web_page_is_no_image(tmp_path: Path, web: Server) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"<!DOCTYPE html><html>log in</html>")
    with pytest.raises(DaskroiError, match="holds a web page, perhaps to log in"):
        ByteSource.of(f"{web.url}/x.nii.gz")


@pytest.mark.parametrize(
    ("stub", "command"),
    [
        (b"/annex/objects/MD5E-s1234--abc.nii.gz\n", "datalad get"),
        (
            b"../../.git/annex/objects/aa/bb/MD5E-s1234--abc.nii.gz/MD5E-s1234--abc.nii.gz",
            "datalad",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "git lfs pull",
        ),
    ],
)
def test_pointers_of_datalad_and_lfs(
    tmp_path: Path, web: Server, stub: bytes, command: str
) -> None:
    (tmp_path / "x.nii.gz").write_bytes(stub)
    for path in (tmp_path / "x.nii.gz", f"{web.url}/x.nii.gz"):
        with pytest.raises(DaskroiNotFoundError, match=f"only a pointer .* '{command}"):
            ByteSource.of(path)


# a file that changes


@pytest.mark.parametrize("name", ["x.bin", "x.bin.gz"])
def test_changed_between_open_and_read(tmp_path: Path, web: Server, name: str) -> None:
    written(tmp_path, name)
    source = ByteSource.of(f"{web.url}/{name}")
    os.utime(written(tmp_path, name, PAYLOAD[::-1]), ns=(0, 1))
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        read(source, 10, 20)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        source.read()
    (tmp_path / name).unlink()
    with pytest.raises(DaskroiNotFoundError, match="was there when opened"):
        source.read()


def test_changed_on_s3(s3: S3) -> None:
    s3.filesystem.pipe_file(s3.url("x.bin"), b"a" * 1000)
    source = ByteSource.of(s3.url("x.bin"), s3.options)
    s3.filesystem.pipe_file(s3.url("x.bin"), b"b" * 1000)
    with pytest.raises(DaskroiError, match="changed after it was opened"):
        read(source, 10, 20)
    assert read(ByteSource.of(s3.url("x.bin"), s3.options), 10, 20) == b"b" * 10


def test_another_version_is_another_key(s3: S3) -> None:
    s3.filesystem.pipe_file(s3.url("x.bin"), b"a" * 1000)
    a = ByteSource.of(s3.url("x.bin"), s3.options)
    again = ByteSource.of(s3.url("x.bin"), s3.options)
    assert dask.base.tokenize(a) == dask.base.tokenize(again)
    assert a.identity == again.identity
    s3.filesystem.pipe_file(s3.url("x.bin"), b"b" * 1000)
    b = ByteSource.of(s3.url("x.bin"), s3.options)
    assert dask.base.tokenize(a) != dask.base.tokenize(b)
    assert a.identity != b.identity


# nothing secret is shown

SECRETS = ("daskroi-test-secret", "daskroi-test-key", "hunter2", "X-Amz-Signature")


def test_credentials_are_not_shown(tmp_path: Path, web: Server, s3: S3) -> None:
    written(tmp_path)
    host = web.url.removeprefix("http://")
    url = f"http://me:hunter2@{host}/x.bin?X-Amz-Signature=hunter2"
    options = StorageOptions(s3.options)
    s3.filesystem.pipe_file(s3.url("x.bin"), PAYLOAD)
    texts = [repr(options), str(options), repr(ByteSource.of(s3.url("x.bin"), options))]
    source = ByteSource.of(f"{web.url}/x.bin?X-Amz-Signature=hunter2")
    assert source.head(10) == PAYLOAD[:10]
    texts += [repr(source), shown(url)]
    web.faults[:] = [BUSY] * 100
    nobody = s3.options_at(f"http://127.0.0.1:{free_port()}")
    nobody["config_kwargs"] = {"retries": {"max_attempts": 0}}  # botocore waits for 10 s
    for bad in (
        lambda: read(source, 0, 9),
        lambda: ByteSource.of(f"{web.url}/no.bin?X-Amz-Signature=hunter2"),
        lambda: ByteSource.of(f"http://me:hunter2@127.0.0.1:{free_port()}/x.bin?sig=hunter2"),
        lambda: ByteSource.of(s3.url("no.bin"), options),
        lambda: ByteSource.of(s3.url("x.bin"), nobody),
        lambda: filesystem("nosuch://x?X-Amz-Signature=hunter2", options),
    ):
        with pytest.raises(DaskroiError) as caught:
            bad()
        texts.append(said(caught.value))
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text], text


def said(error: BaseException | None) -> str:
    """Everything a traceback would say of an error and its causes, but for lines of code."""
    text = ""
    while error is not None:
        text += "".join(traceback.format_exception_only(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


def test_options_travel_and_are_part_of_the_key() -> None:
    a = StorageOptions({"key": "a", "client_kwargs": {"endpoint_url": "http://x"}})
    b = StorageOptions({"key": "b", "client_kwargs": {"endpoint_url": "http://x"}})
    assert pickle.loads(pickle.dumps(a)) == a != b
    assert dask.base.tokenize(a) == dask.base.tokenize(pickle.loads(pickle.dumps(a)))
    assert dask.base.tokenize(a) != dask.base.tokenize(b)
    assert len({a, StorageOptions(dict(a)), b}) == 2
    assert dict(a)["client_kwargs"] == {"endpoint_url": "http://x"}


def test_identify_asks_the_server_not_a_cache(s3: S3) -> None:
    s3.filesystem.pipe_file(s3.url("x.bin"), b"a")
    options = StorageOptions(s3.options)
    s3.filesystem.ls(s3.bucket)
    before = identify(s3.url("x.bin"), options)
    s3.filesystem.pipe_file(s3.url("x.bin"), b"bb")
    assert identify(s3.url("x.bin"), options) != before
