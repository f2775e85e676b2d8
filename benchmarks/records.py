"""The record of one ended run: its schema, and functions that save and load it.

Anyone may have written a record, so it is validated here and nothing in it is ever evaluated. Errors are percentages
(`10.41`), never fractions. A job's canonical JSON is its identity: `sha256sum job.json` prints the fingerprint.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from benchmarks.canonical import Json, canonical_json, sha256_of, with_overrides
from benchmarks.files import write_atomically

SCHEMA_VERSION: Literal[1] = 1
WHOLE_TRAININGS = ("finished", "collapsed")  # their time is that of a whole training; a diverged run stops early
CURVE_COLUMNS = ("epoch", "learning_rate", "train_loss", "train_error", "test_loss", "test_error")  # in curve.csv

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"  # safe as a file name and in a URL
Name = Annotated[str, Field(pattern=NAME)]
FieldName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
FieldPath = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){0,4}$")]  # of a recipe
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MAX_LETTERS = 1000
Text = Annotated[str, Field(max_length=MAX_LETTERS)]
LayersText = Annotated[str, Field(max_length=20_000)]  # a few words on each layer of a network
Submitter = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=1, le=10**6)]  # of threads, attempts, epochs
Amount = Annotated[int, Field(ge=0, le=10**12)]  # of images, parameters
Rate = Annotated[float, Field(ge=0, le=1e12)]
MAX_BYTES = 10**6  # of a record's file; real ones have 3,000


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Job(_Frozen):
    """One training run to do. `recipe` is the model's own; `overrides` are this job's changes to it.

    A field of a part has a dotted name, such as `optimizer.learning_rate`.
    """

    dataset: Name
    model: Name
    revision: Count
    recipe: dict[FieldName, Json]
    overrides: dict[FieldPath, Json] = {}
    profile: Literal["reference", "fast"] = "reference"
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    @field_validator("recipe", "overrides")
    @classmethod
    def _has_a_spelling(cls, value: dict[str, Json]) -> dict[str, Json]:
        """Raise ValueError for NaN and infinity, which JSON does not have: the job would have no fingerprint."""
        if value:
            canonical_json(value)
        return value

    def canonical(self) -> str:
        """Return the canonical JSON, which is the job's identity and the content of job.json."""
        return canonical_json(self.model_dump())

    @property
    def fingerprint(self) -> str:
        """The sha256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def recipe_sha256(self) -> str:
        """The sha256 of the recipe's canonical JSON without the overrides."""
        return sha256_of(self.recipe)

    @property
    def effective_recipe(self) -> dict[str, Json]:
        """The recipe with the overrides applied, as it is trained."""
        return with_overrides(self.recipe, self.overrides)

    @property
    def most_epochs(self) -> int | None:
        """The largest possible number of epochs (a schedule may end earlier); None if the recipe does not limit it."""
        recipe = self.effective_recipe
        second = recipe.get("second_stage")
        numbers = [recipe.get("epochs"), second.get("epochs") if isinstance(second, Mapping) else 0]
        whole = [number for number in numbers if isinstance(number, int)]
        return sum(whole) if len(whole) == len(numbers) else None

    @property
    def stem(self) -> str:
        """The last part of the key, such as `reference+learning_rate=0.25-seed0`."""
        changes = "".join(
            f"+{path.rpartition('.')[2]}={_readable(value)}" for path, value in sorted(self.overrides.items())
        )
        return f"{self.profile}{changes[:160]}-seed{self.seed}"

    @property
    def key(self) -> str:
        """The readable name, such as `cifar10/nin_dropout/reference-seed0`: a safe path, unique only with the fingerprint."""
        return f"{self.dataset}/{self.model}/{self.stem}"


def _readable(value: Json) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return re.sub(r"[^A-Za-z0-9_.,-]", "_", text.strip("[]"))


