"""Commands about data sets: data prepare, data import, data status."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import UserError
from runner.commands.shared import DataDir, JsonOption, Unverified, make_console


def prepare(
    suite: Annotated[list[str], typer.Option("--suite", help="The data sets of this suite; may be repeated.")] = [],  # noqa: B006
    dataset: Annotated[list[str], typer.Option("--dataset", help="This data set; may be repeated.")] = [],  # noqa: B006
    data_dir: DataDir = None,
    allow_unverified_data: Unverified = False,
) -> None:
    """Download and check data sets before training, for example because compute nodes have no network.

    The same command continues after a stop. It uses the proxy in http_proxy, https_proxy and no_proxy.
    """
    from benchmarks.datasets import get_dataset
    from benchmarks.suites import get_suite
    from runner.data import download
    from runner.data.folder import data_folder

    names = [name for each in suite for name in get_suite(each).datasets] + [get_dataset(each).name for each in dataset]
    if not names:
        raise UserError("nothing to prepare: expected --suite S or --dataset D; both may be repeated")
    download.prepare(dict.fromkeys(names), data_folder(data_dir), allow_unverified_data)


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders, files or archives.", show_default=False)
    ],
    dataset: Annotated[list[str], typer.Option("--dataset", help="Only this data set; may be repeated.")] = [],  # noqa: B006
    link: Annotated[bool, typer.Option("--link", help="Make hard links instead of copies where possible.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Copy the official files out of folders and archives that you have, such as those of torchvision and keras.

    runner data import ~/.keras/datasets ~/Downloads/cifar-10-python.tar.gz
    """
    from benchmarks.datasets import get_dataset
    from runner.data import importing
    from runner.data.folder import data_folder

    only = [get_dataset(name) for name in dict.fromkeys(dataset)] or None
    if only and (embedded := [one.name for one in only if not one.files]):
        raise UserError(f"--dataset {embedded[0]}: it is part of scikit-learn and needs no import")
    importing.import_files(paths, data_folder(data_dir), link, datasets=only)


def status_(data_dir: DataDir = None, json_: JsonOption = False) -> None:
    """Show which data sets are present, complete or in part, and whether their files are the official ones."""
    from runner.data import status
    from runner.data.folder import data_folder

    report = status.status(data_folder(data_dir))
    if json_:
        print(json.dumps(report, indent=2))
        return
    status.show_status(report, make_console())
