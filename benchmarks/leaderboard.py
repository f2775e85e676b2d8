"""The read-model: what was measured set beside what was printed, as DataFrames. Site and report use no more.

evidence = read(results, runs)          every record, card and source, and what couldn't be read
board = make_board(evidence)            a row per (data set, model, profile, data status), and the published-only ones
default_view(board)                     a model's row with the most seeds
make_claims(board, evidence.papers)     what the papers assert, judged on the same rows
make_attempts(papers, attempts)         what others got when they tried for the same figures
make_equivalences(board)                whether `fast` gives the errors of `reference`
runs_of(...), curves(...)               the runs behind a row
"""

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.datasets import DATASETS, get_dataset
from benchmarks.papers import FOLDER, Attempt, Claim, Paper, ReportedError, differences, load_papers, targets, unstated
from benchmarks.records import (
    CURVE_COLUMNS,
    Name,
    Protocol,
    RecordError,
    RunRecord,
    Sha256,
    canonical_json,
    load,
    problems_of,
    record_files,
)
from benchmarks.verdicts import claim_verdict, equivalence, summarise, tolerance, verdict

PROFILES = ("reference", "fast")  # the order in which ties are settled
DATA = ("verified", "unverified")

RUN_COLUMNS = [
    "dataset",
    "model",
    "revision",
    "recipe_sha256",
    "profile",
    "data",  # verified | unverified
    "seed",
    "overrides",  # as canonical JSON: "{}" for the recipe itself
    "outcome",
    "test_error",  # percent; NaN for diverged
    "final_train_loss",
    "evaluation",
    "augmentation",
    "training_images",
    "holdout",
    "parameters",
    "train_seconds",
    "images_per_second",
    "hardware",
    "provenance",
    "commit",
    "dirty",
    "torch",
    "finished",
    "submitted_by",
    "run",
    "key",
    "fingerprint",
    "weights_sha256",
    "sequential",  # was added because earlier seeds didn't decide the verdict
    "forced",  # went on under another build, device or thread count
    "local",  # lies in .runs only
    "path",  # of the record
]

ROW_KEYS = (  # of `report --format json` and csv: stable
    "dataset",
    "model",  # null for published only
    "label",  # the model's title, or the label as printed
    "profile",
    "data",
    "n",  # finished
    "runs",  # finished + collapsed + diverged
    "trained",  # n / runs
    "mean",
    "sd",
    "reported",
    "gap",
    "verdict",
    "reason",
)
BOARD_COLUMNS = [
    *ROW_KEYS,
    "seeds_to_go",  # how many more would probably decide the verdict; 0: decided; NaN: no number that is looked at
    "error",  # what ranks the row: the mean, else the reported error
    "errors",  # of the finished runs, as a tuple
    "half_width",  # of the 95 % interval of the mean
    "prediction",  # half-width of the 95 % prediction interval for one new run
    "tolerance",
    "paper",  # the key of the source of `reported`, else the model's own
    "where",  # the place in it
    "printed",  # `reported` with the digits that were printed
    "printed_label",
    "note",
    "family",
    "augmentation",  # of training images, in words; null where it isn't known
    "parameters",
    "macs",  # multiply-accumulates of one image's forward pass
    "train_minutes",  # mean of the counted runs
    "hardware",  # every kind, as a tuple
    "local",  # whether any counted run isn't published
    "outdated",  # runs of another revision or recipe: not counted
    "sequential",  # whether the number of seeds was decided by looking at the results
    "dirty",  # whether the code of any counted run had uncommitted changes
    "forced",  # whether any counted run went on under another build, device or thread count
    "newest",  # when the last counted run ended (UTC)
    "provenance",  # what is said of unverified data
]

FLOAT_COLUMNS = (
    *("mean", "sd", "reported", "gap", "error", "trained"),
    *("half_width", "prediction", "tolerance", "seeds_to_go"),
)

