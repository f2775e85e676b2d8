"""BibTeX and LaTeX output: escaped, complete, and compiled if LaTeX is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import bibliography
from benchmarks.bibliography import bibliography as make
from benchmarks.bibliography import paper_entry
from benchmarks.datasets import DATASETS
from benchmarks.latex import escape, table
from benchmarks.papers import Paper, load_papers

ALL = ("digits", "mnist", "svhn", "cifar10", "cifar100")


def parse(text: str) -> dict[str, dict[str, str]]:
    """Return the entries of a BibTeX file by key: an independent parser that counts braces like BibTeX."""
    entries = {}
    position = 0
    while (match := re.compile(r"@(\w+)\{([^,\s]+),").search(text, position)) is not None:
        fields: dict[str, str] = {"entry": match[1]}
        position = match.end()
        while (field := re.compile(r"\s*(\w+) = \{").match(text, position)) is not None:
            depth, start = 1, field.end()
            position = start
            while depth:
                step = 2 if text[position] == "\\" else 1
                depth += (text[position] == "{") - (text[position] == "}")
                position += step
            fields[field[1]] = text[start : position - 1]
            assert text[position] == ","
            position += 1
        assert re.compile(r"\s*\}").match(text, position), text[position : position + 40]
        assert match[2] not in entries
        entries[match[2]] = fields
    return entries


def test_every_source_and_data_set_has_an_entry_that_a_parser_reads() -> None:
    papers = load_papers()
    entries = parse(make(ALL, papers, papers, "As of commit abc, newest record 2026-05-01."))
    assert entries.keys() >= papers.keys() | {
        "reprozoo",
        "lecun1998mnist",
        "krizhevsky2009",
        "netzer2011",
        "alpaydin1998",
    }
    for key, fields in entries.items():
        assert {"title", "author", "year"} <= fields.keys(), key
        for name, value in fields.items():
            if name not in ("url", "doi", "eprint"):
                assert not re.search(r"(?<!\\)[%&#_$]", value), f"{key}: {name}: {value}"


def test_every_data_set_is_cited() -> None:
    assert bibliography.DATASETS.keys() == DATASETS.keys()
    assert parse(make(["cifar10", "cifar100"], [], {})).keys() == {"reprozoo", "krizhevsky2009"}


def test_characters_that_are_latex_commands_are_escaped() -> None:
    entry = paper_entry(load_papers()["zagoruyko2015"])
    assert r"title = {{92.45\% on CIFAR-10 in Torch}}," in entry
    assert "url = {http://torch.ch/blog/2015/07/30/cifar.html}," in entry
    assert (
        escape(r"50 % & more_{x} #1 $y^2~\z")
        == r"50 \% \& more\_\{x\} \#1 \$y\textasciicircum{}2\textasciitilde{}\textbackslash{}z"
    )


def test_names_of_one_part_and_sources_without_a_year_have_complete_entries() -> None:
    entry = parse(paper_entry(load_papers()["dagleaves"]))["dagleaves"]
    assert (entry["author"], entry["year"]) == ("{dagleaves}", "n.d.")
    nin = parse(paper_entry(load_papers()["lin2013"]))["lin2013"]
    assert (nin["entry"], nin["title"], nin["year"], nin["eprint"]) == (
        "article",
        "{Network In Network}",
        "2013",
        "1312.4400",
    )
    assert nin["author"] == "Lin, Min and Chen, Qiang and Yan, Shuicheng"


def test_the_projects_own_entry_matches_the_citation_file(checkout: Path) -> None:
    citation = (checkout / "CITATION.cff").read_text(encoding="utf-8")
    entry = parse(make([], [], {}, "As of commit abc, newest record 2026-05-01."))["reprozoo"]
    assert entry["title"].strip("{}") in citation
    assert entry["author"].strip("{}") in citation
    assert f'date-released: "{entry["year"]}' in citation
    assert entry["note"] == "As of commit abc, newest record 2026-05-01."


def test_a_table_has_booktabs_rules_and_as_many_cells_as_headings() -> None:
    text = table(["Model", "Error"], [["A & B", "10.52 ± 0.17"]], "lr", "50 % of it", "tab:x")
    assert r"\begin{tabular}{lr}" in text
    assert [line.strip() for line in text.splitlines() if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"A \& B & 10.52 $\pm$ 0.17 \\" in text
    with pytest.raises(ValueError, match="1 columns for 2 headings"):
        table(["a", "b"], [], "l", "", "x")


@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no LaTeX here")
def test_latex_and_bibtex_compile_what_we_write(tmp_path: Path) -> None:
    papers: dict[str, Paper] = load_papers()
    (tmp_path / "refs.bib").write_text(make(ALL, papers, papers, "As of commit abc+, 50 % newest."), encoding="utf-8")
    rows = [[paper.title, paper.key] for paper in papers.values()]
    rows += [[figure.label, paper.key] for paper in papers.values() for figure in paper.reported]
    rows += [["[option] after a row", "*"], ["* after a row", "]"]]
    body = "".join(
        table(["Title & more", "Key ±"], rows[start : start + 40], "ll", "All 100 % of them", f"tab:{start}")
        for start in range(0, len(rows), 40)
    )
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\usepackage{url}\n\\begin{document}\n"
        f"\\nocite{{*}}\n{body}\\bibliographystyle{{plain}}\n\\bibliography{{refs}}\n\\end{{document}}\n",
        encoding="utf-8",
    )
    for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page"], ["bibtex", "page"]) * 2:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        if command[0] == "bibtex":
            assert "Warning" not in done.stdout, done.stdout
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
