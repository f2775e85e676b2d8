"""What users already have, in the layouts of others, in archives and under other names; and what must not be taken."""

import gzip
import io
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import datafiles
import numpy as np
import pytest
from test_data import load, the_line

from benchmarks.datasets import Dataset
from runner.data import importing


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def mnist(tmp_path):
    """A small MNIST, and its eight official files by path: packed and unpacked."""
    dataset = datafiles.tiny_mnist(tmp_path / "official", packed=True)
    datafiles.tiny_mnist(tmp_path / "official")
    return dataset, snapshot(tmp_path / "official")


@pytest.fixture
def cifar(tmp_path):
    """A small CIFAR-10, and its official files by path: the archive and the batches."""
    dataset = datafiles.tiny_cifar(tmp_path / "official10", packed=True)
    datafiles.tiny_cifar(tmp_path / "official10")
    return dataset, snapshot(tmp_path / "official10")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but for the cache."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".reprozoo" not in path.parts[:-1])
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def bring(folder: Path, datasets: list[Dataset], *paths: Path, link: bool = False) -> list[str]:
    """What is said."""
    lines: list[str] = []
    importing.import_files(paths, folder, link, lines.append, datasets)
    return lines


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if path.endswith(".gz")}


def unpacked(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if not path.endswith(".gz")}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_torchvisions_folder(tmp_path, mnist, cifar):
    """Both forms lie there, and label names, which nobody needs: the packed files are enough."""
    there = mnist[1] | cifar[1] | {"cifar-10-batches-py/batches.meta": b"names"}
    datafiles.write(tmp_path / "torch", there)
    lines = bring(tmp_path / "data", [mnist[0], cifar[0]], tmp_path / "torch")
    assert snapshot(tmp_path / "data") == packed(there)
    assert f"{tmp_path / 'torch'}: 1 other file skipped" in lines
    for dataset, _ in (mnist, cifar):
        assert load(dataset, tmp_path / "data").facts.verified


def test_the_unpacked_folder_alone(tmp_path, cifar):
    datafiles.write(tmp_path / "keras" / "datasets", unpacked(cifar[1]))
    lines = bring(tmp_path / "data", [cifar[0]], tmp_path / "keras")
    assert snapshot(tmp_path / "data") == unpacked(cifar[1])
    assert lines[-1] == f"tiny: all files are present, in {tmp_path / 'data'}"


def test_kerass_mnist_becomes_the_official_files(tmp_path, mnist):
    """Pixels and labels as keras saves them; what is written has the official md5, byte by byte."""
    official = unpacked(mnist[1])
    arrays = {}
    for key, split in (("train", "train"), ("test", "t10k")):
        arrays[f"x_{key}"] = np.frombuffer(official[f"MNIST/raw/{split}-images-idx3-ubyte"][16:], np.uint8).reshape(
            -1, 6, 5
        )
        arrays[f"y_{key}"] = np.frombuffer(official[f"MNIST/raw/{split}-labels-idx1-ubyte"][8:], np.uint8)
    for save in (np.savez, np.savez_compressed):
        folder = tmp_path / save.__name__
        save(tmp_path / "mnist.npz", **arrays)
        lines = bring(folder, [mnist[0]], tmp_path / "mnist.npz")
        assert snapshot(folder) == official
        assert any(line.endswith(f"extracted from {tmp_path / 'mnist.npz'} (x_train.npy)") for line in lines)
    arrays["x_test"] = 255 - arrays["x_test"]
    np.savez(tmp_path / "mnist.npz", **arrays)
    lines = bring(tmp_path / "other", [mnist[0]], tmp_path / "mnist.npz")
    assert len(snapshot(tmp_path / "other")) == 3
    assert lines[-1].startswith("tiny: still missing: t10k-images-idx3-ubyte.gz")


def test_files_under_any_name_and_swapped_ones(tmp_path, mnist):
    """Train and test in each other's place, and one without a meaning: the bytes say what they are."""
    files = packed(mnist[1])
    paths = list(files)
    there = dict(zip(["a (1).bin", paths[0], paths[1], "b"], files.values(), strict=True))
    datafiles.write(tmp_path / "mess", there)
    lines = bring(tmp_path / "data", [mnist[0]], tmp_path / "mess")
    assert snapshot(tmp_path / "data") == files
    assert any(line.endswith(f"copied from {tmp_path / 'mess' / 'a (1).bin'}") for line in lines)