CLAIM_COLUMNS = [
    "paper",
    "id",
    "dataset",
    "text",
    "where",
    "better",
    "worse",
    "profile",
    "data",
    "n_better",
    "n_worse",
    "difference",  # mean of worse - mean of better, percentage points: above 0 is the claimed side
    "low",
    "high",
    "reported_difference",
    "verdict",
    "reason",
]

ATTEMPT_COLUMNS = [
    "paper",
    "dataset",
    "model",  # the zoo's, whose figure was tried for; null for what it hasn't
    "label",  # of the figure, as printed
    "reported",
    "who",
    "error",  # NaN where only words are given
    "printed",  # `error` with its digits
    "gap",  # error - reported, percentage points
    "remark",
]

EQUIVALENCE_COLUMNS = [
    "dataset",
    "model",
    "label",
    "profile",  # which is set beside `reference`
    "data",
    "margin",  # percentage points
    "difference",  # mean under the profile - mean under `reference`
    "low",
    "high",
    "verdict",  # equivalent | different | not yet known
    "reason",
]


# --- cards ----------------------------------------------------------------------------------------------------------


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class CardAnatomy(_Card):
    """What a card says of a network taken apart: all there is of one never trained here, such as VGG's at 224x224."""

    parameters: int
    macs: int | None = None
    depth: int | None = None
    departures: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    stages: tuple[dict[str, Any], ...] = ()  # the layers as the paper's table groups them, its own values beside


class CardVariant(CardAnatomy):
    """What a card says of a model on a data set that it's trained on."""

    revision: Annotated[int, Field(ge=1)]
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    augmentation: str | None = None


class Card(_Card):
    """results/cards/<model>.json: the zoo's facts of a model, so that a reader needs no torch."""

    name: Name
    title: str
    family: str
    paper: Name | None = None
    suites: tuple[str, ...] = ()
    datasets: dict[Name, CardVariant]
    anatomy: dict[Name, CardAnatomy] = {}


def read_cards(folder: Path) -> tuple[dict[str, Card], list[str]]:
    """Every card by model, and a line for each problem."""
    cards, problems = {}, []
    for path in sorted(folder.glob("*.json")):
        try:
            card = Card.model_validate_json(path.read_bytes())
        except OSError as error:
            problems.append(f"{path}: can't be read: {error.strerror}")
        except ValidationError as error:
            problems += [f"{path}: {problem}" for problem in problems_of(error)]
        else:
            if card.name == path.stem:
                cards[card.name] = card
            else:
                problems.append(f"{path}: name: is '{card.name}', the file's name says '{path.stem}'")
    return cards, problems


def models_of_suite(cards: Mapping[str, Card], suite: str) -> set[str]:
    """The models whose cards name the suite."""
    return {card.name for card in cards.values() if suite in card.suites}


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """Everything that boards are made from. `problems` are lines about files that couldn't be read."""

    runs: pd.DataFrame  # RUN_COLUMNS and `standing`, one row a record
    cards: Mapping[str, Card] = field(default_factory=dict)
    papers: Mapping[str, Paper] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


Stamp = tuple[int, int]  # a file's time of change in ns, and its size
Known = dict[str, tuple[Stamp, tuple[Any, ...]]]  # rows of records by path, as `read` keeps them for the next reading


def files_of(results: Path, runs: Path | None = None, papers: Path = FOLDER) -> dict[str, Stamp]:
    """Every file that `read` takes, with its stamp: two equal answers mean that nothing has changed in between."""
    found = [*record_files(results), *results.glob("cards/*.json"), *papers.glob("*.toml")]
    stamps = {}
    for path in map(str, [*found, *_local_files(runs)]):
        with suppress(OSError):
            stamps[path] = _stamp(path)
    return stamps


def _stamp(path: str) -> Stamp:
    stat = os.stat(path)  # noqa: PTH116  # no Path for each of ten thousand
    return (stat.st_mtime_ns, stat.st_size)


