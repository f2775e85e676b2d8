"""Read the printed figures: one file per source, `papers/<key>.toml`, with [[reported]] and [[claim]] rows.

An error is a number with its printed digits (`error = 9.50`). tomllib returns it as a Decimal, which keeps the last printed
digit. `attempts/<key>.toml` has the errors that others reached when they tried to reproduce a source's figures, in
[[attempt]] rows. A wrong file raises PaperError, which lists all problems with file, row and field.
"""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from benchmarks.errors import UserError
from benchmarks.records import Name
from benchmarks.sanity import CLASSES, as_toml, implausible, unknown_text, wrong_fields

FOLDER = Path(__file__).parent / "papers"
ATTEMPTS = Path(__file__).parent / "attempts"


def _unquoted(value: object) -> object:
    """Raise ValueError unless the TOML value is a number; pydantic would accept "10.41" and true."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"is {as_toml(value)}, expected a number without quotes, such as 10.41")
    return value


def _known_dataset(name: str) -> str:
    if name not in CLASSES:
        raise ValueError(unknown_text("data set", name, CLASSES))
    return name


def _year(value: object) -> object:
    if value != "unknown" and (type(value) is not int or not 1950 <= value <= 2100):
        raise ValueError(f'is {as_toml(value)}, expected a year such as 2013, without quotes, or "unknown"')
    return value


Text = Annotated[str, Field(min_length=1)]
Dataset = Annotated[str, AfterValidator(_known_dataset)]
Percent = Annotated[Decimal, BeforeValidator(_unquoted), Field(ge=0, le=100)]  # with its printed digits
Points = Annotated[float, BeforeValidator(_unquoted)]
Year = Annotated[int | Literal["unknown"], BeforeValidator(_year)]
Count = Annotated[int, Field(ge=1, strict=True)]
Kind = Literal["target", "context"]
Statistic = Literal["single", "mean", "median", "best"]
ClaimKind = Literal["less", "equal"]
SpreadKind = Literal["standard deviation", "standard error"]


class PaperError(UserError):
    """A wrong source file: one line per problem, each with file, row and field."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ReportedProtocol(_Frozen):
    """How the source measured its error. A field is None if the source does not say."""

    augmentation: Text | None = None  # "none", or what was done to training images, in words
    training_images: Count | None = None
    evaluation: Literal["test", "validation"] = "test"
    networks: Count = 1  # more than 1: their predictions were averaged
    views: Count = 1  # more than 1: the predictions on this many crops of each test image were averaged
    epoch: Literal["last", "best"] | None = None  # best: chosen by the reported error itself
    runs: Count | None = None  # the number of runs that the figure was computed from
    statistic: Statistic | None = None  # of those runs
    selection: Text | None = None  # how the figure was selected: "one of 4 rates"
    spread: Annotated[Points, Field(ge=0)] | None = None  # of the runs, as printed after "+-", in percentage points
    spread_kind: SpreadKind | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "ReportedProtocol":
        if self.runs is None and self.statistic in ("mean", "median"):
            raise ValueError(f"statistic is '{self.statistic}', but runs is missing: how many runs?")
        if (self.runs or 1) > 1 and self.statistic in (None, "single"):
            raise ValueError(f"runs is {self.runs}, so statistic must be 'mean', 'median' or 'best'")
        if self.spread is not None and (self.runs or 1) < 2:
            raise ValueError("spread needs runs, 2 or more")
        if self.spread_kind is not None and self.spread is None:
            raise ValueError("spread_kind is set, but spread is missing")
        return self


