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

from benchmarks import records
from benchmarks.errors import UserError
from benchmarks.records import Name
from benchmarks.sanity import CLASSES, implausible, shown, unknown, wrong_fields

FOLDER = Path(__file__).parent / "papers"
ATTEMPTS = Path(__file__).parent / "attempts"


def _unquoted(value: Any) -> Any:
    """Refuse what isn't a number in TOML: pydantic would take "10.41" and true."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"is {shown(value)}, expected a number without quotes, such as 10.41")
    return value


def _known_dataset(name: str) -> str:
    if name not in CLASSES:
        raise ValueError(unknown("data set", name, CLASSES))
    return name


def _year(value: Any) -> Any:
    if value != "unknown" and (type(value) is not int or not 1950 <= value <= 2100):
        raise ValueError(f'is {shown(value)}, expected a year such as 2013, without quotes, or "unknown"')
    return value


Text = Annotated[str, Field(min_length=1)]
Dataset = Annotated[str, AfterValidator(_known_dataset)]
Percent = Annotated[Decimal, BeforeValidator(_unquoted), Field(ge=0, le=100)]  # with the digits that were printed
Points = Annotated[float, BeforeValidator(_unquoted)]
Year = Annotated[int | Literal["unknown"], BeforeValidator(_year)]
Count = Annotated[int, Field(ge=1, strict=True)]
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
    training_images: Count | None = None
    evaluation: Literal["test", "validation"] = "test"
    networks: Count = 1  # more: their predictions were averaged
    views: Count = 1  # more: predictions on so many crops of each test image were averaged
    epoch: Literal["last", "best"] | None = None  # best: chosen by the error that is reported
    runs: Count | None = None  # behind the figure
    statistic: Statistic | None = None  # of those runs
    selection: Text | None = None  # how the figure was picked, where that isn't plain: "one of 4 rates"
    spread: Annotated[Points, Field(ge=0)] | None = None  # over the runs, as printed after "+-": percentage points
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

    dataset: Dataset
    label: Text  # as printed
    model: Name | None = None  # the zoo's name; None for what the zoo hasn't: shown as published only
    printed: Annotated[Percent, Field(alias="error")]
    where: Text  # "Table 1", "Section 4.2"
    kind: Kind = "context"
    protocol: ReportedProtocol = ReportedProtocol()
    secondary: Text | None = None  # where the number was read, if not in the source itself: not confirmed there
    note: Text | None = None

    @model_validator(mode="after")
    def _error_is_one(self) -> "ReportedError":
        problem = implausible(self.dataset, self.printed)
        if problem:
            raise ValueError(f"error: {problem}")
        return self

    @property
    def error(self) -> float:
        """Percent."""
        return float(self.printed)

    @property
    def last_digit(self) -> float:
        """What one step of the last printed digit is worth, in percentage points: 0.01 for 10.41."""
        return float(Decimal(1).scaleb(int(self.printed.as_tuple().exponent)))


class Attempt(_Frozen):
    """What somebody else got when trying for a figure of a source, in whatever way. Percent."""

    dataset: Dataset
    reported: Percent  # the figure tried for, with its printed digits
    who: Text
    error: Percent | None = None  # None where only words are given
    error_to: Percent | None = None  # the upper end, where a range is given that begins at `error`
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
        """The error, or the middle of the range; None where only words are given."""
        if self.error is None:
            return None
        return float(self.error if self.error_to is None else (self.error + self.error_to) / 2)

    @property
    def printed(self) -> str | None:
        """The error with its digits, a range with both ends: "11.8 to 12"."""
        if self.error is None:
            return None
        return f"{self.error}" if self.error_to is None else f"{self.error} to {self.error_to}"


class Claim(_Frozen):
    """What the source asserts of two models' errors, which stand in [[reported]] rows of the same file.

    `less`: `better` has a lower error than `worse`; with `share`, lower by more than that percentage of it.
    `equal`: the one is as good as the other.
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
    """One source: the citation and what it reports."""

    key: Name  # the file's name
    title: Text
    authors: Annotated[tuple[Text, ...], Field(min_length=1)]  # "Lin, Min"
    year: Year  # "unknown": a repository may not say
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
        return None, problems + wrong_fields(error, Paper)
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
            problems += [f"{_row(table, number, row)}: {problem}" for problem in wrong_fields(error, schema)]
    return tuple(valid)


def _row(table: str, number: int, row: Mapping[str, Any]) -> str:
    label = " ".join(str(row.get("label") or row.get("id") or row.get("who") or "").split())
    return f"{table} {number} ('{label[:60]}')" if label else f"{table} {number}"


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


def unknown_names(papers: Mapping[str, Paper], models: Mapping[str, str | None]) -> list[str]:
    """Return a line for each model that a source names and the zoo hasn't, and for each source the other way round.

    `models` maps the zoo's names to the key of the source that each names, or None.
    """
    problems = []
    for paper in papers.values():
        sides: list[tuple[str, int, _Frozen, tuple[str, ...]]] = []
        sides += [("reported", number, row, ("model",)) for number, row in enumerate(paper.reported, start=1)]
        sides += [("claim", number, row, ("better", "worse")) for number, row in enumerate(paper.claims, start=1)]
        for table, number, row, fields in sides:
            here = f"benchmarks/papers/{paper.key}.toml: {_row(table, number, row.model_dump())}"
            names = {field: getattr(row, field) for field in fields}
            problems += [
                f"{here}: {field}: {unknown('model', name, models)}"
                for field, name in names.items()
                if name is not None and name not in models
            ]
    problems += [
        f"zoo/: model '{model}': paper: {unknown('source', key, papers)}"
        for model, key in models.items()
        if key is not None and key not in papers
    ]
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