def _local_files(runs: Path | None) -> list[Path]:
    return sorted(runs.glob("*/*/*/record.json")) if runs is not None else []


def read(results: Path, runs: Path | None = None, papers: Path = FOLDER, known: Known | None = None) -> Evidence:
    """Read the published records and cards of a results folder, a checkout's own runs (.runs) and the sources.

    A record that can't be read is a line in `problems` and hides no other. `known` is filled, and a record that stands in
    it and hasn't changed isn't read again: whoever reads often hands over the same one. Raises PaperError for a wrong
    source.
    """
    cards, problems = read_cards(results / "cards")
    known = {} if known is None else known
    rows = []
    for path, local in [(p, False) for p in record_files(results)] + [(p, True) for p in _local_files(runs)]:
        name = str(path)
        try:
            stamp = _stamp(name)
            if name not in known or known[name][0] != stamp:
                known[name] = (stamp, _row(load(path), name, local))
        except (RecordError, OSError) as error:
            known.pop(name, None)
            problems += str(error).splitlines()
        else:
            rows.append(known[name][1])
    return Evidence(_frame(rows, cards), cards, load_papers(papers), tuple(problems))


def frame_of(records: Iterable[tuple[RunRecord, Path, bool]], cards: Mapping[str, Card]) -> pd.DataFrame:
    """One row a record (record, path, whether it is local), with its `standing`: how a board takes it.

    A run that is both local and published is there once, as published.
    """
    return _frame([_row(record, str(path), local) for record, path, local in records], cards)


_RUN, _LOCAL = RUN_COLUMNS.index("run"), RUN_COLUMNS.index("local")


def _frame(rows: Iterable[tuple[Any, ...]], cards: Mapping[str, Card]) -> pd.DataFrame:
    once: dict[str, tuple[Any, ...]] = {}
    for row in sorted(rows, key=lambda row: row[_LOCAL]):
        once.setdefault(row[_RUN], row)
    frame = pd.DataFrame(list(once.values()), columns=RUN_COLUMNS)
    frame["test_error"] = frame["test_error"].astype(float)
    frame["finished"] = pd.to_datetime(frame["finished"], utc=True)
    frame = frame.sort_values(["dataset", "model", "profile", "seed", "local", "finished", "run"], ignore_index=True)
    frame["standing"] = _standing(frame, cards)
    return frame


def _row(record: RunRecord, path: str, local: bool) -> tuple[Any, ...]:
    """What boards need of a record, in the order of RUN_COLUMNS."""
    job, protocol, environment = record.job, record.protocol, record.environment
    return (
        job.dataset,
        job.model,
        job.revision,
        job.recipe_sha256,  # computed, not believed
        job.profile,
        DATA[not record.data.verified],
        job.seed,
        canonical_json(job.overrides),
        record.outcome,
        record.test_error,
        record.final_train_loss,
        protocol.evaluation,
        protocol.augmentation,
        protocol.training_images,
        protocol.holdout,
        record.parameters,
        record.train_seconds,
        record.images_per_second,
        environment.hardware,
        record.data.provenance,
        record.source.commit,
        record.source.dirty,
        environment.torch,
        record.finished,
        record.submitted_by,
        record.run,
        record.key,
        record.fingerprint,
        record.weights_sha256,
        record.sequential,
        record.forced_resume,
        local,
        path,
    )


