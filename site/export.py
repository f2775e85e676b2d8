"""Write the site as plain HTML for any web server, GitHub Pages or file://: `python site/export.py DIR`.

Every link is relative, so the folder works below any path. Previews of shared links and the page for wrong links need the
full address, which --base-url gives.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import render
import source
from pages import Site, pages_of
from plotly.offline import get_plotlyjs
from tables.common import datasets_of

from benchmarks.errors import UserError
from benchmarks.files import write_atomically
from benchmarks.labels import as_csv, as_json

MARK = "reprozoo.txt"  # marks an exported folder; a folder with other files is never overwritten


def main() -> int:
    """Write the folder and return the exit code. An error is printed as one line on stderr."""
    parser = argparse.ArgumentParser(prog="site/export.py", description=__doc__)
    parser.add_argument("folder", type=lambda text: Path(text).expanduser())
    parser.add_argument("--title", default="reprozoo", help="the name of the site")
    parser.add_argument(
        "--base-url", default="", help="the address where it will be published: https://OWNER.github.io/REPOSITORY/"
    )
    parser.add_argument(
        "--repository",
        default=os.environ.get("REPROZOO_REPOSITORY", ""),
        help="the address of the project's repository",
    )
    options = parser.parse_args()
    try:
        site = Site(options.title, address_of("--base-url", options.base_url), "")
        os.environ["REPROZOO_REPOSITORY"] = address_of("--repository", options.repository)
        pages = export(source.current(), options.folder, site)
    except UserError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"runner: {error.filename or options.folder}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(f"{pages} pages. Open: {options.folder / 'index.html'}")
    return 0


def address_of(option: str, text: str) -> str:
    """Return an http address without its trailing slash, or an empty text. Raise UserError for anything else."""
    if text and not source.is_address(text):
        raise UserError(f"{option} is '{text}', expected an address such as https://example.org/reprozoo")
    return text.rstrip("/")


def export(reading: source.Reading, folder: Path, site: Site | None = None) -> int:
    """Write every page into a folder and return the number of pages.

    Raise UserError unless the folder is new, empty or an earlier export.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UserError(f"{folder} has other files: choose a new or empty folder, or an earlier export")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, expected a folder")
    site = dataclasses.replace(site or Site(), repository=reading.repository or "")
    pages = dict(pages_of(reading, site))
    files = dict(pages)
    for dataset in datasets_of(reading.board):
        rows = reading.board[reading.board["dataset"] == dataset]
        files |= {f"{dataset}.csv": as_csv(rows), f"{dataset}.json": as_json(rows)}
    files |= {
        "plotly.min.js": get_plotlyjs(),
        "site.js": render.script(),
        "figures.js": (render.TEMPLATES / "figures.js").read_text(encoding="utf-8"),
        "style.css": "".join((render.TEMPLATES / n).read_text(encoding="utf-8") for n in ("style.css", "tables.css")),
        "icon.svg": (render.TEMPLATES.parent / "icon.svg").read_text(encoding="utf-8"),
        ".nojekyll": "",  # GitHub Pages serves the files as they are
    }
    write_atomically(folder / MARK, reading.as_of + "\n")
    for old in folder.glob("*.html"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        write_atomically(folder / name, text)
    return len(pages)


if __name__ == "__main__":
    sys.exit(main())
