import errno
import hashlib
import io
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from napari_tokenunify.data import SAMPLES, load_sample, samples
from napari_tokenunify.errors import ConfigError, VolumeError
from napari_tokenunify.events import Progress

RAW = np.random.default_rng(0).integers(0, 255, (8, 20, 24), np.uint8)
SUPERVOXELS = np.arange(RAW.size, dtype=np.uint32).reshape(RAW.shape) // 500  # 0 .. 7
NEURONS = np.array([0, 70, 70, 30, 30, 5, 6, 0], np.uint32)  # of supervoxels 0 .. 7; 7 is not in the table


def hdf5(**datasets):
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, values in datasets.items():
            out[name] = values
    return file.getvalue()


FILES = {
    "grayscale_maps.h5": hdf5(raw=RAW),
    "groundtruth.h5": hdf5(stack=SUPERVOXELS, transforms=np.stack([np.arange(7), NEURONS[:7]], 1).astype(np.uint64)),
}


class Server(ThreadingHTTPServer):
    """Serves FILES from this machine, and counts; `cut_off` names a file whose second half never comes."""

    daemon_threads = True
    cut_off = ""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.asked.append(name)
        if name not in FILES:
            self.send_error(404)
            return
        content = FILES[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == self.server.cut_off else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def fib25(server, monkeypatch):
    files = [samples.RemoteFile(f"{server.address}/{n}", hashlib.sha256(c).hexdigest()) for n, c in FILES.items()]
    sample = replace(SAMPLES["fib25"], files=tuple(files))
    monkeypatch.setitem(SAMPLES, "fib25", sample)
    return sample


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def what_lies_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


# -- downloaded -----------------------------------------------------------------------------------------------


def test_a_download_becomes_two_volumes(fib25, cache, capfd):
    events = []
    loaded = load_sample("fib25", cache, events.append)
    assert np.array_equal(loaded.raw.dask().compute(), RAW)
    assert np.array_equal(loaded.labels.dask().compute(), NEURONS[SUPERVOXELS])
    assert loaded.raw.voxel_size_nm == loaded.labels.voxel_size_nm == (10, 10, 10)
    assert loaded.sample is fib25
    assert [path.name for path in cache.iterdir()] == ["fib25-1.zarr"]
    assert all(isinstance(event, Progress) and 0 <= event.done <= event.total for event in events)
    assert any(event.what.startswith("downloading groundtruth.h5") and event.done == event.total for event in events)
    assert capfd.readouterr() == ("", "")


def test_the_second_time_needs_no_network(fib25, server, cache):
    load_sample("fib25", cache)
    server.asked.clear()
    again = load_sample("fib25", cache)
    assert np.array_equal(again.raw.dask().compute(), RAW)
    assert server.asked == []


def test_a_wrong_checksum_is_said_and_nothing_stays(fib25, cache, monkeypatch):
    wrong = replace(fib25, files=(replace(fib25.files[0], sha256="0" * 64),))
    monkeypatch.setitem(SAMPLES, "fib25", wrong)
    with pytest.raises(VolumeError, match=r"is not the expected file \(its checksum differs\) .* try again") as caught:
        load_sample("fib25", cache)
    assert fib25.homepage in str(caught.value)
    assert what_lies_in(cache) == []


def test_being_offline_is_said_with_what_needs_no_network(fib25, cache, server):
    server.server_close()
    with pytest.raises(VolumeError, match=r"cannot be downloaded .*: check the network .* 'synthetic-isotropic'"):
        load_sample("fib25", cache)
    assert what_lies_in(cache) == []


def test_a_file_that_is_gone_is_said(fib25, cache, monkeypatch, server):
    gone = replace(fib25.files[0], url=f"{server.address}/gone.h5")
    monkeypatch.setitem(SAMPLES, "fib25", replace(fib25, files=(gone,)))
    with pytest.raises(VolumeError, match=r"gone\.h5: cannot be downloaded \(HTTPError\)"):
        load_sample("fib25", cache)


def test_an_interrupted_download_leaves_nothing_that_looks_whole(fib25, cache, server):
    server.cut_off = "grayscale_maps.h5"
    with pytest.raises(VolumeError, match="cannot be downloaded"):
        load_sample("fib25", cache)
    assert what_lies_in(cache) == []


def test_a_file_that_came_whole_is_not_downloaded_again(fib25, cache, server):
    server.cut_off = "groundtruth.h5"
    with pytest.raises(VolumeError, match="cannot be downloaded"):
        load_sample("fib25", cache)
    assert what_lies_in(cache) == ["fib25-1.download", "fib25-1.download/grayscale_maps.h5"]
    server.cut_off = ""
    assert load_sample("fib25", cache).raw.shape == RAW.shape
    assert server.asked == ["grayscale_maps.h5", "groundtruth.h5", "groundtruth.h5"]
    assert [path.name for path in cache.iterdir()] == ["fib25-1.zarr"]


def test_a_full_disk_is_said(fib25, cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.retrieve", full)
    with pytest.raises(VolumeError, match=r"cannot be stored in .* \(No space left on device\): make room"):
        load_sample("fib25", cache)


def test_a_download_of_another_layout_is_said(fib25, cache, monkeypatch):
    monkeypatch.setitem(SAMPLES, "fib25", replace(fib25, files=fib25.files[:1] * 2))
    with pytest.raises(VolumeError, match="not as expected"):
        load_sample("fib25", cache)
    assert not (cache / "fib25-1.zarr").exists()


# -- made here ------------------------------------------------------------------------------------------------


@pytest.fixture
def synthetic(monkeypatch):
    sample = samples._synthetic("synthetic-isotropic", "small", "a block", (4, 32, 32), (10.0, 10.0, 10.0))
    monkeypatch.setitem(SAMPLES, sample.name, sample)
    return sample


def test_a_synthetic_sample_is_made_once(synthetic, cache, monkeypatch):
    first = load_sample(synthetic.name, cache)
    assert (first.raw.shape, first.labels.shape) == ((4, 32, 32), (4, 32, 32))
    assert (first.raw.dtype, first.labels.dtype) == (np.uint8, np.uint32)
    monkeypatch.setattr(samples, "synthetic_em", None)
    assert load_sample(synthetic.name, cache).raw.checksum() == first.raw.checksum()


def test_the_environment_names_the_cache(synthetic, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_CACHE", str(tmp_path / "here"))
    load_sample(synthetic.name)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["synthetic-isotropic-1.zarr"]


def test_a_process_that_was_quicker_is_no_error(synthetic, cache, monkeypatch):
    def build():
        monkeypatch.setitem(SAMPLES, synthetic.name, synthetic)
        load_sample(synthetic.name, cache)
        return synthetic.build()

    monkeypatch.setitem(SAMPLES, synthetic.name, replace(synthetic, build=build))
    assert load_sample(synthetic.name, cache).raw.shape == (4, 32, 32)
    assert len(list(cache.iterdir())) == 1


# -- the table ------------------------------------------------------------------------------------------------


def test_an_unknown_sample_is_said_with_those_there_are():
    with pytest.raises(ConfigError, match=r"no sample 'fib52': choose one of synthetic-isotropic, .*fib25"):
        load_sample("fib52")


@pytest.mark.parametrize("name", ["isbi2012", "cremi"])
def test_a_sample_that_is_only_listed_says_where_to_get_it(name):
    with pytest.raises(VolumeError, match=r"is not downloaded from here .*: get it from https://"):
        load_sample(name)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_sample_says_what_it_is_and_what_may_be_done_with_it(sample):
    assert all((sample.title, sample.description, sample.licence, sample.citation))
    assert (sample.megabytes > 0) == (sample.build is not None)
    assert sample.homepage.startswith("https://") or sample.name.startswith("synthetic")
    for file in sample.files:
        assert file.url.startswith("https://")
        assert len(bytes.fromhex(file.sha256)) == 32
