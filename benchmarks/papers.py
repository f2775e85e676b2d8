"""What the sources printed: one TOML file a source, `papers/<key>.toml`, with [[reported]] rows and [[claim]] rows.

An error stands there as a plain number with the digits that were printed (`error = 9.50`): tomllib hands it over as a
Decimal, so the last printed digit is the number's own and can't disagree with it. What others got when they tried for a
source's figures stands in `attempts/<key>.toml`, with [[attempt]] rows. Loading fails loudly and names every problem at
once, each with file, row and field.
"""

import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from benchmarks import records
from benchmarks.errors import UserError
from benchmarks.records import Name, problems_of

FOLDER = Path(__file__).parent / "papers"
ATTEMPTS = Path(__file__).parent / "attempts"

Text = Annotated[str, Field(min_length=1)]
Kind = Literal["target", "context"]
Statistic = Literal["single", "mean", "median", "best"]
ClaimKind = Literal["less", "equal"]
SpreadKind = Literal["standard deviation", "standard error"]


class PaperError(UserError):
    """Sources that can't be read: one line a problem, each with file, row and field."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReportedProtocol(_Frozen):
    """How the source measured. None where it doesn't say."""

    augmentation: Text | None = None  # "none", or what was done to training images, in words
    training_images: Annotated[int, Field(ge=1)] | None = None
    evaluation: Literal["test", "validation"] = "test"
    networks: Annotated[int, Field(ge=1)] = 1  # more: their predictions were averaged
    views: Annotated[int, Field(ge=1)] = 1  # more: predictions on so many crops of each test image were averaged
    epoch: Literal["last", "best"] | None = None  # best: chosen by the error that is reported
    runs: Annotated[int, Field(ge=1)] | None = None  # behind the figure
    statistic: Statistic | None = None  # of those runs
    selection: Text | None = None  # how the figure was picked, where that isn't plain: "one of 4 rates"
    spread: Annotated[float, Field(ge=0)] | None = None  # over the runs, as printed after "+-": percentage points
    spread_kind: SpreadKind | None = None  # what that is, where the source says it

    @model_validator(mode="after")
    def _fits_together(self) -> "ReportedProtocol":
        if self.runs is None and self.statistic in ("mean", "median"):
            raise ValueError(f"statistic is '{self.statistic}', but runs is missing: of how many?")
        if (self.runs or 1) > 1 and self.statistic in (None, "single"):
            raise ValueError(f"runs is {self.runs}, so statistic must be 'mean', 'median' or 'best'")
        if self.spread is not None and (self.runs or 1) < 2:
            raise ValueError("spread needs runs, 2 or more: over how many is it?")
        if self.spread_kind is not None and self.spread is None:
            raise ValueError("spread_kind is set, but spread is missing")
        return self


class ReportedError(_Frozen):
    """One printed test error, with its place and protocol."""

    dataset: Name
    label: Text  # as printed
    model: Name | None = None  # the zoo's name; None for what the zoo hasn't: shown as published only
    printed: Annotated[Decimal, Field(alias="error", ge=0, le=100)]  # percent
    where: Text  # "Table 1", "Section 4.2"
    kind: Kind = "context"
    protocol: ReportedProtocol = ReportedProtocol()
    secondary: Text | None = None  # where the number was read, if not in the source itself: not confirmed there
    note: Text | None = None

    @property
    def error(self) -> float:
        """Percent."""
        return float(self.printed)

    @property
    def last_digit(self) -> float:
        """What one step of the last printed digit is worth, in percentage points: 0.01 for 10.41."""
        return float(Decimal(1).scaleb(int(self.printed.as_tuple().exponent)))


class Attempt(_Frozen):
    """What somebody else got when trying for a figure of a source, in whatever way."""

    dataset: Name
    reported: Annotated[Decimal, Field(ge=0, le=100)]  # the figure tried for, with its printed digits: percent
    who: Text
    error: Annotated[Decimal, Field(ge=0, le=100)] | None = None  # percent; None where only words are given
    remark: Text | None = None


