"""Frames as they are shown: pure functions from the read-model's frames to tables. No streamlit, nothing escaped yet."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pandas as pd
import words

from benchmarks.datasets import DATASETS, get_dataset
from benchmarks.leaderboard import PROFILES, Card, CardAnatomy, Evidence, default_view
from benchmarks.papers import Paper
from benchmarks.records import RunRecord, utc
from benchmarks.suites import SUITES
from benchmarks.wording import MARKS, PUBLISHED_ONLY, concerning, marks_of, ranks, trained_text, verdict_words

PLACE = ["dataset", "model", "profile", "data"]  # what makes a board row: nothing is pooled across it
RIVALS = ("of these papers", "of all sources", "none")  # which figures without a model of ours stand in the ranking
STANDING = {
    "counted": "counted",
    "outdated": "not counted: another revision or recipe",
    "overridden": "not counted: overridden recipe",
    "validation": "not counted: error on held-out training images",
    "duplicate": "not counted: weights equal to another record's",
}


def datasets_of(board: pd.DataFrame) -> list[str]:
    """The data sets that have a row, in their own order."""
    return [name for name in DATASETS if (board["dataset"] == name).any()]


def model_url(model: str, dataset: str) -> str:
    """The address of a model's page, relative to the site."""
    return "model?" + urlencode({"model": model, "dataset": dataset})


def run_url(run: str) -> str:
    """The address of a run's page, relative to the site."""
    return "run?" + urlencode({"run": run[:8]})


def marks(row: Any) -> list[str]:
    """In words, what isn't plain about a row's numbers."""
    return [MARKS[letter] for letter in marks_of(row)]


def trained(row: Any) -> str:
    """`4 of 5`: the seeds that trained; a dash where none has run."""
    return trained_text(row) or words.NONE


def authors_of(paper: Paper) -> str:
    """`Min Lin, Qiang Chen, Shuicheng Yan` of BibTeX's `Lin, Min` and so on."""
    return ", ".join(" ".join(reversed(name.split(", ", 1))) for name in paper.authors)


def sentence(text: str) -> str:
    """A verdict's reason as it stands alone: with a capital and a full stop."""
    return text[:1].upper() + text[1:] + "."


# --- the leaderboard ----------------------------------------------------------------------------------------------------


def ranked_view(
    board: pd.DataFrame, dataset: str, rivals: str = RIVALS[0], profiles: Collection[str] = ()
) -> pd.DataFrame:
    """One data set's rows with their `rank`, before any filter: so that a filter never changes a rank.

    A model's row with the most seeds, or with `profiles` every row under one of them and the models that haven't run.
    """
    rows = board[board["dataset"] == dataset]
    if profiles:
        rows = rows[rows["profile"].isin(profiles) | (rows["runs"] == 0)]
    else:
        rows = concerning(rows) if rivals == RIVALS[0] else default_view(rows)
    if rivals == RIVALS[2]:
        rows = rows[rows["model"].notna()]
    elif profiles and rivals == RIVALS[0]:
        behind = set(rows.loc[rows["model"].notna(), "paper"].dropna())
        rows = rows[rows["model"].notna() | rows["paper"].isin(behind)]
    return rows.assign(rank=ranks(rows)).reset_index(drop=True)


def summary(view: pd.DataFrame) -> str:
    """`9 of 24 models measured: 5 ✓ reproduced, 2 ▲ worse, 2 … more seeds`."""
    ours = view[view["model"].notna()]
    ran = ours[ours["runs"] > 0]
    verdicts = ", ".join(f"{count} {verdict_words(word)}" for word, count in ran["verdict"].value_counts().items())
    return f"{len(ran)} of {len(ours)} models measured" + (f": {verdicts}" if verdicts else "")