class Protocol(_Frozen):
    """How the error was measured, as far as a fair comparison needs it."""

    evaluation: Literal["test", "validation"]  # validation: the held-out images
    augmentation: Text  # of training images: "none", or such as "flip + translate 4"
    training_images: Annotated[Amount, Field(ge=1)]
    holdout: Amount = 0


class Environment(_Frozen):
    """Where the job ran. Versions are those that the libraries report, or null without the library."""

    device: Literal["cpu", "cuda"]
    hardware: Text  # the name of the processor or GPU
    platform: Text
    python: Text
    torch: Text
    cuda: Text | None = None
    cudnn: Text | None = None
    driver: Text | None = None
    threads: Count
    # All switches that may change rounding.
    precision: Annotated[dict[FieldName, bool | LayersText], Field(max_length=100)]

    @field_validator("precision")
    @classmethod
    def _is_short(cls, value: dict[str, bool | str]) -> dict[str, bool | str]:
        """Raise ValueError for a long text, except in `arithmetic`, which names the implementations of every layer."""
        for name, switch in value.items():
            if name != "arithmetic" and isinstance(switch, str) and len(switch) > MAX_LETTERS:
                raise ValueError(f"{name} has {len(switch):,} letters, expected at most {MAX_LETTERS:,}")
        return value


class Source(_Frozen):
    """Which code ran. It is for information only and never a reason to refuse a record."""

    commit: Text | None = None
    dirty: bool | None = None
    sha256: Sha256  # of the sources of benchmarks/, zoo/ and runner/


class TrailEntry(_Frozen):
    """Where, with which code and on which data some attempts of a run trained. Null: not recorded."""

    host: Text | None = None
    hardware: Text | None = None
    platform: Text | None = None
    torch: Text | None = None
    numpy: Text | None = None
    threads: Count | None = None
    commit: Text | None = None
    dirty: bool | None = None
    sources_sha256: Sha256 | None = None
    data_sha256: Sha256 | None = None
    submitted_by: Submitter | None = None


class DataFacts(_Frozen):
    """Which data: the sha256 of the parsed images and labels, and whether the files had the official md5."""

    sha256: Sha256
    verified: bool
    provenance: Text | None = None  # a sentence about the origin of unverified files