def _standing(runs: pd.DataFrame, cards: Mapping[str, Card]) -> pd.Series:
    """For each run: counted, or why not: validation, overridden, outdated, duplicate."""
    standing = pd.Series("counted", index=runs.index, dtype=object)
    validation = runs["evaluation"] == "validation"
    overridden = runs["overrides"] != "{}"

    # The revision and recipe that count are the card's; without one, those of the newest revision's newest record.
    plain = runs[~validation & ~overridden]
    newest = (
        plain.sort_values(["revision", "finished"]).groupby(["dataset", "model"])[["revision", "recipe_sha256"]].last()
    )
    current = {pair: (row.revision, row.recipe_sha256) for pair, row in newest.iterrows()}
    current |= {(d, c.name): (v.revision, v.recipe_sha256) for c in cards.values() for d, v in c.datasets.items()}
    own = zip(runs["revision"], runs["recipe_sha256"], strict=True)
    pairs = zip(runs["dataset"], runs["model"], strict=True)
    outdated = pd.Series([mine != current.get(pair) for mine, pair in zip(own, pairs, strict=True)], index=runs.index)

    # Equal weights are one measurement, whoever sends them. Those that diverged are all NaN: equal whatever the seed.
    counted = runs[~validation & ~overridden & ~outdated.astype(bool)]
    identity = counted["weights_sha256"].where(
        counted["outcome"] != "diverged", counted["weights_sha256"] + counted["seed"].astype(str)
    )
    place = [counted[name] for name in ("dataset", "model", "profile", "data")]
    in_order = pd.concat([*place, identity.rename("identity")], axis=1).loc[counted.sort_values("local").index]
    duplicate = in_order.duplicated()

    standing[outdated.astype(bool)] = "outdated"
    standing[duplicate[duplicate].index] = "duplicate"
    standing[overridden] = "overridden"
    standing[validation] = "validation"
    return standing


# --- the board ------------------------------------------------------------------------------------------------------


def make_board(
    evidence: Evidence,
    datasets: Collection[str] | None = None,
    models: Collection[str] | None = None,
) -> pd.DataFrame:
    """BOARD_COLUMNS, ranked by error within each data set: measured rows, models not run yet, published-only rows.

    `datasets` and `models` narrow it to a suite's; published-only rows stay. Data sets that benchmarks/datasets.py
    doesn't hold are left out.
    """
    wanted = [name for name in DATASETS if datasets is None or name in datasets]
    goals = {pair: goal for pair, goal in targets(evidence.papers).items() if pair[0] in wanted}

    def is_wanted(dataset: str, model: str) -> bool:
        return dataset in wanted and (models is None or model in models)

    boarded = evidence.runs[evidence.runs["standing"].isin(["counted", "outdated"])]
    groups: dict[tuple[str, str, str | None, str | None], list[Run]] = {}
    # Plain rows from here on: a frame for each group costs seconds, and so does to_dict() with text kept by Arrow.
    values = [boarded[name].tolist() for name in _OF_A_RUN]
    for run in (dict(zip(_OF_A_RUN, row, strict=True)) for row in zip(*values, strict=True)):
        groups.setdefault((run["dataset"], run["model"], run["profile"], run["data"]), []).append(run)
    have_run = {(dataset, model) for dataset, model, *_ in groups}
    carded = {(dataset, card.name) for card in evidence.cards.values() for dataset in card.datasets}
    groups |= {(dataset, model, None, None): [] for dataset, model in (carded | goals.keys()) - have_run}

    rows = []
    for (dataset, model, profile, data), runs in groups.items():
        if is_wanted(dataset, model):
            facts = _facts(dataset, model, evidence.cards, goals)
            measured = _measured(runs, facts, goals.get((dataset, model), (None, None))[1])
            rows.append(facts | {"profile": profile, "data": data} | measured)
    for paper in evidence.papers.values():
        rows += [_published(paper, row) for row in paper.reported if row.model is None and row.dataset in wanted]

    board = pd.DataFrame(rows, columns=BOARD_COLUMNS)
    for column in FLOAT_COLUMNS:
        board[column] = board[column].astype(float)
    board["newest"] = pd.to_datetime(board["newest"], utc=True)
    order = {name: position for position, name in enumerate(DATASETS)}
    board["_order"] = board["dataset"].map(order)
    board = board.sort_values(["_order", "error", "label", "profile", "data"], na_position="last", ignore_index=True)
    return board.drop(columns="_order")