def options(view: pd.DataFrame) -> dict[str, list[str]]:
    """What each filter offers: the values that this data set's rows have."""
    verdicts = list(dict.fromkeys(view["verdict"].dropna()))
    published = [PUBLISHED_ONLY] if view["model"].isna().any() else []
    return {
        "family": sorted(set(view["family"].dropna())),
        "augmentation": sorted(set(view["augmentation"].dropna())),
        "verdict": [*verdicts, *published],
        "hardware": sorted({name for names in view["hardware"] for name in names}),
    }


def filtered(
    view: pd.DataFrame,
    family: Collection[str] = (),
    augmentation: Collection[str] = (),
    verdict: Collection[str] = (),
    hardware: Collection[str] = (),
    search: str = "",
) -> pd.DataFrame:
    """The rows that every filter admits; an empty filter admits all. `search` is found in label, model, paper or place."""
    keep = pd.Series(True, index=view.index)
    if family:
        keep &= view["family"].isin(family)
    if augmentation:
        keep &= view["augmentation"].isin(augmentation)
    if verdict:
        keep &= view["verdict"].where(view["model"].notna(), PUBLISHED_ONLY).isin(verdict)
    if hardware:
        keep &= pd.Series(
            [bool(set(names) & set(hardware)) for names in view["hardware"]], index=view.index, dtype=bool
        )
    for word in search.casefold().split():
        text = view["label"].fillna("").astype(str)
        for name in ("model", "paper", "where"):
            text = text + " " + view[name].fillna("").astype(str)
        keep &= text.str.casefold().str.contains(word, regex=False)
    return view[keep].reset_index(drop=True)


BOARD_CELLS = [
    *("#", "Page", "Measured", "±", "Reported", "Gap", "Verdict", "Curve", "Trained", "Marks", "Model"),
    *("Parameters", "MACs", "Minutes a run", "Hardware", "Last run", "Source", "Why"),
]


def board_table(view: pd.DataFrame, papers: Mapping[str, Paper], curves: Sequence[Sequence[float]]) -> pd.DataFrame:
    """The leaderboard's cells, one row a row of the view. `Page` is a link that ends in # and the label, for the eye."""
    rows = []
    for row, curve in zip(view.itertuples(index=False), curves, strict=True):
        ours = not pd.isna(row.model)
        source = papers.get(row.paper)
        page = model_url(row.model, row.dataset) if ours else source.url if source else None
        rows.append(
            {
                "#": row.rank,
                "Model": words.short(row.label, 80),
                "Verdict": verdict_words(row.verdict),
                "Measured": row.mean,
                "±": row.half_width,
                "Trained": trained(row) if row.runs else None,
                "Reported": row.reported,
                "Gap": row.gap,
                "Marks": [mark.partition(":")[0] for mark in marks(row)],
                "Page": f"{page}#{quote(words.short(row.label, 80))}" if page else None,
                "Curve": list(curve) or None,
                "Parameters": row.parameters,
                "MACs": row.macs,
                "Minutes a run": row.train_minutes,
                "Hardware": ", ".join(words.short(name, 60) for name in row.hardware) or None,
                "Last run": row.newest,
                "Source": f"{row.paper}, {row.where}" if not words.missing(row.where) else row.paper,
                "Why": words.short(row.reason) if ours and row.runs else None,
            }
        )
    table = pd.DataFrame(rows, columns=BOARD_CELLS)
    for name in ("#", "Measured", "±", "Reported", "Gap", "Parameters", "MACs", "Minutes a run"):
        table[name] = table[name].astype(float)
    table["Last run"] = _utc(table["Last run"])
    return table


def set_apart(table: pd.DataFrame) -> Any:
    """The board's cells with the figures that are published only on a grey ground: as pandas' Styler."""
    grey = "background-color: rgba(122, 127, 133, 0.14)"
    return table.style.apply(lambda row: [grey * (row["Verdict"] == PUBLISHED_ONLY)] * len(row), axis=1)


def _utc(moments: pd.Series) -> pd.Series:
    """Times in UTC without saying so: Streamlit would turn zoned ones to the reader's own zone."""
    return pd.to_datetime(moments, utc=True).dt.tz_localize(None)


