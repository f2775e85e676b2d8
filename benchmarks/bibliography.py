"""BibTeX entries for a board: this project, the data sets, and the sources of its figures and models."""

from collections.abc import Iterable, Mapping

from benchmarks.latex import escape
from benchmarks.papers import Paper

PROJECT = {  # the same as CITATION.cff; a board adds its commit and date
    "title": "{reprozoo: do the numbers in the papers hold?}",
    "author": "{The reprozoo contributors}",
    "year": "2026",
}
# Data set -> (key, entry type, fields). The fields are BibTeX already, so they are not escaped.
DATASETS: dict[str, tuple[str, str, dict[str, str]]] = {
    "digits": (
        "alpaydin1998",
        "misc",
        {
            "title": "{Optical Recognition of Handwritten Digits}",
            "author": "Alpaydin, E. and Kaynak, C.",
            "year": "1998",
            "howpublished": "UCI Machine Learning Repository",
            "doi": "10.24432/C50P49",
        },
    ),
    "mnist": (
        "lecun1998mnist",
        "article",
        {
            "title": "{Gradient-based learning applied to document recognition}",
            "author": r"LeCun, Yann and Bottou, L{\'e}on and Bengio, Yoshua and Haffner, Patrick",
            "year": "1998",
            "journal": "Proceedings of the IEEE",
            "volume": "86",
            "number": "11",
            "pages": "2278--2324",
            "doi": "10.1109/5.726791",
        },
    ),
    "svhn": (
        "netzer2011",
        "inproceedings",
        {
            "title": "{Reading Digits in Natural Images with Unsupervised Feature Learning}",
            "author": "Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew Y.",
            "year": "2011",
            "booktitle": "NIPS Workshop on Deep Learning and Unsupervised Feature Learning",
        },
    ),
}
_CIFAR = (
    "krizhevsky2009",
    "techreport",
    {
        "title": "{Learning Multiple Layers of Features from Tiny Images}",
        "author": "Krizhevsky, Alex",
        "year": "2009",
        "institution": "University of Toronto",
    },
)
DATASETS |= {"cifar10": _CIFAR, "cifar100": _CIFAR}
_VENUE = {"article": "journal", "inproceedings": "booktitle", "misc": "howpublished"}


def paper_entry(paper: Paper) -> str:
    """Return a source's BibTeX entry. All fields are escaped except url and doi, which BibTeX styles print verbatim."""
    fields = {
        "title": f"{{{escape(paper.title)}}}",  # the second pair of braces keeps the capitals
        "author": " and ".join(_author(name) for name in paper.authors),
        "year": "n.d." if paper.year == "unknown" else str(paper.year),
        _VENUE[paper.entry]: escape(paper.venue),
        "doi": paper.doi,
        "eprint": paper.arxiv,
        "archiveprefix": "arXiv" if paper.arxiv else None,
        "url": paper.url,
    }
    return _entry(paper.entry, paper.key, {name: value for name, value in fields.items() if value is not None})


def _author(name: str) -> str:
    """Return the escaped name, in braces unless it has the form `Lin, Min`.

    Braces keep BibTeX from splitting a one-part name, or a name that contains its separator " and ".
    """
    text = escape(name)
    return text if "," in name and " and " not in name else f"{{{text}}}"


def project_entry(as_of: str) -> str:
    """Return this project's own entry, with `as_of` (the board's commit and date) as its note."""
    return _entry("misc", "reprozoo", PROJECT | {"note": escape(as_of)} if as_of else dict(PROJECT))


def bibliography(datasets: Iterable[str], keys: Iterable[str], papers: Mapping[str, Paper], as_of: str = "") -> str:
    """Return a BibTeX file: this project, the named data sets, then the sources `keys`, sorted.

    Names without an entry are skipped.
    """
    sets = {key: (kind, fields) for key, kind, fields in (DATASETS[name] for name in datasets if name in DATASETS)}
    entries = [project_entry(as_of)]
    entries += [_entry(kind, key, fields) for key, (kind, fields) in sets.items()]
    entries += [paper_entry(papers[key]) for key in sorted(set(keys) & papers.keys())]
    return "\n\n".join(entries) + "\n"


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
