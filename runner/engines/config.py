"""Read engines.toml: the tables `[engine.NAME]` that configure `--engine NAME` on this site.

The file is at the root, or where the variable REPROZOO_ENGINES points. `inline`, `local` and `slurm` need no table.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from benchmarks.checkout import root
from benchmarks.errors import UserError, unknown

OURS = {"array", "error", "job-name", "open-mode", "output", "requeue", "signal", "wrap"}  # sbatch options we set


class _AnyEngine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    slots_per_gpu: Annotated[int, Field(ge=1, description="concurrent jobs on each GPU")] = 1
    on_other_device: Annotated[
        Literal["resume", "restart", "refuse"],
        Field(description="what `reference` does with a checkpoint from another GPU model; `fast` resumes"),
    ] = "refuse"


class Inline(_AnyEngine):
    """Run every job in the process of the submit."""

    kind: Literal["inline"] = "inline"


class Local(_AnyEngine):
    """Run one worker per slot of this machine."""

    kind: Literal["local"] = "local"


class Slurm(_AnyEngine):
    """Run an array of SLURM tasks. SLURM's own defaults apply to fields that are left out."""

    kind: Literal["slurm"] = "slurm"
    partition: str | None = None
    account: str | None = None
    gpus: Annotated[int, Field(ge=0, description="GPUs of each task")] = 0
    cpus: Annotated[int | None, Field(ge=1, description="cores of each task")] = None
    memory: Annotated[str | None, Field(pattern=r"^\d+[KMGT]?$", description="memory of each task, such as 16G")] = None
    walltime: Annotated[
        str | None, Field(description="walltime of each task: hours:minutes:seconds, days-hours, or minutes")
    ] = None
    tasks: Annotated[int, Field(ge=1, le=1000, description="the largest number of tasks per submit")] = 64
    setup: Annotated[
        tuple[str, ...], Field(strict=False, description="shell commands to run before the worker starts")
    ] = ()
    extra: Annotated[
        dict[str, str | int | bool], Field(description="further options of sbatch, without the dashes")
    ] = {}

    @field_validator("walltime")
    @classmethod
    def _walltime(cls, text: str | None) -> str | None:
        if text is not None:
            walltime_seconds(text)
        return text

    @field_validator("extra")
    @classmethod
    def _extra(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                raise ValueError(f"'{name}' is not a long option of sbatch, expected its name without dashes")
            if name in OURS:
                raise ValueError(f"'{name}' can't be set, because the runner sets it")
        return options


EngineSettings = Inline | Local | Slurm
KINDS: dict[str, type[Local] | type[Slurm]] = {"local": Local, "slurm": Slurm}
BUILT_IN: dict[str, EngineSettings] = {"inline": Inline(), "local": Local(), "slurm": Slurm()}


def walltime_seconds(text: str) -> int:
    """Return the seconds of a SLURM time: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:...].

    Raise ValueError for another form or less than a minute.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not match:
        raise ValueError("expected hours:minutes:seconds, days-hours, or minutes")
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None or match[4] is not None:  # hours first
        seconds = 86_400 * days + 3600 * first + 60 * second + third
    else:  # minutes first
        seconds = 60 * first + second
    if seconds < 60:
        raise ValueError("expected a minute or more")
    return seconds


def engines_file() -> Path:
    """Return the path of engines.toml: the variable REPROZOO_ENGINES, else engines.toml at the root."""
    variable = os.environ.get("REPROZOO_ENGINES")
    return Path(variable).expanduser().absolute() if variable else root() / "engines.toml"


def read_engines() -> dict[str, EngineSettings]:
    """Return every engine by its name: the built-in ones and those of the file.

    Raise UserError that names file, table and field of the first error.
    """
    path = engines_file()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get("REPROZOO_ENGINES"):
            raise UserError(f"REPROZOO_ENGINES names {path}, which does not exist: correct or unset it") from None
        return dict(BUILT_IN)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # not TOML or UTF-8, or thousands of nested brackets
        raise UserError(f"{path}: is not valid TOML: {error}") from error
    unknown_keys = sorted(set(content) - {"engine"})
    if unknown_keys or not isinstance(content.get("engine", {}), dict):
        raise UserError(
            f"{path}: '{unknown_keys[0] if unknown_keys else 'engine'}': expected tables [engine.NAME] only"
        )
    return BUILT_IN | {name: _read(path, name, table) for name, table in content.get("engine", {}).items()}


def _read(path: Path, name: str, table: object) -> EngineSettings:
    where = f"{path}: [engine.{name}]"
    if not isinstance(table, dict):
        raise UserError(f"{where}: expected a table, got {table!r}")
    if name == "inline":
        raise UserError(
            f"{where}: 'inline' has no settings, because it runs in the submitting process: choose another name"
        )
    kind = table.get("kind", name if name in KINDS else None)
    if kind is None:
        raise UserError(f"{where}: the field 'kind' is missing, expected one of {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS or (name in KINDS and kind != name):
        expected = f"'{name}'" if name in KINDS else f"one of {', '.join(KINDS)}"
        raise UserError(f"{where}: kind is {kind!r}, expected {expected}")
    model = KINDS[kind]
    for field in table:
        if field not in model.model_fields:
            problem = unknown(f"field of an engine of kind '{kind}'", str(field), model.model_fields)
            raise UserError(f"{where}: {problem}")
    try:
        return model.model_validate({**table, "kind": kind})
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        field = str(item["loc"][0])
        description = model.model_fields[field].description
        says = item["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{where}: {field} is {table.get(field)!r}: {says}" + (f" ({description})" if description else "")
        ) from error


def engine_named(name: str) -> EngineSettings:
    """Return the engine of this name; raise UserError that names the nearest one if it is unknown."""
    engines = read_engines()
    if name not in engines:
        raise unknown("engine", name, engines)
    return engines[name]