def plain_board(table: pd.DataFrame) -> pd.DataFrame:
    """The same as text alone: for screen readers, for the export, for whoever would rather read than sort."""
    return pd.DataFrame(
        {
            "#": [words.count(v) if not pd.isna(v) else "" for v in table["#"]],
            "Model": table["Model"],
            "Measured %": [
                "" if pd.isna(m) else words.percent(m) + ("" if pd.isna(h) else f" ± {h:.2f}")
                for m, h in zip(table["Measured"], table["±"], strict=True)
            ],
            "Reported %": ["" if pd.isna(v) else words.percent(v) for v in table["Reported"]],
            "Gap": ["" if pd.isna(v) else words.percent(v, signed=True) for v in table["Gap"]],
            "Verdict": table["Verdict"],
            "Trained": table["Trained"].fillna(""),
            "Marks": [", ".join(names) for names in table["Marks"]],
            "Parameters": [words.compact(v) if not pd.isna(v) else "" for v in table["Parameters"]],
            "Minutes a run": ["" if pd.isna(v) else f"{v:.1f}" for v in table["Minutes a run"]],
            "Last run": ["" if pd.isna(v) else words.day(v) for v in table["Last run"]],
        }
    )


# --- a model ------------------------------------------------------------------------------------------------------------


def reported_table(papers: Mapping[str, Paper], dataset: str, model: str) -> pd.DataFrame:
    """Every figure that any source prints for a model on a data set."""
    rows = []
    for paper in papers.values():
        for row in paper.reported:
            if (row.dataset, row.model) != (dataset, model):
                continue
            protocol = row.protocol
            said = [
                f"augmentation: {protocol.augmentation or 'not stated'}",
                f"training images: {words.count(protocol.training_images) if protocol.training_images else 'not stated'}",
                f"{protocol.evaluation} set" if protocol.evaluation == "test" else "validation images",
                f"runs: {protocol.runs or 'not stated'}" + (f" ({protocol.statistic})" if protocol.statistic else ""),
                *([f"spread: ±{protocol.spread:g}"] if protocol.spread is not None else []),
                *([f"picked: {protocol.selection}"] if protocol.selection else []),
                f"epoch: {protocol.epoch or 'not stated'}",
            ]
            notes = [row.note, f"read in: {row.secondary}" if row.secondary else None]
            rows.append(
                {
                    "Error %": str(row.printed),
                    "As printed": row.label,
                    "Source": paper.title + ("" if paper.year == "unknown" else f" ({paper.year})"),
                    "Place": row.where,
                    "Kind": "judged: the source's own recipe" if row.kind == "target" else "context: shown, not judged",
                    "Protocol": "; ".join(said),
                    "Note": " ".join(note for note in notes if note),
                    "Link": paper.url,
                }
            )
    return pd.DataFrame(rows, columns=["Error %", "As printed", "Source", "Place", "Kind", "Protocol", "Note", "Link"])


