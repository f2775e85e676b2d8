"""Bad files and archives: refused in one line, whatever was there before stays as it was, and nothing else is written."""

import io
import pickle
import tarfile
from pathlib import Path

import datafiles
import pytest
from test_data import Evil, load, the_line

from benchmarks.datasets import Dataset


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder but for empty folders and locks of the cache."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def refused(dataset: Dataset, folder: Path, allow_unverified: bool = True) -> str:
    before = snapshot(folder)
    line = the_line(load, dataset, folder, allow_unverified)
    assert snapshot(folder) == before
    return line


RAW = "MNIST/raw/"


def swap(folder: Path, one: str, other: str) -> None:
    first, second = folder / one, folder / other
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def test_train_and_test_swapped(tmp_path):
    dataset = datafiles.tiny_mnist(tmp_path)
    swap(tmp_path, f"{RAW}train-images-idx3-ubyte", f"{RAW}t10k-images-idx3-ubyte")
    assert "is not the official file" in refused(dataset, tmp_path, allow_unverified=False)
    assert "holds uint8 (10, 6, 5), expected uint8 (30, 6, 5)" in refused(dataset, tmp_path)


def test_swapped_batches_are_detected_by_their_md5(tmp_path):
    dataset = datafiles.tiny_cifar(tmp_path)
    swap(tmp_path, "cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch")
    line = refused(dataset, tmp_path, allow_unverified=False)
    assert "data_batch_1 is not the official file" in line
    assert "nor are test_batch" in line


def test_images_under_the_name_of_labels(tmp_path):
    dataset = datafiles.tiny_mnist(tmp_path)
    swap(tmp_path, f"{RAW}train-images-idx3-ubyte", f"{RAW}train-labels-idx1-ubyte")
    assert "expected uint8 (30," in refused(dataset, tmp_path)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_renamed_file_is_missing(tmp_path, name):
    dataset = datafiles.tiny_mnist(tmp_path)
    (tmp_path / RAW / name).rename(tmp_path / RAW / f"{name} (1)")
    assert f"{name}.gz" in refused(dataset, tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_every_file_truncated_at_any_place(tmp_path, packed):
    """Official facts, a file cut short: its md5 says so; where that is overruled, the reader does."""
    for make in (datafiles.tiny_mnist, datafiles.tiny_cifar):
        folder = tmp_path / make.__name__
        dataset = make(folder, packed)
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            whole = path.read_bytes()
            for length in (0, 1, len(whole) // 2, len(whole) - 1):
                path.write_bytes(whole[:length])
                assert "is not the official file" in refused(dataset, folder, allow_unverified=False)
                assert path.name in refused(dataset, folder)
            path.write_bytes(whole)


def test_code_inside_a_packed_batch_never_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = datafiles.tiny_cifar(tmp_path / "official")
    files = {path: (tmp_path / "official" / path).read_bytes() for path, _ in dataset.files[0].unpacked}
    files["cifar-10-batches-py/data_batch_3"] = pickle.dumps(Evil())
    datafiles.write(tmp_path / "data", {"cifar-10-python.tar.gz": datafiles.tar_gz(files)})
    line = refused(dataset, tmp_path / "data")
    assert "refers to posix.system" in line
    assert not Path("reprozoo-was-here").exists()


def archive_with(files: dict[str, bytes], **fields: object) -> bytes:
    """The files behind one odd member."""
    odd = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    for name, value in fields.items():
        setattr(odd, name, value)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(odd)
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return datafiles.gzip.compress(buffer.getvalue(), mtime=0)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_links_and_devices_in_an_archive_count_as_no_file(tmp_path, kind):
    dataset = datafiles.tiny_cifar(tmp_path / "official")
    files = {path: (tmp_path / "official" / path).read_bytes() for path, _ in dataset.files[0].unpacked}
    first = next(iter(files))
    without = {path: content for path, content in files.items() if path != first}
    odd = archive_with(without, type=kind, linkname="/etc/passwd")
    datafiles.write(tmp_path / "data", {"cifar-10-python.tar.gz": odd})
    assert f"it lacks {first}" in refused(dataset, tmp_path / "data")
    datafiles.write(tmp_path / "data", {"cifar-10-python.tar.gz": archive_with(files, type=kind, linkname="x")})
    assert load(dataset, tmp_path / "data", allow_unverified=True).train_images.shape == (40, 3, 4, 4)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_without_end_is_not_read_into_memory(tmp_path, kind):
    dataset = datafiles.tiny_cifar(tmp_path / "official", packed=True)
    odd = tarfile.TarInfo("x")
    odd.type, odd.size = kind, 2**40
    content = odd.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)
    datafiles.write(tmp_path / "data", {"cifar-10-python.tar.gz": datafiles.gzip.compress(content)})
    assert "a header of 1,099,511,627,776 bytes" in refused(dataset, tmp_path / "data")