class RunRecord(_Frozen):
    """One ended run. `wrong` of `test_images` were misclassified after the last epoch; both are null if it diverged."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]  # random, so that two runs of one job have different names
    key: Text
    fingerprint: Sha256
    job: Job
    outcome: Literal["finished", "collapsed", "diverged"]
    diverged_epoch: Count | None = None
    wrong: Amount | None
    test_images: Annotated[Amount, Field(ge=1)] | None
    best_epoch: Count | None = None  # a diagnostic that counts nowhere, because it is chosen on the test set
    best_test_error: float | None = None
    final_train_loss: float | None = None
    # Of the best constant answer: the entropy of the training labels.
    chance_loss: Annotated[float, Field(gt=0)] | None = None
    protocol: Protocol
    parameters: Amount
    recipe_sha256: Sha256
    images_per_second: Rate  # training images per second of training, over all attempts
    train_seconds: Rate
    environment: Environment
    source: Source
    data: DataFacts
    started: AwareDatetime
    finished: AwareDatetime
    attempts: Count
    forced_resume: bool = False  # resumed with another torch build, device, thread count, precision, code or data
    sequential: bool = False  # added by `--until-decided`, because the seeds before it did not decide the verdict
    curve_sha256: Sha256
    weights_sha256: Sha256
    submitted_by: Submitter | None = None
    trail: Annotated[tuple[TrailEntry, ...], Field(max_length=1000)] = ()  # of all attempts in order, without repeats

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorators on properties
    @property
    def test_error(self) -> float | None:
        """The error in percent, computed from the two integers; null for `diverged`."""
        if self.wrong is None or self.test_images is None:
            return None
        return round(100 * self.wrong / self.test_images, 6)

    @property
    def run8(self) -> str:
        """The first 8 digits of the run id, which end the names of published files."""
        return self.run[:8]

    @property
    def file_stem(self) -> str:
        """The name of the published record without `.json`, such as `reference-seed0-1a2b3c4d`."""
        return f"{self.job.stem}-{self.run8}"

    @property
    def place(self) -> str:
        """The path of the published record below results/: `<dataset>/<model>/<file_stem>.json`."""
        return f"{self.job.dataset}/{self.job.model}/{self.file_stem}.json"

    @model_validator(mode="before")
    @classmethod
    def _check_test_error(cls, data: Any) -> Any:
        """Remove `test_error`, which is written for readers only. Raise ValueError if it is not wrong / test_images."""
        if isinstance(data, Mapping) and "test_error" in data:
            data = dict(data)
            stated, wrong, images = data.pop("test_error"), data.get("wrong"), data.get("test_images")
            whole = all(isinstance(count, int) and abs(count) <= 10**12 for count in (wrong, images)) and images > 0
            derived = round(100 * wrong / images, 6) if whole else None
            if stated != derived:
                raise ValueError(f"test_error is {stated}, but wrong / test_images gives {derived}")
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "RunRecord":
        if (self.wrong is None) != (self.test_images is None):
            raise ValueError("wrong and test_images must both be integers or both be null")
        if (self.outcome == "diverged") != (self.wrong is None):
            raise ValueError("wrong and test_images must be null if and only if the outcome is 'diverged'")
        if (self.outcome == "diverged") != (self.diverged_epoch is not None):
            raise ValueError("diverged_epoch must be set if and only if the outcome is 'diverged'")
        if self.wrong is not None and self.test_images is not None and self.wrong > self.test_images:
            raise ValueError(f"wrong ({self.wrong}) is more than test_images ({self.test_images})")
        if not all(1970 <= moment.year <= 2262 for moment in (self.started, self.finished)):
            raise ValueError("started and finished must be between the years 1970 and 2262")
        if self.finished < self.started:
            raise ValueError("finished is before started")
        return self


def record_json(record: RunRecord) -> str:
    """Return the text of a record file: indented JSON with sorted keys and a newline at the end."""
    data = record.model_dump(mode="json")
    for field in ("sequential", "chance_loss", "trail"):
        if not data[field]:
            del data[field]  # so that records written before these fields existed keep their bytes
    for stretch in data.get("trail", ()):
        if stretch["numpy"] is None:
            del stretch["numpy"]
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def save(record: RunRecord, path: Path) -> None:
    """Write a record to a file atomically."""
    write_atomically(path, record_json(record))


class RecordError(ValueError):
    """An invalid record: one line per problem, each with the file and the field."""


def load(path: Path) -> RunRecord:
    """Read one record. Raise RecordError, which names the file and every wrong field.

    The text is parsed once, by pydantic's parser, and then validated. 10,000 records take 0.9 s this way, and 1.8 s if the
    text is parsed first for its version and again for its fields.
    """
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise RecordError(f"{path}: has {len(content):,} bytes, expected at most {MAX_BYTES:,}")
        data = from_json(content)
    except RecordError:
        raise
    except (OSError, ValueError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise RecordError(f"{path}: can't be read as JSON: {error}") from error
    if isinstance(data, dict) and data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        version = data["schema_version"]
        raise RecordError(
            f"{path}: schema_version is {version!r}, expected {SCHEMA_VERSION}: update the checkout, or remove the file"
        )
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        raise RecordError("\n".join(f"{path}: {problem}" for problem in problems_of(error))) from error


def problems_of(error: ValidationError) -> list[str]:
    """Return one line for each problem of a pydantic error: `field.path: what is wrong (got ...)`."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "record"
        got = repr(item.get("input"))
        got = f" (got {got})" if len(got) <= 60 and item["type"] != "missing" else ""
        lines.append(f"{where}: {item['msg']}{got}")
    return lines


def utc(moment: datetime) -> str:
    """Return a UTC time as ISO 8601 with seconds and Z: `2026-11-21T09:30:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