class Claim(_Frozen):
    """What the source asserts of two models' errors, which stand in [[reported]] rows of the same file.

    `less`: `better` has a lower error than `worse`; with `share`, lower by more than that percentage of it.
    `equal`: the one is as good as the other.
    """

    id: Name
    dataset: Name
    better: Name
    worse: Name
    kind: ClaimKind = "less"
    share: Annotated[float, Field(gt=0, lt=100)] | None = None  # percent of the error of `worse`
    text: Text
    where: Text

    @model_validator(mode="after")
    def _share_is_of_a_difference(self) -> "Claim":
        if self.kind == "equal" and self.share is not None:
            raise ValueError("share belongs to a claim of kind 'less'")
        return self


class Paper(_Frozen):
    """One source: the citation and what it reports."""

    key: Name  # the file's name
    title: Text
    authors: Annotated[tuple[Text, ...], Field(min_length=1)]  # "Lin, Min"
    year: Annotated[int, Field(ge=1950, le=2100)] | Literal["unknown"]  # a repository may not say
    entry: Literal["article", "inproceedings", "misc"] = "misc"  # the BibTeX entry type
    venue: Text
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$")] | None = None
    doi: Annotated[str, Field(pattern=r"^10\.\S+$")] | None = None
    read: Text  # which text the numbers were read from
    note: Text | None = None
    reported: tuple[ReportedError, ...] = ()
    claims: tuple[Claim, ...] = ()

    def figure(self, dataset: str, model: str) -> ReportedError | None:
        """What this source prints for a model, its target first; None where it prints nothing."""
        rows = [row for row in self.reported if (row.dataset, row.model) == (dataset, model)]
        return min(rows, key=lambda row: row.kind != "target", default=None)

    @property
    def bibtex(self) -> str:
        """The citation, made from the fields above."""
        venue_field = {"article": "journal", "inproceedings": "booktitle", "misc": "howpublished"}[self.entry]
        fields = {
            "title": f"{{{self.title}}}",  # the second pair of braces keeps the capitals
            "author": " and ".join(self.authors),
            "year": None if self.year == "unknown" else self.year,
            venue_field: self.venue,
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else None,
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value is not None]
        return "\n".join([f"@{self.entry}{{{self.key},", *lines, "}"])


def load_papers(folder: Path = FOLDER) -> dict[str, Paper]:
    """Every source by key, sorted; raises PaperError with a line for each problem of all files."""
    if not folder.is_dir():
        raise PaperError(f"{folder}: no such folder; it should hold one TOML file a source")
    papers, problems = {}, []
    for path in sorted(folder.glob("*.toml")):
        paper, found = _load(path)
        problems += [f"{path}: {problem}" for problem in found]
        if paper is not None:
            papers[paper.key] = paper
    problems += [f"{folder}: {problem}" for problem in _doubled_targets(papers.values())]
    if problems:
        raise PaperError("\n".join(problems))
    return papers


def load_attempts(folder: Path = ATTEMPTS) -> dict[str, tuple[Attempt, ...]]:
    """Others' attempts by the key of the source whose figures they tried for; raises PaperError for every problem at once."""
    attempts, problems = {}, []
    for path in sorted(folder.glob("*.toml")):
        found: list[str] = []
        try:
            data = _tables(path)
        except PaperError as error:
            found.append(str(error))
        else:
            attempts[path.stem] = _rows("attempt", Attempt, data.pop("attempt", []), found)
            found += [f"{name}: only [[attempt]] rows stand here" for name in sorted(data)]
        problems += [f"{path}: {problem}" for problem in found]
    if problems:
        raise PaperError("\n".join(problems))
    return attempts


def _tables(path: Path) -> dict[str, Any]:
    """What a file holds, its numbers with the digits that stand there; raises PaperError, which leaves the file to name."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not TOML, brackets nested by the thousand
        raise PaperError(f"can't be read as TOML: {error}") from error


Row = TypeVar("Row", bound=_Frozen)


def _load(path: Path) -> tuple[Paper | None, list[str]]:
    """One file's source, or what is wrong with it."""
    try:
        data = _tables(path)
    except PaperError as error:
        return None, [str(error)]
    problems: list[str] = []
    raw = data.pop("reported", [])
    reported = _rows("reported", ReportedError, raw, problems)
    claims = _rows("claim", Claim, data.pop("claim", []), problems)
    if "claims" in data:  # the field's name in Python, not in the file
        problems.append("claims: each claim stands under [[claim]]")
        del data["claims"]
    head = {"key": path.stem, "reported": reported, "claims": claims}
    doubled = head.keys() & data.keys()
    problems += [f"{name}: is the file's name and can't be set" for name in sorted(doubled)]
    try:
        paper = Paper.model_validate(data | head)
    except ValidationError as error:
        return None, problems + problems_of(error)
    # From the rows as they stand: a row with a wrong figure still names its model.
    named = {(row.get("dataset"), row.get("model")) for row in raw if isinstance(row, dict)}
    return paper, problems + _claim_problems(claims, named)