class ReportedError(_Frozen):
    """One printed test error, with its place in the source and its protocol."""

    dataset: Dataset
    label: Text  # as printed
    model: Name | None = None  # None if the zoo does not have it: the figure is then shown as published only
    printed: Annotated[Percent, Field(alias="error")]
    where: Text  # "Table 1", "Section 4.2"
    kind: Kind = "context"
    protocol: ReportedProtocol = ReportedProtocol()
    secondary: Text | None = None  # where the number was read, if it was not in the source itself
    note: Text | None = None

    @model_validator(mode="after")
    def _error_is_one(self) -> "ReportedError":
        problem = implausible(self.dataset, self.printed)
        if problem:
            raise ValueError(f"error: {problem}")
        return self

    @property
    def error(self) -> float:
        """The error in percent."""
        return float(self.printed)

    @property
    def last_digit(self) -> float:
        """One unit of the last printed digit, in percentage points: 0.01 for 10.41."""
        return float(Decimal(1).scaleb(int(self.printed.as_tuple().exponent)))


class Attempt(_Frozen):
    """The error (percent) that somebody else reached when trying to reproduce a figure of a source, with any method."""

    dataset: Dataset
    reported: Percent  # the source's figure, with its printed digits
    who: Text
    error: Percent | None = None  # None without a number
    error_to: Percent | None = None  # the upper end of a range that begins at `error`
    remark: Text | None = None

    @model_validator(mode="after")
    def _errors_are_some(self) -> "Attempt":
        for name in ("reported", "error", "error_to"):
            error = getattr(self, name)
            problem = None if error is None else implausible(self.dataset, error)
            if problem:
                raise ValueError(f"{name}: {problem}")
        if self.error_to is not None and (self.error is None or self.error >= self.error_to):
            raise ValueError(f"error_to: is {self.error_to}, expected more than error, where the range begins")
        return self

    @property
    def middle(self) -> float | None:
        """The error, or the middle of its range; None without a number."""
        if self.error is None:
            return None
        return float(self.error if self.error_to is None else (self.error + self.error_to) / 2)

    @property
    def printed(self) -> str | None:
        """The error as text with its printed digits, or a range such as "11.8 to 12"."""
        if self.error is None:
            return None
        return f"{self.error}" if self.error_to is None else f"{self.error} to {self.error_to}"


class Claim(_Frozen):
    """A claim of the source about the errors of two models, which both have [[reported]] rows in the same file.

    `less`: `better` has a lower error than `worse`. With `share` it is lower by more than that percentage of `worse`.
    `equal`: both have the same error.
    """

    id: Name
    dataset: Dataset
    better: Name
    worse: Name
    kind: ClaimKind = "less"
    share: Annotated[Points, Field(gt=0, lt=100)] | None = None  # percent of the error of `worse`
    text: Text
    where: Text

    @model_validator(mode="after")
    def _share_is_of_a_difference(self) -> "Claim":
        if self.kind == "equal" and self.share is not None:
            raise ValueError("share belongs to a claim of kind 'less'")
        return self