_OF_A_RUN = [  # what a board takes from a run: the rest costs time with ten thousand of them
    *("dataset", "model", "profile", "data", "outcome", "test_error", "parameters", "train_seconds", "hardware"),
    *("provenance", "dirty", "finished", "sequential", "forced", "local", "standing", *Protocol.model_fields),
]
Goals = Mapping[tuple[str, str], tuple[Paper, ReportedError]]
Run = dict[str, Any]  # _OF_A_RUN


def _facts(dataset: str, model: str, cards: Mapping[str, Card], goals: Goals) -> dict[str, Any]:
    """What is known of a row without any run."""
    card = cards.get(model)
    variant = card.datasets.get(dataset) if card else None
    paper, row = goals.get((dataset, model), (None, None))
    return {
        "dataset": dataset,
        "model": model,
        "label": card.title if card else model,
        "family": card.family if card else None,
        "augmentation": variant.augmentation if variant else None,
        "parameters": variant.parameters if variant else None,
        "macs": variant.macs if variant else None,
        "paper": paper.key if paper else card.paper if card else None,
        "reported": row.error if row else None,
        "printed": str(row.printed) if row else None,
        "where": row.where if row else None,
        "printed_label": row.label if row else None,
        "note": row.note if row else None,
    }


def _measured(runs: list[Run], facts: Mapping[str, Any], goal: ReportedError | None) -> dict[str, Any]:
    """What the runs of one row say, and the verdict."""
    counted = [run for run in runs if run["standing"] == "counted"]
    errors = tuple(run["test_error"] for run in counted if run["outcome"] == "finished")
    sequential = any(run["sequential"] for run in counted)
    row = summarise(errors)
    test_images = get_dataset(facts["dataset"]).test_size
    if goal is None:
        near, judged = None, verdict(errors, runs=len(counted), reported=None)
    else:
        near = tolerance(goal.error, test_images, goal.last_digit)
        judged = verdict(
            errors,
            runs=len(counted),
            reported=goal.error,
            last_digit=goal.last_digit,
            test_images=test_images,
            differences=_differences(goal, counted),
            unstated=unstated(goal.protocol),
            sequential=sequential,
        )
    return {
        "n": row.n,
        "runs": len(counted),
        "trained": row.n / len(counted) if counted else None,
        "mean": row.mean,
        "sd": row.sd,
        "gap": round(row.mean - goal.error, 9) if goal and row.mean is not None else None,
        "verdict": judged.word,
        "reason": judged.reason,
        "seeds_to_go": judged.to_go,
        "error": row.mean if row.mean is not None else facts["reported"],
        "errors": errors,
        "half_width": row.half_width,
        "prediction": row.prediction,
        "tolerance": near,
        "augmentation": facts["augmentation"] or (counted[-1]["augmentation"] if counted else None),
        "parameters": facts["parameters"] or (counted[-1]["parameters"] if counted else None),
        "train_minutes": sum(run["train_seconds"] for run in counted) / len(counted) / 60 if counted else None,
        "hardware": tuple(sorted({run["hardware"] for run in counted})),
        "local": any(run["local"] for run in counted),
        "outdated": len(runs) - len(counted),
        "sequential": sequential,
        "dirty": any(run["dirty"] is True for run in counted),
        "forced": any(run["forced"] for run in counted),
        "newest": max((run["finished"] for run in counted), default=None),
        "provenance": " ".join(sorted({run["provenance"] for run in counted if pd.notna(run["provenance"])})) or None,
    }


def _differences(goal: ReportedError, counted: list[Run]) -> list[str]:
    """In what any of the runs differs from the source's protocol."""
    fields = tuple(Protocol.model_fields)
    protocols = dict.fromkeys(tuple(run[name] for name in fields) for run in counted)
    found = [differences(goal.protocol, Protocol(**dict(zip(fields, values, strict=True)))) for values in protocols]
    return list(dict.fromkeys(clause for clauses in found for clause in clauses))