def test_an_archive_packed_by_someone_else(tmp_path, mnist, cifar):
    """Other bytes outside, the official ones inside: .gz, .tar.gz, .tar, .zip, a zip of the official packages."""
    one = next(iter(unpacked(mnist[1])))
    (tmp_path / "mine.gz").write_bytes(gzip.compress(mnist[1][one], compresslevel=1))
    bring(tmp_path / "a", [mnist[0]], tmp_path / "mine.gz")
    assert snapshot(tmp_path / "a") == {one: mnist[1][one]}
    batches = unpacked(cifar[1])
    moved = {f"some/where/{Path(path).name}.bin": content for path, content in batches.items()}
    archive = gzip.decompress(datafiles.tar_gz(moved | {"readme": b"hello"}))
    for name, content in {
        "x.tar.gz": gzip.compress(archive),
        "x.tar": archive,
        "x": archive,
        "x.zip": zipped(moved | {"readme": b"hello"}),
    }.items():
        (tmp_path / name).write_bytes(content)
        folder = tmp_path / f"from {name}"
        bring(folder, [cifar[0]], tmp_path / name)
        assert snapshot(folder) == batches
        assert load(cifar[0], folder).facts.verified
    (tmp_path / "all.zip").write_bytes(zipped(packed(mnist[1]) | packed(cifar[1])))
    bring(tmp_path / "b", [mnist[0], cifar[0]], tmp_path / "all.zip")
    assert snapshot(tmp_path / "b") == packed(mnist[1]) | packed(cifar[1])


def test_a_member_that_comes_twice_under_one_name(tmp_path, cifar):
    path, content = next(iter(unpacked(cifar[1]).items()))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in (b"an older one", content):
            member = tarfile.TarInfo("batch")
            member.size = len(each)
            archive.addfile(member, io.BytesIO(each))
    (tmp_path / "x.tar").write_bytes(buffer.getvalue())
    bring(tmp_path / "data", [cifar[0]], tmp_path / "x.tar")
    assert snapshot(tmp_path / "data") == {path: content}


def test_what_is_here_stays_and_what_is_not_official_moves_aside(tmp_path, mnist):
    files = packed(mnist[1])
    first, second = list(files)[:2]
    datafiles.write(tmp_path / "have", files)
    datafiles.write(tmp_path / "data", {first: files[first], second: b"another one"})
    before = (tmp_path / "data" / first).stat().st_mtime_ns
    lines = bring(tmp_path / "data", [mnist[0]], tmp_path / "have")
    assert snapshot(tmp_path / "data") == files | {f"{second}.unofficial": b"another one"}
    assert (tmp_path / "data" / first).stat().st_mtime_ns == before
    assert f"tiny: {Path(first).name} is already present" in lines
    again = bring(tmp_path / "data", [mnist[0]], tmp_path / "have")
    assert len([line for line in again if line.endswith("is already present")]) == 4
    bring(tmp_path / "data", [mnist[0]], tmp_path / "data")  # the folder itself: nothing to do


def test_links_instead_of_copies(tmp_path, cifar):
    path, content = next(iter(packed(cifar[1]).items()))
    datafiles.write(tmp_path, {"have": content})
    (tmp_path / "symlink").symlink_to(tmp_path / "have")
    bring(tmp_path / "a", [cifar[0]], tmp_path / "have", link=True)
    bring(tmp_path / "b", [cifar[0]], tmp_path / "symlink", link=True)
    for folder in "ab":
        placed = tmp_path / folder / path
        assert placed.samefile(tmp_path / "have")
        assert not placed.is_symlink()
    bring(tmp_path / "c", [cifar[0]], tmp_path / "symlink")
    assert not (tmp_path / "c" / path).samefile(tmp_path / "have")


