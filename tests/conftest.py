"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import browser as browsers
import dask
import pytest
from bids_tree import make_tree
from hypothesis import HealthCheck, settings
from servers import S3, Server, http_server, s3_server

if TYPE_CHECKING:
    import datasetmirror

# the same examples in every run: a failure in CI is a failure at home. Timings are not tested
settings.register_profile(
    "daskroi", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("daskroi")


def pytest_configure() -> None:
    """Hear Ctrl-C, and have all that tests start hear it: ``pytest &`` in a script does not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():  # type: ignore[no-untyped-def]
    """With ``DASKROI_NO_SKIP``, as in CI, a part that is missing is a failure, not a skip."""
    report = yield
    missing = report.skipped and not hasattr(report, "wasxfail")
    if missing and os.environ.get("DASKROI_NO_SKIP"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with a real run and four atlases; users do not have it, so tests on it skip there.

    ``DASKROI_TEST_DATA`` names it; by default it is looked for beside the checkout. Named but
    absent is a failure, so that CI cannot pass by skipping.
    """
    named = os.environ.get("DASKROI_TEST_DATA")
    folder = Path(os.path.abspath(named or Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "atlases").is_dir():
        if named:
            pytest.fail(f"DASKROI_TEST_DATA={named} holds no atlases")
        pytest.skip("needs the real run, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def real_run(real_data: Path) -> Path:
    """The real preprocessed run."""
    return next((real_data / "bids-derivatives").rglob("*_desc-preproc_bold.nii.gz"))


@pytest.fixture(scope="session")
def harvard_oxford(real_data: Path) -> Path:
    """The real cortical Harvard-Oxford atlas, with its table beside it."""
    return real_data / "atlases" / "HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 protocol server, for all tests."""
    pytest.importorskip("s3fs")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str) -> S3:
    """An empty bucket of its own."""
    found = S3(s3_endpoint, f"bucket-{uuid.uuid4().hex}")
    found.filesystem.mkdir(found.bucket)
    return found


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Server]:
    """A web server of the test's own folder that knows ranges, and faults when told to."""
    with http_server(tmp_path) as server:
        yield server


@pytest.fixture
def synchronous() -> Iterator[None]:
    """Dask in the test's own thread."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def no_compute() -> Iterator[None]:
    """A scheduler that raises: nothing may be computed while a graph is built."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed while building")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a network."""
    with browsers.chromium() as started:
        yield started


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 subjects, 2 sessions, 2 tasks, 2 runs, 2 spaces: 48 images. No test changes it."""
    root = tmp_path_factory.mktemp("cohort") / "fmriprep"
    return make_tree(root, ("1", "2", "10"), ("a", "b"), ("rest", "nback"), ("1", "2"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the test's own; no gzip index of another test is remembered."""
    from daskroi import gzipindex

    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    gzipindex._loaded.clear()
    yield tmp_path / "cache"
    gzipindex._loaded.clear()


@pytest.fixture
def search_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files as well go to the process that searches in parallel."""
    from daskroi import gzipsearch

    monkeypatch.setattr(gzipsearch, "SMALL", 0)


@pytest.fixture
def no_figures_left() -> Iterator[None]:
    """Plots are drawn without a screen, and are closed after the test."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def handlers_stay() -> Iterator[None]:
    """A library that takes Ctrl-C over takes it from whoever uses daskroi."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    changed = [number for number, was in before.items() if signal.getsignal(number) is not was]
    for number in changed:
        signal.signal(number, before[number])
    assert not changed


@pytest.fixture(autouse=True)
def no_client_is_missed() -> Iterator[None]:
    """Without a client, a scheduler that was left to be one has all later tests fail."""
    yield
    if dask.config.get("scheduler", None) is None:
        return
    from distributed import default_client

    try:
        default_client()
    except ValueError:
        dask.config.set(scheduler=None)
        pytest.fail("left Dask to compute by a client that is closed")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small run and all that goes with it, for the command line; tests only read these."""
    from clirun import write_files

    return write_files(tmp_path_factory.mktemp("in"))


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without data and without a network; pooch does not wait between tries."""
    names = ("NILEARN_SHARED_DATA", "NILEARN_DATA", "FSLDIR", "TEMPLATEFLOW_HOME")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DASKROI_CACHE", str(tmp_path / "cache"))
    # port 9 (discard) is closed
    monkeypatch.setenv("DASKROI_DATASETS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def server(
    bare_machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[datasetmirror.Server]:
    """A mirror with all datasets, named by DASKROI_DATASETS_URL."""
    from datasetmirror import mirror

    with mirror(tmp_path) as server:
        monkeypatch.setenv("DASKROI_DATASETS_URL", server.url)
        yield server


@pytest.fixture
def forgotten(synchronous: None) -> Iterator[None]:
    """Dask in the test's own thread; gzip streams that stand open are forgotten after the test."""
    from daskroi import inflate

    yield
    inflate.streams.forget()


@pytest.fixture
def tab(browser: Any) -> Iterator[browsers.Tab]:
    """A tab in which nothing goes wrong, and which asks for nothing but local files."""
    with browsers.tab(browser) as opened:
        yield opened
        opened.check()


@pytest.fixture(scope="session")
def made() -> Any:
    """The report of a run with everything there is, and names that would do harm."""
    from reportpages import full_report

    return full_report()


@pytest.fixture(scope="session")
def page_file(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same report as a file; not to be changed."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    made.save_as_html(path)
    return path


@pytest.fixture(scope="session")
def phantom() -> Any:
    """A small run with an atlas of six regions and its confounds; not to be changed."""
    import daskroi as dr

    return dr.make_phantom((12, 14, 12), n_time=30, n_regions=6)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs of different lengths; not to be changed."""
    import cohorts

    folder = tmp_path_factory.mktemp("data") / "fmriprep"
    cohorts.write_cohort(folder, 5, lambda i: 10 + (3, 0, 5, 1, 2)[i])
    return folder


@pytest.fixture
def runs(dataset: Path) -> Any:
    """The table of these runs."""
    from daskroi.cohort import find_runs

    return find_runs(dataset)


@pytest.fixture(scope="session")
def atlas() -> Any:
    """The atlas of these runs, and of all that `cohorts` writes."""
    import cohorts

    return cohorts.atlas()