def _published(paper: Paper, row: ReportedError) -> dict[str, Any]:
    return {
        "dataset": row.dataset,
        "label": row.label,
        "printed_label": row.label,
        "augmentation": row.protocol.augmentation,
        "n": 0,
        "runs": 0,
        "reported": row.error,
        "printed": str(row.printed),
        "error": row.error,
        "errors": (),
        "paper": paper.key,
        "where": row.where,
        "note": row.note,
        "hardware": (),
        "local": False,
        "outdated": 0,
        "sequential": False,
        "dirty": False,
        "forced": False,
    }


def default_view(board: pd.DataFrame) -> pd.DataFrame:
    """One row a model and data set: that with the most seeds, ties to `reference`, then to verified data."""
    rank = board.assign(_fast=board["profile"] == "fast", _unverified=board["data"] == "unverified")
    rank = rank.sort_values(["n", "runs", "_fast", "_unverified"], ascending=[False, False, True, True], kind="stable")
    best = rank[rank["model"].notna()].drop_duplicates(["dataset", "model"]).index
    return board[board["model"].isna() | board.index.isin(best)].reset_index(drop=True)


# --- claims ---------------------------------------------------------------------------------------------------------


def make_claims(board: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """CLAIM_COLUMNS, one row a claim about models that are both on the board, run or not.

    Both sides are taken from the same profile and data status: that with the most seeds on its weaker side, ties to
    `reference`, then to verified data.
    """
    present = set(zip(board["dataset"], board["model"], strict=True))
    measured = board[board["profile"].notna()]
    sides = {(r.dataset, r.model, r.profile, r.data): (r.errors, r.runs) for r in measured.itertuples(index=False)}
    nothing: tuple[tuple[float, ...], int] = ((), 0)

    def both(claim: Claim, profile: str, data: str) -> list[tuple[tuple[float, ...], int]]:
        models = (claim.better, claim.worse)
        return [sides.get((claim.dataset, model, profile, data), nothing) for model in models]

    def seeds(pair: list[tuple[tuple[float, ...], int]]) -> tuple[int, int, int]:
        finished, ended = [len(errors) for errors, _ in pair], [runs for _, runs in pair]
        return min(finished), min(ended), sum(ended)

    rows = []
    for paper in papers.values():
        for claim in paper.claims:
            if not {(claim.dataset, claim.better), (claim.dataset, claim.worse)} <= present:
                continue
            choices = [(profile, data) for profile in PROFILES for data in DATA]
            profile, data = max(choices, key=lambda choice: seeds(both(claim, *choice)))
            better, worse = both(claim, profile, data)
            figures = [paper.figure(claim.dataset, model) for model in (claim.better, claim.worse)]
            reported = (figures[0].error, figures[1].error) if figures[0] and figures[1] else None
            judged = claim_verdict(
                better[0], worse[0], runs=(better[1], worse[1]), names=(claim.better, claim.worse), reported=reported
            )
            ran = judged.word != "not run"
            rows.append(
                {
                    "paper": paper.key,
                    **claim.model_dump(include={"id", "dataset", "text", "where", "better", "worse"}),
                    "profile": profile if ran else None,
                    "data": data if ran else None,
                    "n_better": len(better[0]),
                    "n_worse": len(worse[0]),
                    "difference": judged.difference.value if judged.difference else None,
                    "low": judged.difference.low if judged.difference else None,
                    "high": judged.difference.high if judged.difference else None,
                    "reported_difference": round(reported[1] - reported[0], 9) if reported else None,
                    "verdict": judged.word,
                    "reason": judged.reason,
                }
            )
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


# --- fast against reference --------------------------------------------------------------------------------------------


def make_equivalences(board: pd.DataFrame) -> pd.DataFrame:
    """EQUIVALENCE_COLUMNS, one row a model, data set and data status that ran under more than one profile.

    The margin is one tolerance of that board: that of the reported error, or of our own mean where nothing is reported.
    """
    measured = board[board["runs"] > 0]
    rows = []
    for (dataset, model, data), profiles in measured.groupby(["dataset", "model", "data"], sort=False):
        by_profile = {row.profile: row for row in profiles.itertuples(index=False)}
        first = by_profile.pop(PROFILES[0], None)
        for profile, second in by_profile.items():
            if first is None or not (first.n and second.n):
                continue
            margin = first.tolerance
            if pd.isna(margin):
                margin = tolerance(first.mean, get_dataset(dataset).test_size, 0)
            judged = equivalence(first.errors, second.errors, margin=margin, names=(PROFILES[0], profile))
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "label": first.label,
                    "profile": profile,
                    "data": data,
                    "margin": margin,
                    "difference": judged.difference.value if judged.difference else None,
                    "low": judged.difference.low if judged.difference else None,
                    "high": judged.difference.high if judged.difference else None,
                    "verdict": judged.word,
                    "reason": judged.reason,
                }
            )
    return pd.DataFrame(rows, columns=EQUIVALENCE_COLUMNS)


