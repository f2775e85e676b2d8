"""Commands about data sets: data prepare, data import, data status."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import UserError
from runner.commands.shared import DataDir, JsonOption, Unverified, make_console


def prepare(
    suite: Annotated[list[str], typer.Option("--suite", help="What this suite needs; may be repeated.")] = [],  # noqa: B006
    dataset: Annotated[list[str], typer.Option("--dataset", help="This data set; may be repeated.")] = [],  # noqa: B006
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
) -> None:
    """Download and check data sets ahead of time: compute nodes often have no network.

    The same command again goes on where it stopped. Behind a proxy: http_proxy, https_proxy and no_proxy count.
    """
    from benchmarks.datasets import get_dataset
    from benchmarks.suites import get_suite
    from runner.data import download
    from runner.data.folder import data_folder

    names = [name for each in suite for name in get_suite(each).datasets] + [get_dataset(each).name for each in dataset]
    if not names:
        raise UserError("say what to prepare: --suite S or --dataset D; both may be repeated")
    download.prepare(dict.fromkeys(names), data_folder(data_dir), allow_unverified_data)


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders, files or archives.", show_default=False)
    ],
    dataset: Annotated[list[str], typer.Option("--dataset", help="Only this data set; may be repeated.")] = [],  # noqa: B006
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies, where that is possible.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Take the official files out of what you have: torchvision's or keras's folder, archives, renamed files.

    runner data import ~/.keras/datasets ~/Downloads/cifar-10-python.tar.gz
    """
    from benchmarks.datasets import get_dataset
    from runner.data import importing
    from runner.data.folder import data_folder

    only = [get_dataset(name) for name in dict.fromkeys(dataset)] or None
    if only and (embedded := [one.name for one in only if not one.files]):
        raise UserError(f"--dataset {embedded[0]}: it comes with scikit-learn, there is nothing to import")
    importing.import_files(paths, data_folder(data_dir), link, datasets=only)


def status_(data_dir: DataDir = None, json_: JsonOption = False) -> None:
    """Which data sets are here, whole or in part, and whether their files are the official ones."""
    from runner.data import status
    from runner.data.folder import data_folder

    report = status.status(data_folder(data_dir))
    if json_:
        print(json.dumps(report, indent=2))
        return
    status.show_status(report, make_console())
