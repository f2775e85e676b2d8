"""BibTeX of what a board rests on: this project, the data sets and the sources of its figures and models."""

from collections.abc import Iterable, Mapping

from benchmarks.latex import escape
from benchmarks.papers import Paper

PROJECT = {  # as CITATION.cff has it; the commit and the day are those of the board
    "title": "{reprozoo: do the numbers in the papers hold?}",
    "author": "{The reprozoo contributors}",
    "year": "2026",
}
DATASETS: dict[
    str, tuple[str, str, dict[str, str]]
] = {  # data set -> key, entry, fields: written in BibTeX's own spelling
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
    """Return a source's entry. What BibTeX or LaTeX would take for a command is escaped; addresses are not: url and doi do."""
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
    """`Lin, Min` as it stands; braces round a name of one part, or with a word that BibTeX reads as a separator."""
    plain = escape(name)
    return plain if "," in name and " and " not in name else f"{{{plain}}}"


def project_entry(as_of: str) -> str:
    """Return this project's own entry; `as_of` is the board's commit and day."""
    return _entry("misc", "reprozoo", PROJECT | {"note": escape(as_of)} if as_of else dict(PROJECT))


def bibliography(datasets: Iterable[str], keys: Iterable[str], papers: Mapping[str, Paper], as_of: str = "") -> str:
    """Return the entries of this project, of the data sets, and of the sources sorted by key; ends with a newline."""
    sets = {key: (kind, fields) for key, kind, fields in (DATASETS[name] for name in datasets if name in DATASETS)}
    entries = [project_entry(as_of)]
    entries += [_entry(kind, key, fields) for key, (kind, fields) in sets.items()]
    entries += [paper_entry(papers[key]) for key in sorted(set(keys) & papers.keys())]
    return "\n\n".join(entries) + "\n"


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