class Paper(_Frozen):
    """One source: its citation, its figures and its claims."""

    key: Name  # the file's name
    title: Text
    authors: Annotated[tuple[Text, ...], Field(min_length=1)]  # "Lin, Min"
    year: Year  # "unknown" if a repository does not say
    entry: Literal["article", "inproceedings", "misc"] = "misc"  # the BibTeX entry type
    venue: Text
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$")] | None = None
    doi: Annotated[str, Field(pattern=r"^10\.\S+$")] | None = None
    read: Text  # the edition or commit that the numbers were read from
    note: Text | None = None
    reported: tuple[ReportedError, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def cited(self) -> str:
        """The citation for a sentence, such as `Lin et al. 2013`."""
        surnames = [name.split(", ", 1)[0] for name in self.authors]
        who = " and ".join(surnames) if len(surnames) < 3 else f"{surnames[0]} et al."
        return who if self.year == "unknown" else f"{who} {self.year}"

    def figure(self, dataset: str, model: str) -> ReportedError | None:
        """Return this source's figure for a model, a target before context; None if it has none."""
        rows = [row for row in self.reported if (row.dataset, row.model) == (dataset, model)]
        return min(rows, key=lambda row: row.kind != "target", default=None)


def load_papers(folder: Path = FOLDER) -> dict[str, Paper]:
    """Return all sources by key, sorted. Raise PaperError with one line for each problem in any file."""
    if not folder.is_dir():
        raise PaperError(f"{folder}: no such folder; it should hold one TOML file per source")
    papers, problems = {}, []
    for path in sorted(folder.glob("*.toml")):
        paper, problems_in_file = _load(path)
        problems += [f"{path}: {problem}" for problem in problems_in_file]
        if paper is not None:
            papers[paper.key] = paper
    problems += [f"{folder}: {problem}" for problem in _doubled_targets(papers.values())]
    if problems:
        raise PaperError("\n".join(problems))
    return papers


def load_attempts(folder: Path = ATTEMPTS) -> dict[str, tuple[Attempt, ...]]:
    """Return others' attempts by the key of the source. Raise PaperError with one line for each problem in any file."""
    attempts, problems = {}, []
    for path in sorted(folder.glob("*.toml")):
        problems_in_file: list[str] = []
        try:
            data = _tables(_text(path))
        except PaperError as error:
            problems_in_file.append(str(error))
        else:
            attempts[path.stem] = _rows("attempt", Attempt, data.pop("attempt", []), problems_in_file)
            problems_in_file += [f"{name}: this file may hold [[attempt]] rows only" for name in sorted(data)]
        problems += [f"{path}: {problem}" for problem in problems_in_file]
    if problems:
        raise PaperError("\n".join(problems))
    return attempts


def _text(path: Path) -> str:
    """Return the text of a file. Raises PaperError, whose message does not name the file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8
        raise PaperError(f"can't be read as TOML: {error}") from error


def _tables(text: str) -> dict[str, Any]:
    """Return the content of a TOML file, floats as Decimal. Raises PaperError, whose message does not name the file."""
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:  # not TOML, or nested too deeply
        raise PaperError(f"can't be read as TOML: {error}") from error


Row = TypeVar("Row", bound=_Frozen)


def _load(path: Path) -> tuple[Paper | None, tuple[str, ...]]:
    """Return the source in a file (None if its head is wrong) and its problems."""
    try:
        return _parsed(path.stem, _text(path))
    except PaperError as error:
        return None, (str(error),)


@functools.lru_cache(maxsize=128)  # the site reads the same texts again whenever a record arrives
def _parsed(key: str, text: str) -> tuple[Paper | None, tuple[str, ...]]:
    """Return the source of that key in the text of its file (None if its head is wrong) and its problems."""
    data = _tables(text)
    problems: list[str] = []
    raw = data.pop("reported", [])
    reported = _rows("reported", ReportedError, raw, problems)
    claims = _rows("claim", Claim, data.pop("claim", []), problems)
    if "claims" in data:  # the field's name in Python, not in the file
        problems.append("claims: write each claim under [[claim]]")
        del data["claims"]
    head = {"key": key, "reported": reported, "claims": claims}
    doubled = head.keys() & data.keys()
    problems += [f"{name}: comes from the file's name and can't be set" for name in sorted(doubled)]
    try:
        paper = Paper.model_validate(data | head)
    except ValidationError as error:
        return None, (*problems, *wrong_fields(error, Paper))
    # From the unvalidated rows: a row with a wrong figure still names its model.
    models = {(row.get("dataset"), row.get("model")) for row in raw if isinstance(row, dict)}
    return paper, (*problems, *_claim_problems(claims, models))


def _rows(table: str, schema: type[Row], rows: object, problems: list[str]) -> tuple[Row, ...]:
    """Return the valid rows of a table. Problems of the other rows are appended to `problems`, with number and label."""
    try:
        tables = TypeAdapter(list[dict[str, Any]]).validate_python(rows)
    except ValidationError:
        problems.append(f"{table}: write each row under [[{table}]], with double brackets")
        return ()
    valid = []
    for number, row in enumerate(tables, start=1):
        try:
            valid.append(schema.model_validate(row))
        except ValidationError as error:
            problems += [f"{_row(table, number, row)}: {problem}" for problem in wrong_fields(error, schema)]
    return tuple(valid)


def _row(table: str, number: int, row: Mapping[str, Any]) -> str:
    label = " ".join(str(row.get("label") or row.get("id") or row.get("who") or "").split())
    return f"{table} {number} ('{label[:60]}')" if label else f"{table} {number}"


def _claim_problems(claims: Iterable[Claim], reported: set[tuple[Any, Any]]) -> list[str]:
    problems, ids = [], set()
    for number, claim in enumerate(claims, start=1):
        row = _row("claim", number, claim.model_dump())
        if claim.id in ids:
            problems.append(f"{row}: id: another claim of this file has the same")
        ids.add(claim.id)
        if claim.better == claim.worse:
            problems.append(f"{row}: worse: is '{claim.better}', the same model as better")
        for side, model in (("better", claim.better), ("worse", claim.worse)):
            if (claim.dataset, model) not in reported:
                problems.append(f"{row}: {side}: no [[reported]] row has model '{model}' on {claim.dataset}")
    return problems


def _doubled_targets(papers: Iterable[Paper]) -> list[str]:
    """Return a line for each second target of a model on a data set: every model is judged by one figure."""
    problems: list[str] = []
    first_names: dict[tuple[str, str], str] = {}
    for paper in papers:
        for number, row in enumerate(paper.reported, start=1):
            if row.kind != "target" or row.model is None:
                continue
            row_name = f"{paper.key}.toml: {_row('reported', number, row.model_dump())}"
            first_name = first_names.setdefault((row.dataset, row.model), row_name)
            if first_name is not row_name:
                problems.append(f"{row_name}: kind: {row.model} on {row.dataset} already has a target, {first_name}")
    return problems


def unknown_names(papers: Mapping[str, Paper], models: Mapping[str, str | None]) -> list[str]:
    """Return a line for each model of a source that the zoo does not have, and for each unknown source of a model.

    `models` maps the zoo's model names to the key of their source, or None.
    """
    problems = []
    for paper in papers.values():
        sides: list[tuple[str, int, _Frozen, tuple[str, ...]]] = []
        sides += [("reported", number, row, ("model",)) for number, row in enumerate(paper.reported, start=1)]
        sides += [("claim", number, row, ("better", "worse")) for number, row in enumerate(paper.claims, start=1)]
        for table, number, row, fields in sides:
            row_name = f"benchmarks/papers/{paper.key}.toml: {_row(table, number, row.model_dump())}"
            names = {field: getattr(row, field) for field in fields}
            problems += [
                f"{row_name}: {field}: {unknown_text('model', name, models)}"
                for field, name in names.items()
                if name is not None and name not in models
            ]
    problems += [
        f"zoo/: model '{model}': paper: {unknown_text('source', key, papers)}"
        for model, key in models.items()
        if key is not None and key not in papers
    ]
    return problems


def targets(papers: Mapping[str, Paper]) -> dict[tuple[str, str], tuple[Paper, ReportedError]]:
    """Return the figure that each (data set, model) is judged by, with its source."""
    return {
        (row.dataset, row.model): (paper, row)
        for paper in papers.values()
        for row in paper.reported
        if row.kind == "target" and row.model is not None
    }


def context_of(papers: Mapping[str, Paper]) -> dict[tuple[str, str], list[tuple[Paper, ReportedError]]]:
    """Return the context figures of each (data set, model), which are shown and never judged, with their sources."""
    figures: dict[tuple[str, str], list[tuple[Paper, ReportedError]]] = {}
    for paper in papers.values():
        for row in paper.reported:
            if row.kind == "context" and row.model is not None:
                figures.setdefault((row.dataset, row.model), []).append((paper, row))
    return figures