def test_three_files_that_are_not_unpacked(tmp_path):
    """As SVHN's are: each file by itself, and one whose size no source gives."""
    files = {f"{split}_32x32.mat": os.urandom(1000 + i) for i, split in enumerate(("train", "test", "extra"))}
    facts = tuple(
        datafiles.File(name, datafiles.md5(content), None if "extra" in name else len(content))
        for name, content in files.items()
    )
    dataset = Dataset("three", "Three", 10, (3, 32, 32), 10, 10, "cifar", facts)
    (tmp_path / "svhn.zip").write_bytes(zipped(files))
    bring(tmp_path / "data", [dataset], tmp_path / "svhn.zip")
    assert snapshot(tmp_path / "data") == files


# --- what is refused: one line, nothing written --------------------------------------------------------------------------


def raw_zip(name: str, content: bytes = b"x", mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, content)
    return buffer.getvalue()


def tar_of(**fields: Any) -> bytes:
    """One member of that kind; nothing follows a header that claims more."""
    member = tarfile.TarInfo(fields.pop("name", "x"))
    for name, value in fields.items():
        setattr(member, name, value)
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


BAD = {
    "no data file": (b"hello", "its md5 is 5d41402abc4b2a76b9719d911017c592"),
    "empty": (b"", "its md5 is d41d8cd98f00b204e9800998ecf8427e"),
    "a damaged gzip": (gzip.compress(os.urandom(5000))[:-100], "can't be read"),
    "a gzip of nothing known": (gzip.compress(b"hello"), "holds 1 file, none of them official"),
    "a tar that leaves its folder": (datafiles.tar_gz({"../../evil": b"x"}), "outside of its own folder"),
    "a tar with an absolute name": (datafiles.tar_gz({"/tmp/evil": b"x"}), "outside of its own folder"),
    "a zip that leaves its folder": (raw_zip("../../evil"), "outside of its own folder"),
    "a zip with an absolute name": (raw_zip("/tmp/evil"), "outside of its own folder"),
    "a damaged zip": (zipped({"a": bytes(99)})[:-30], "can't be read"),
    "a zip of a link": (raw_zip("link", b"/etc/passwd", 0o120777), "its md5 is"),
    "a tar of a link": (tar_of(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "its md5 is"),
    "a tar of a hard link": (tar_of(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "its md5 is"),
    "a tar of a device": (tar_of(type=tarfile.CHRTYPE, devmajor=1, devminor=5), "its md5 is"),
    "a tar with a header without end": (tar_of(type=tarfile.GNUTYPE_LONGNAME, size=2**40), "header of 1,099,511"),
    "a tar cut off": (tar_of(size=2**20), "can't be read (unexpected end of data)"),
    "a gzip bomb": (gzip.compress(bytes(2**25)), "more bytes than"),
    "a tar bomb": (datafiles.tar_gz({"a": bytes(2**25)}), "more bytes than"),
    "a zip bomb": (zipped({str(i): bytes(10**6) for i in range(9)}), "more bytes than"),
    "a zip of a giant": (zipped({"a": bytes(2**25)}), "its md5 is"),
    "an array of objects": (zipped({"x_train.npy": b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O'"}), "can't be read"),
    "no array": (zipped({"x_train.npy": b"hello"}), "can't be read"),
    "an array without end": (
        zipped({"y.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 75)
                + b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999,), }".ljust(74) + b"\n"}),
        "none of them official",
    ),
    "larger than any": (bytes(2**22), "more than any official file has"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_not_official_is_one_line_and_writes_nothing(tmp_path, mnist, what):
    content, says = BAD[what]
    (tmp_path / "in").mkdir()
    bad = tmp_path / "in" / "thing"
    bad.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    line = the_line(bring, tmp_path / "data", [mnist[0]], bad)
    assert says in line
    assert str(bad) in line
    line = the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "in")
    assert "none of 1 files" in line or says in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_locked_zip_is_one_line(tmp_path, mnist):
    content = bytearray(zipped({"a": b"secret"}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1  # the flag that says "encrypted"
    (tmp_path / "x.zip").write_bytes(content)
    assert "password" in the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "x.zip")


def test_damaged_files_with_official_names_are_named(tmp_path, mnist):
    """Truncated, changed by a bit: named with both md5 sums; the good ones are taken."""
    files = packed(mnist[1])
    first, second, third, _ = files
    bent = bytearray(files[second])
    bent[20] ^= 1
    there = files | {first: files[first][:-1], second: bytes(bent)}
    datafiles.write(tmp_path / "have", there)
    line = the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "have" / first)
    assert f"is not the official {Path(first).name} of Tiny" in line
    assert datafiles.md5(files[first]) in line
    assert line.endswith("--allow-unverified-data")
    lines = bring(tmp_path / "data", [mnist[0]], tmp_path / "have")
    assert len([line for line in lines if line.startswith("not imported: ")]) == 2
    assert set(snapshot(tmp_path / "data")) == set(files) - {first, second}
    assert f"still missing: {Path(first).name}, {Path(second).name}" in lines[-2]
    assert lines[-1] == importing.AS_THEY_ARE  # what to do with them, said once


def test_with_a_data_set_given_other_files_are_skipped(tmp_path, runner):
    (tmp_path / "x").write_bytes(b"hello")
    code, _, line = runner("data", "import", str(tmp_path / "x"), "--dataset", "mnist")
    assert code == 2
    assert "is not an official file of MNIST (its md5" in line
    code, _, line = runner("data", "import", str(tmp_path / "x"), "--dataset", "digits")
    assert (code, line) == (2, "runner: --dataset digits: it is part of scikit-learn and needs no import\n")


def test_one_bad_path_among_good_ones_stops_it_before_anything_is_written(tmp_path, mnist):
    datafiles.write(tmp_path / "have", mnist[1])
    line = the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "have", tmp_path / "nothing")
    assert line == f"{tmp_path / 'nothing'}: no such file or folder"
    assert not (tmp_path / "data").exists()


def test_no_plain_files(tmp_path, mnist, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    assert "neither a regular file" in the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "fifo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "link").symlink_to(tmp_path / "gone")
    assert "has no files" in the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "empty")
    monkeypatch.setattr(importing, "MAX_FILES", 3)
    assert "more than 3 files" in the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "official")


def test_too_little_space_is_reported_before_anything_is_written(tmp_path, mnist, monkeypatch):
    datafiles.write(tmp_path / "have", mnist[1])
    few = shutil._ntuple_diskusage(10**9, 10**9 - 5, 5)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: few)
    assert "5 bytes free" in the_line(bring, tmp_path / "data", [mnist[0]], tmp_path / "have")
    assert not (tmp_path / "data").exists()


def test_a_file_that_changes_meanwhile_is_not_placed(tmp_path, cifar, monkeypatch):
    path, content = next(iter(packed(cifar[1]).items()))
    datafiles.write(tmp_path, {"have": content})
    look = importing._inspect

    def look_and_change(source, *arguments):
        found = look(source, *arguments)
        source.write_bytes(b"something else")
        return found

    monkeypatch.setattr(importing, "_inspect", look_and_change)
    for link in (False, True):
        datafiles.write(tmp_path, {"have": content})
        assert "changed while it was read" in the_line(
            lambda link=link: bring(tmp_path / "data", [cifar[0]], tmp_path / "have", link=link)
        )
        assert not snapshot(tmp_path / "data")


def test_the_command(runner, tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    code, out, err = runner("data", "import", str(tmp_path / "x"))
    assert (code, out) == (2, "")
    assert err.startswith(f"runner: {tmp_path / 'x'} is not an official file of MNIST")


@pytest.mark.realdata
def test_real_mnist_comes_back_out_of_kerass_file(realdata, tmp_path):
    """Made here as keras makes it, from the real files; the official bytes come out of it."""
    if not (realdata / "MNIST/raw/train-images-idx3-ubyte").exists():
        pytest.skip("no unpacked MNIST in REPROZOO_DATA")
    found = load("mnist", realdata)
    np.savez_compressed(
        tmp_path / "mnist.npz",
        x_train=found.train_images[:, 0],
        y_train=found.train_labels.astype(np.uint8),
        x_test=found.test_images[:, 0],
        y_test=found.test_labels.astype(np.uint8),
    )
    importing.import_files([tmp_path / "mnist.npz"], tmp_path / "data", log=lambda _: None)
    assert load("mnist", tmp_path / "data").facts == found.facts
    assert found.facts.verified