# --- others' attempts --------------------------------------------------------------------------------------------------


def make_attempts(papers: Mapping[str, Paper], attempts: Mapping[str, Iterable[Attempt]]) -> pd.DataFrame:
    """ATTEMPT_COLUMNS, one row an attempt by somebody else at a printed figure."""
    rows = []
    for key, tried in attempts.items():
        for attempt in tried:
            printed = papers[key].reported if key in papers else ()
            goals = [row for row in printed if (row.dataset, row.printed) == (attempt.dataset, attempt.reported)]
            goal = min(goals, key=lambda row: row.kind != "target", default=None)
            error = None if attempt.error is None else float(attempt.error)
            rows.append(
                {
                    "paper": key,
                    "dataset": attempt.dataset,
                    "model": goal.model if goal else None,
                    "label": goal.label if goal else None,
                    "reported": float(attempt.reported),
                    "who": attempt.who,
                    "error": error,
                    "printed": None if attempt.error is None else str(attempt.error),
                    "gap": None if error is None else round(error - float(attempt.reported), 9),
                    "remark": attempt.remark,
                }
            )
    return pd.DataFrame(rows, columns=ATTEMPT_COLUMNS)


# --- behind a row ---------------------------------------------------------------------------------------------------


def runs_of(evidence: Evidence, dataset: str, model: str) -> pd.DataFrame:
    """Every run of a model on a data set, counted or not, with its `standing`."""
    runs = evidence.runs
    return runs[(runs["dataset"] == dataset) & (runs["model"] == model)].reset_index(drop=True)


def curve_path(record: Path) -> Path:
    """The curve beside a record: curve.csv of a job's folder, <stem>.curve.csv among published ones."""
    return record.with_name("curve.csv") if record.name == "record.json" else record.with_suffix(".curve.csv")


def read_curve(path: Path) -> pd.DataFrame | None:
    """A curve with CURVE_COLUMNS, one row an epoch; None where there is none or it isn't one: `runner verify` says so."""
    try:
        curve = pd.read_csv(path, dtype=float)
        if tuple(curve.columns) != CURVE_COLUMNS or curve.empty:
            return None
        return curve.astype({"epoch": int})
    except (OSError, ValueError):  # pandas' parser errors are ValueErrors
        return None


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of these runs, one row an epoch: run, seed, profile, data, standing and CURVE_COLUMNS.

    A curve that is missing or isn't one is passed over.
    """
    named = ["run", "seed", "profile", "data", "standing"]
    found = []
    for row in runs.to_dict("records"):
        curve = read_curve(curve_path(Path(row["path"])))
        if curve is not None:
            found.append(curve.assign(**{name: row[name] for name in named}))
    columns = [*named, *CURVE_COLUMNS]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