def counted_first(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that count before those that don't, else in their order."""
    return runs.sort_values("standing", key=lambda s: s != "counted", kind="stable", ignore_index=True)


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Seed by seed: what each record says. Columns in which no run has anything are left out."""
    rows = []
    for run in runs.to_dict("records"):
        rows.append(
            {
                "Run": run_url(run["run"]),
                "Seed": run["seed"],
                "Error %": run["test_error"],
                "Outcome": run["outcome"],
                "Standing": STANDING[run["standing"]],
                "Profile": run["profile"],
                "Marks": run_marks(run),
                "Overrides": "" if run["overrides"] == "{}" else words.short(run["overrides"], 200),
                "Minutes": float(run["train_seconds"]) / 60,
                "Images/s": float(run["images_per_second"]),
                "Hardware": words.short(run["hardware"], 80),
                "Ended (UTC)": run["finished"],
                "By": "" if words.missing(run["submitted_by"]) else words.short(run["submitted_by"], 80),
            }
        )
    columns = "Run|Seed|Error %|Outcome|Standing|Profile|Marks|Overrides|Minutes|Images/s|Hardware|Ended (UTC)|By"
    table = pd.DataFrame(rows, columns=columns.split("|"))
    table["Ended (UTC)"] = _utc(table["Ended (UTC)"])
    return table.drop(columns=[name for name in ("Marks", "Overrides", "By") if not table[name].map(bool).any()])


def run_marks(run: Mapping[Any, Any]) -> list[str]:
    """In words, what isn't plain about one run's number."""
    given = {
        "local": run["local"],
        "unverified data": run["data"] == "unverified",
        f"profile {run['profile']}": run["profile"] != PROFILES[0],
        "overridden recipe": run["overrides"] != "{}",
        "added after a look": run["sequential"],
        "uncommitted changes": run["dirty"] is True or run["dirty"] == True,  # noqa: E712  # numpy's own True
        "no commit": words.missing(run["commit"]),
        "resumed elsewhere": run["forced"],
    }
    return [name for name, holds in given.items() if holds]


def anatomy_table(variant: CardAnatomy) -> pd.DataFrame:
    """Stage by stage: output, parameters, MACs, with the paper's own values beside where its table prints them."""
    rows = []
    has_paper = any(stage.get("paper") for stage in variant.stages)
    for stage in variant.stages or variant.layers:
        printed = stage.get("paper") or {}
        row = {
            "Stage": words.short(stage.get("name", ""), 60),
            "Kind": words.short(stage.get("kind", ""), 40),
            "Output": " × ".join(str(n) for n in stage.get("output", ())),
            "Parameters": words.count(stage.get("parameters")),
            "MACs": words.compact(stage.get("macs")),
        }
        if has_paper:
            differs = stage.get("differs") or ()
            row |= {
                "Paper: output": " × ".join(str(n) for n in printed.get("output", ())),
                "Paper: parameters": words.short(printed.get("parameters", ""), 40),
                "Paper: operations": words.short(printed.get("macs", ""), 40),
                "Differs": "≠ " + ", ".join(str(name) for name in differs) if differs else "",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def recipe_table(recipe: Mapping[str, Any]) -> pd.DataFrame:
    """Field by field."""
    return pd.DataFrame([{"Field": name, "Value": value_text(value)} for name, value in sorted(recipe.items())])


def value_text(value: Any) -> str:
    """A recipe's value in a cell."""
    if isinstance(value, (list, tuple)):
        return "; ".join(
            ", ".join(str(v) for v in item) if isinstance(item, (list, tuple)) else str(item) for item in value
        )
    return words.short(value, 300)


def reproduce_commands(dataset: str, model: str, card: Card | None, counted: pd.DataFrame) -> str:
    """What to type to train a model here, and to repeat one published record of those that count.

    A reader pastes it into a shell, so that of a card's suites only those that exist are named.
    """
    variant = card.datasets.get(dataset) if card else None
    suites = [
        name for name in (card.suites if card and variant else ()) if name == dataset or name.startswith(dataset + "-")
    ]
    fitting = sorted((s for s in SUITES.values() if dataset in s.datasets), key=lambda suite: not suite.every_model)
    suites = [*suites, *(card.suites if card else ()), *(suite.name for suite in fitting)]
    suites = [name for name in suites if name in SUITES]
    profile = (
        f" --profile {counted['profile'].iloc[0]}" if len(counted) and counted["profile"].iloc[0] != PROFILES[0] else ""
    )
    lines = [f"runner submit --suite {suites[0] if suites else 'SUITE'} --model {model}{profile}"]
    published = counted[~counted["local"].astype(bool)]
    if len(published):
        first = published.iloc[0]
        lines.append(f"runner reproduce {first['key']}-{first['run'][:8]}")
    return "\n".join(lines)


def attempts_table(attempts: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    """What others got when they tried for this model's figures."""
    rows = attempts[(attempts["dataset"] == dataset) & (attempts["model"] == model)]
    return pd.DataFrame(
        {
            "Who": rows["who"],
            "Error %": rows["printed"].fillna(words.NONE),
            "Tried for": rows["reported"].map(words.percent),
            "Gap": [words.percent(gap, signed=True) for gap in rows["gap"]],
            "Remark": rows["remark"].fillna(""),
            "Source of the figure": rows["paper"],
        }
    ).reset_index(drop=True)


# --- a run --------------------------------------------------------------------------------------------------------------


def find_runs(runs: pd.DataFrame, text: str) -> pd.DataFrame:
    """The runs that a run id or its beginning means, or a record's key."""
    text = text.strip()
    if not text:
        return runs.iloc[0:0]
    tail = text.rsplit("-", 1)[-1] if "/" in text else text
    return runs[runs["run"].str.startswith(tail) | (runs["key"] == text)] if len(runs) else runs


def how_measured(record: RunRecord) -> pd.DataFrame:
    """How this number was made, question by question."""
    protocol, environment, source, data = record.protocol, record.environment, record.source, record.data
    exact = "diverged: there is none"
    if record.wrong is not None:
        exact = f"{record.wrong:,} of {record.test_images:,} images wrong: {words.percent(record.test_error)} %"
    best = "–"
    if record.best_epoch is not None and record.best_test_error is not None:
        best = f"{words.percent(record.best_test_error)} % at epoch {record.best_epoch}: chosen on the test set, counts nowhere"
    answers = {
        "Error": exact,
        "Which epoch": f"the last of {record.job.effective_recipe.get('epochs', '?')}, as the protocol says",
        "Evaluated on": "the whole test set"
        if protocol.evaluation == "test"
        else f"{protocol.holdout:,} training images held out",
        "Best epoch (a diagnostic)": best,
        "Outcome": record.outcome + (f" in epoch {record.diverged_epoch}" if record.diverged_epoch else ""),
        "Final training loss": words.NONE if record.final_train_loss is None else f"{record.final_train_loss:.4g}",
        "Training images": f"{protocol.training_images:,}",
        "Augmentation": protocol.augmentation,
        "Data": "files have the official md5"
        if data.verified
        else f"UNVERIFIED: {data.provenance or 'no official md5'}",
        "Profile": record.job.profile,
        "Precision": ", ".join(f"{name} {value}" for name, value in sorted(environment.precision.items())),
        "Hardware": f"{environment.hardware} ({environment.device}, {environment.threads} threads)",
        "Software": ", ".join(
            f"{name} {value}"
            for name, value in (
                ("Python", environment.python),
                ("torch", environment.torch),
                ("CUDA", environment.cuda),
                ("cuDNN", environment.cudnn),
                ("driver", environment.driver),
            )
            if value
        )
        + f"; {environment.platform}",
        "Code": (source.commit or "no commit known") + (" with uncommitted changes" if source.dirty else ""),
        "Time": f"{words.duration(record.train_seconds)} of training, {record.images_per_second:,.0f} images/s"
        if record.images_per_second < 1e15
        else f"{words.duration(record.train_seconds)} of training",
        "Started, ended": f"{utc(record.started)}, {utc(record.finished)}",
        "Attempts": f"{record.attempts}" + (", one under another build or device" if record.forced_resume else ""),
        "Submitted by": record.submitted_by or words.NONE,
    }
    return _two_columns(answers)


def checklist(record: RunRecord, row: Mapping[str, Any] | None, card: Card | None) -> pd.DataFrame:
    """The questions of the usual reproducibility checklists (NeurIPS, ACL, ML Reproducibility Challenge), filled in."""
    variant = card.datasets.get(record.job.dataset) if card else None
    facts = DATASETS.get(record.job.dataset)
    n = int(row["n"]) if row else 0
    spread = "one run alone has none"
    if row and not words.missing(row["sd"]):
        spread = f"standard deviation {row['sd']:.2f} over seeds (n - 1); 95 % t-interval of the mean ± {row['half_width']:.2f}"
    departures = "; ".join(str(d.get("topic", "")) for d in variant.departures) if variant else ""
    answers = {
        "How many runs stand behind the row?": f"{n} finished of {int(row['runs'])} that ended"
        if row
        else "this run is on no board",
        "Which error bars?": spread,
        "What was random?": f"seed {record.job.seed}: initial weights, order, augmentation, dropout",
        "Data split": f"official split: {facts.train_size:,} training, {facts.test_size:,} test images"
        if facts
        else "unknown data set",
        "How were hyper-parameters chosen?": "as in the source; where it is silent, on held-out training images",
        "Departures from the source": departures or ("none declared" if variant else "no card of this model here"),
        "All hyper-parameters given?": f"yes: {len(record.job.effective_recipe)} fields, sha256 {record.recipe_sha256[:12]}",
        "Changed from the recipe": words.short(record.job.overrides, 200) if record.job.overrides else "nothing",
        "Compute": f"{words.duration(record.train_seconds)} on {record.environment.hardware}",
        "Model size": f"{words.count(record.parameters)} parameters"
        + (f", {words.compact(variant.macs)} multiply-accumulates an image" if variant and variant.macs else ""),
        "Code": record.source.commit or "no commit known",
        "Is the code exactly that commit?": {True: "no: uncommitted changes", False: "yes", None: "not known"}[
            record.source.dirty
        ],
        "Weights": f"sha256 {record.weights_sha256[:16]}…",
        "Learning curve": f"sha256 {record.curve_sha256[:16]}…",
        "To repeat it": f"runner reproduce {record.job.dataset}/{record.job.model}/{record.file_stem}",
    }
    return _two_columns(answers)


def _two_columns(answers: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"What": list(answers), "Answer": [words.short(text, 600) for text in answers.values()]})


# --- claims, cost, comparison -------------------------------------------------------------------------------------------


def claims_table(claims: pd.DataFrame, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """Each ordering that a source asserts, its difference beside ours."""
    rows = []
    for row in claims.itertuples(index=False):
        ours = words.NONE
        if not words.missing(row.difference):
            ours = f"{row.difference:+.2f}" + ("" if words.missing(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]")
        measured_on = (
            [] if row.profile in (None, PROFILES[0]) or words.missing(row.profile) else [f"profile {row.profile}"]
        )
        measured_on += ["unverified data"] if row.data == "unverified" else []
        rows.append(
            {
                "Verdict": verdict_words(row.verdict),
                "Claim": words.short(row.text),
                "Data set": get_dataset(row.dataset).title,
                "Better": row.better,
                "Worse": row.worse,
                "Paper's difference": words.percent(row.reported_difference, signed=True),
                "Ours, 90 % interval": ours,
                "Seeds": f"{row.n_better} and {row.n_worse}",
                "Marks": ", ".join(measured_on),
                "Place": f"{papers[row.paper].title}, {row.where}" if row.paper in papers else row.where,
                "Why": words.short(row.reason),
            }
        )
    columns = ["Verdict", "Claim", "Data set", "Better", "Worse", "Paper's difference", "Ours, 90 % interval"]
    return pd.DataFrame(rows, columns=[*columns, "Seeds", "Marks", "Place", "Why"])


COSTS = {  # what can stand on the axis, as the address says it: the board's column, and its name
    "parameters": ("parameters", "Parameters"),
    "MACs": ("macs", "Multiply-accumulates an image"),
    "minutes": ("train_minutes", "Minutes a run"),
}


def cost_view(board: pd.DataFrame, dataset: str, cost: str) -> pd.DataFrame:
    """The models with an error and a cost, cheapest first, with `frontier`: nothing cheaper has a smaller error.

    A model without runs stands with its reported error and is never on the frontier, which is of measured errors alone.
    """
    rows = default_view(board[board["dataset"] == dataset])
    rows = rows[rows["model"].notna() & rows["error"].notna() & rows[cost].notna() & (rows[cost].astype(float) > 0)]
    rows = rows.assign(**{cost: rows[cost].astype(float)}).sort_values([cost, "error"], ignore_index=True)
    best, frontier = float("inf"), []
    for row in rows.itertuples(index=False):
        measured = not pd.isna(row.mean)
        frontier.append(measured and row.mean < best)
        best = min(best, row.mean) if measured else best
    return rows.assign(frontier=pd.Series(frontier, dtype=bool))


def runs_behind(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that count for these board rows: of their profile and data, never others beside them."""
    wanted = set(zip(*(rows[name] for name in PLACE), strict=True))
    here = [place in wanted for place in zip(*(runs[name] for name in PLACE), strict=True)]
    return runs[pd.Series(here, index=runs.index, dtype=bool) & (runs["standing"] == "counted")]


def compare_table(evidence: Evidence, board: pd.DataFrame, dataset: str, models: Sequence[str]) -> pd.DataFrame:
    """Facts and recipes side by side, one column a model; `≠` marks the fields in which they differ."""
    view = default_view(board[board["dataset"] == dataset])
    rows = {row.model: row for row in view.itertuples(index=False) if not pd.isna(row.model)}
    facts: dict[str, dict[str, str]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for name in models:
        row, card = rows[name], evidence.cards.get(name)
        variant = card.datasets.get(dataset) if card else None
        recipes[name] = variant.recipe if variant else {}
        facts[name] = {
            "Verdict": verdict_words(row.verdict),
            "Measured %": words.percent(row.mean)
            + ("" if words.missing(row.half_width) else f" ± {row.half_width:.2f}"),
            "Trained": trained(row),
            "Reported %": words.percent(row.reported),
            "Gap": words.percent(row.gap, signed=True),
            "Marks": ", ".join(marks(row)) or words.NONE,
            "Family": words.NONE if words.missing(row.family) else words.short(row.family),
            "Augmentation": words.NONE if words.missing(row.augmentation) else words.short(row.augmentation),
            "Parameters": words.count(row.parameters),
            "MACs": words.compact(row.macs),
            "Minutes a run": words.NONE if words.missing(row.train_minutes) else f"{row.train_minutes:.1f}",
        }
    fields = list(dict.fromkeys(name for recipe in recipes.values() for name in sorted(recipe)))
    lines = [{"": "", "What": name, **{m: facts[m][name] for m in models}} for name in next(iter(facts.values()), {})]
    for name in fields:
        values = {m: value_text(recipes[m][name]) if name in recipes[m] else words.NONE for m in models}
        differ = len(set(values.values())) > 1
        lines.append({"": "≠" if differ else "", "What": f"recipe: {name}", **values})
    return pd.DataFrame(lines, columns=["", "What", *models])


def progress_table(jobs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The jobs of `runner status --json`, those that run first."""
    order = ("running", "failed", "killed", "interrupted", "pending", "done")
    rows = []
    for job in jobs:
        epoch, epochs = job.get("epoch"), job.get("epochs")
        known = isinstance(epoch, (int, float)) and isinstance(epochs, (int, float)) and epochs > 0
        rows.append(
            {
                "State": str(job.get("state", "")),
                "Job": words.short(job.get("key", ""), 200),
                "Progress": min(100.0, 100 * float(epoch) / float(epochs)) if known else 0.0,  # type: ignore[arg-type]
                "Epoch": f"{epoch} of {epochs}" if known else "",
                "Error %": job.get("test_error"),
                "Outcome": job.get("outcome") or "",
                "Attempts": job.get("attempts"),
            }
        )
    rows.sort(key=lambda row: (order.index(row["State"]) if row["State"] in order else len(order), row["Job"]))
    columns = ["State", "Progress", "Job", "Epoch", "Error %", "Outcome", "Attempts"]
    table = pd.DataFrame(rows, columns=columns)
    table["Error %"] = table["Error %"].astype(float)
    return table