def _rows(table: str, schema: type[Row], rows: Any, problems: list[str]) -> tuple[Row, ...]:
    """The valid rows of one table; the others' problems are added, each naming the row by number and label."""
    try:
        rows = TypeAdapter(list[dict[str, Any]]).validate_python(rows)
    except ValidationError:
        problems.append(f"{table}: rows stand under [[{table}]], with double brackets")
        return ()
    valid = []
    for number, row in enumerate(rows, start=1):
        try:
            valid.append(schema.model_validate(row))
        except ValidationError as error:
            problems += [f"{_row(table, number, row)}: {problem}" for problem in problems_of(error)]
    return tuple(valid)


def _row(table: str, number: int, row: Mapping[str, Any]) -> str:
    label = row.get("label") or row.get("id") or row.get("who")
    return f"{table} {number} ('{label}')" if label else f"{table} {number}"


def _claim_problems(claims: Iterable[Claim], reported: set[tuple[Any, Any]]) -> list[str]:
    problems, seen = [], set()
    for number, claim in enumerate(claims, start=1):
        row = _row("claim", number, claim.model_dump())
        if claim.id in seen:
            problems.append(f"{row}: id: another claim of this file has it")
        seen.add(claim.id)
        if claim.better == claim.worse:
            problems.append(f"{row}: worse: is the same model as better, '{claim.better}'")
        for side, model in (("better", claim.better), ("worse", claim.worse)):
            if (claim.dataset, model) not in reported:
                problems.append(f"{row}: {side}: no [[reported]] row has model '{model}' on {claim.dataset}")
    return problems


def _doubled_targets(papers: Iterable[Paper]) -> list[str]:
    """A model has at most one target on a data set, over all sources: there is one number it is judged by."""
    problems: list[str] = []
    first: dict[tuple[str, str], str] = {}
    for paper in papers:
        for number, row in enumerate(paper.reported, start=1):
            if row.kind != "target" or row.model is None:
                continue
            here = f"{paper.key}.toml: {_row('reported', number, row.model_dump())}"
            there = first.setdefault((row.dataset, row.model), here)
            if there is not here:
                problems.append(f"{here}: kind: {row.model} on {row.dataset} has a target already, {there}")
    return problems


def targets(papers: Mapping[str, Paper]) -> dict[tuple[str, str], tuple[Paper, ReportedError]]:
    """(data set, model) -> the one figure that the model is judged by there, and its source."""
    return {
        (row.dataset, row.model): (paper, row)
        for paper in papers.values()
        for row in paper.reported
        if row.kind == "target" and row.model is not None
    }


def differences(reported: ReportedProtocol, measured: records.Protocol) -> list[str]:
    """In what the two protocols differ, a clause each; what the source doesn't say counts as no difference."""
    found = []
    if reported.augmentation is not None and (reported.augmentation == "none") != (measured.augmentation == "none"):
        if measured.augmentation == "none":
            found.append(f"the paper augmented its training images ({reported.augmentation}), ours were not")
        else:
            found.append(f"our training images were augmented ({measured.augmentation}), the paper's were not")
    if reported.training_images not in (None, measured.training_images):
        found.append(f"the paper trained on {reported.training_images:,} images, ours on {measured.training_images:,}")
    if reported.evaluation != measured.evaluation:
        found.append(f"the paper's error is on {reported.evaluation} images, ours on {measured.evaluation} images")
    if reported.epoch == "best":
        found.append("the paper's error is that of its best epoch, ours of the last")
    if reported.networks != 1:
        found.append(f"the paper's error is of {reported.networks} networks together, ours of one")
    if reported.views != 1:
        found.append(f"the paper's error is of {reported.views} views of each image together, ours of one")
    return found


def unstated(reported: ReportedProtocol) -> list[str]:
    """What the source doesn't say, and a comparison has to take for granted."""
    missing = {"augmentation": "whether it augmented", "training_images": "how many images it trained on"}
    return [words for field, words in missing.items() if getattr(reported, field) is None]
