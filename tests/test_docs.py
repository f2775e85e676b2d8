"""README, CONTRIBUTING and docs/: links and anchors lead somewhere, commands exist, pages agree with the code."""

import dataclasses
import importlib.util
import itertools
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import benchmarks.datasets
import benchmarks.suites
import zoo.recipe
from benchmarks.datasets import DATASETS
from benchmarks.labels import caveats_of
from benchmarks.leaderboard import make_board, make_claims, read
from benchmarks.papers import Claim, ReportedProtocol, load_papers
from benchmarks.suites import SUITES
from runner import cli
from runner.engines.config import Slurm, read_engines
from runner.jobs.paths import JobPaths
from runner.submit.plan import override, parse_overrides
from zoo import load_models
from zoo.recipe import PREPROCESSINGS, Moment, Recipe, Stage
from zoo.spec import INITIALISERS

HERE = Path(__file__).resolve().parent.parent
PAGES = [HERE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
PAGES += sorted((HERE / "docs").glob("*.md"))
WRITTEN = [page for page in PAGES if page.name != "CHANGELOG.md" and page.parent.name != "results"]
README_LINES = 100  # without what `make results` writes


def params(pages: list[Path]) -> list:
    return [pytest.param(page, id=page.relative_to(HERE).as_posix()) for page in pages]


def script(name: str) -> ModuleType:
    """A script of .ci/, as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: str) -> str:
    return (HERE / page).read_text(encoding="utf-8")


# --- links ---------------------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", without_code(page.read_text(encoding="utf-8")), flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(anchor == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None for anchor in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def links(page: Path) -> list[str]:
    """The targets of all links and pictures of a page, outside code blocks."""
    return re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8")))


def broken(page: Path) -> list[str]:
    problems = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            problems.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            problems.append(f"{link}: no such heading")
    return problems


@pytest.mark.parametrize("page", params(PAGES))
def test_every_relative_link_and_every_anchor_resolves(page: Path) -> None:
    assert not broken(page)


def test_a_broken_link_and_a_broken_anchor_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b` c, d!\n\n## Twice\n\n## Twice\n")
    good = "[x](other.md#a-b-c-d) [y](other.md#twice-1) [z](https://example.org/gone) [`w`](other.md)\n"
    (tmp_path / "page.md").write_text(
        good + "[a](gone.md)\n\n```\n[b](gone-too.md)\n```\n[c](other.md#gone) [d](#gone)\n"
    )
    assert broken(tmp_path / "page.md") == [
        "gone.md: no such file",
        "other.md#gone: no such heading",
        "#gone: no such heading",
    ]


def test_every_page_is_reached_from_the_readme_or_from_contributing() -> None:
    linked = {
        (HERE / link.partition("#")[0]).resolve()
        for page in ("README.md", "CONTRIBUTING.md")
        for link in links(HERE / page)
        if ":" not in link
    }
    assert set(PAGES) - {HERE / "README.md"} <= linked
    assert HERE / "CONTRIBUTING.md" in {(HERE / link).resolve() for link in links(HERE / "README.md")}


def test_the_readme_stays_short() -> None:
    text = re.sub(r"<!-- make results.*?<!-- end -->\n", "", text_of("README.md"), flags=re.DOTALL)
    assert len(text.splitlines()) <= README_LINES


# --- commands ------------------------------------------------------------------------------------------------------------

COMMANDS = dict(script("commands_page").commands())
GROUPS = {name.rpartition(" ")[0] for name in COMMANDS}


def command_lines(text: str) -> list[str]:
    """What the text says to type: lines of code blocks, and code within a sentence."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", without_code(text))]


def problems_of(line: str) -> list[str]:
    """What is wrong with a command line of the runner or of make; nothing for any other line."""
    if not line.startswith(("runner ", "make ")):
        return []
    words = shlex.split(line.removesuffix("\\"), comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), flags=re.MULTILINE)
        return [f"make {word}: no such target" for word in words[1:] if "=" not in word and word not in targets]
    if (
        not words
        or words[0] != "runner"
        or words in (["runner"], ["runner", "COMMAND", "--help"], ["runner", "--help"])
    ):
        return []
    name = " ".join(words[:3]) if " ".join(words[:2]) in GROUPS else " ".join(words[:2])
    if name not in COMMANDS:
        return [f"{name}: no such command"]
    options = {opt for option in COMMANDS[name].params for opt in option.opts} | {"--help"}
    problems = [f"{name} has no option {word}" for word in words if word.startswith("-") and word not in options]
    known = {"--suite": SUITES, "--dataset": {*DATASETS, "imagenet"}, "--model": load_models()}
    for option, value in itertools.pairwise(words):
        if option in known and not value.isupper() and value not in {*known[option], "cnn2", "..."}:
            problems.append(f"{option} {value}: no such thing")
    return problems


@pytest.mark.parametrize("page", params(WRITTEN))
def test_what_a_page_says_to_type_exists(page: Path) -> None:
    lines = command_lines(page.read_text(encoding="utf-8"))
    assert not [problem for line in lines for problem in problems_of(line)]


def test_what_does_not_exist_is_noticed() -> None:
    page = "Run `runner sumbit --suite mnist`.\n\n```\nrunner submit --siute mnist\nmake tset  # all\nls\n```\n"
    assert [problem for line in command_lines(page) for problem in problems_of(line)] == [
        "runner submit has no option --siute",
        "make tset: no such target",
        "runner sumbit: no such command",
    ]
    assert problems_of("runner data prepare --suite minst") == ["--suite minst: no such thing"]


def test_the_page_of_commands_is_written_from_the_help_texts() -> None:
    module = script("commands_page")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_commands_has_every_option_that_help_prints(name: str) -> None:
    printed = CliRunner().invoke(cli.app, [*name.split()[1:], "--help"]).output
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", printed, flags=re.MULTILINE)) - {"--help"}
    page = text_of("docs/commands.md")
    section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0].partition("<!-- end -->")[0]
    assert section
    listed = re.findall(r"`(--[a-z-]+)[ `]", "\n".join(line for line in section.splitlines() if line.startswith("- ")))
    assert {option for option in listed if option in options or f"- `{option}" in section} == options


def test_every_variable_that_the_code_reads_is_on_the_page_of_commands() -> None:
    sources = [path for folder in ("benchmarks", "runner", "zoo") for path in (HERE / folder).rglob("*.py")]
    reads = r'(?:environ|getenv)[.\[(]*(?:get\(|setdefault\()?"(REPROZOO_[A-Z_]+)"'
    used = {name for path in sources for name in re.findall(reads, path.read_text(encoding="utf-8"))}
    assert len(used) > 5
    assert used <= set(re.findall(r"REPROZOO_[A-Z_]+", text_of("docs/commands.md")))


# --- what pages say of the code ------------------------------------------------------------------------------------------


def test_the_readme_s_finding_is_of_the_published_records() -> None:
    assert text_of("README.md") == script("readme_table").readme(), "run: make results"


def test_the_finding_counts_rows_on_unverified_data_apart() -> None:
    evidence = read(HERE / "results")
    finding, board = script("readme_table").finding, make_board(evidence)
    claims = make_claims(board, evidence.papers)
    assert re.search(
        r"\*\* \(lecun1998, Fig\. 9\): printed difference \d\.\d\d, measured \d\.\d\d: ✓ holds\n",
        finding(board, claims),
    )
    one = (
        claims[claims["verdict"] == "holds"]
        .head(1)
        .assign(data="unverified", sequential=True, reported_difference=None)
    )
    assert re.search(
        r"Fig\. 9\): measured \d\.\d\d \(unverified data, seeds added after looking at the results\): ✓ holds\n",
        finding(board, one),
    )
    no_claims = claims.head(0)
    assert "none has a verdict yet" in finding(board[board["runs"] == 0], no_claims)
    judged = board[board["verdict"].isin(["reproduced", "better", "worse", "inconclusive"])]
    unverified = judged[(judged["data"] == "unverified") & judged["reported"].notna()].head(1)
    text = " ".join(finding(unverified, no_claims).split())
    row = next(unverified.itertuples(index=False))
    assert text.startswith(f"- **{row.label}**, ")
    assert f"({caveats_of(row)}) over {row.n} seeds: " in text
    assert "unverified data" in caveats_of(row)
    assert "Of 1 printed number with a network in this zoo, none has a verdict yet." in text
    assert "Counted separately, on unverified data: 1 " in text


def test_the_zoo_s_page_names_models_that_exist_with_the_numbers_that_sources_print() -> None:
    papers, models = load_papers(), load_models()
    rows = [row for paper in papers.values() for row in paper.reported]
    text = text_of("docs/zoo.md")
    tables = re.findall(r"^\| (.*`\w+`.*) \|$", text, flags=re.MULTILINE)
    named = {name for line in tables for name in re.findall(r"`(\w+)`", line)}
    assert named <= models.keys()
    assert {name for name, spec in models.items() if "classics" in spec.suites} <= named
    classics = text.partition("## Classics")[2].partition("\n## ")[0]
    for line in re.findall(r"^\| (`.*) \|$", classics, flags=re.MULTILINE):
        names, _, numbers, _ = line.split(" | ")
        mine = [row for row in rows if row.model in re.findall(r"\w+", names)]
        targets = {str(row.printed) for row in mine if row.kind == "target"}
        context = {str(row.printed) for row in mine if row.kind == "context"}
        assert set(re.findall(r"\d[\d.]*", re.sub(r"\([^)]*\)", "", numbers))) == targets, line
        assert set(re.findall(r"\((\d[\d.]*)\)", numbers)) <= context, line


def test_the_page_of_recipes_has_every_rule_and_every_field() -> None:
    text = text_of("docs/recipes.md")
    parts = [part for part in vars(zoo.recipe).values() if isinstance(part, type) and dataclasses.is_dataclass(part)]
    missing = [
        f"{part.__name__}.{field.name}"
        for part in parts
        if part not in (Moment, Stage)
        for field in dataclasses.fields(part)
        if part.__name__ not in text or (part is not Recipe and not re.search(rf"\b{field.name}\b", text))
    ]
    assert len(parts) > 12
    assert not missing
    assert {field.name for field in dataclasses.fields(Recipe)} <= set(re.findall(r"\w+", text))
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert {name: table.get(name) for name in PREPROCESSINGS} == PREPROCESSINGS
    assert [kind for kind in INITIALISERS if f"`{kind}`" not in text] == []


def test_the_overrides_on_the_page_of_recipes_change_the_recipe() -> None:
    recipe = load_models()["caffe_lenet"].variants["mnist"].recipe
    lines = [line for line in command_lines(text_of("docs/recipes.md")) if line.startswith("runner submit")]
    changed = [shlex.split(line) for line in lines]
    settings = [[words[i + 1] for i, word in enumerate(words) if word == "--set"] for words in changed]
    different = [override(recipe, parse_overrides(texts))[1] for texts in settings]
    assert different[0] == different[1] == {"optimizer.learning_rate": 0.05}
    assert different[2] == {"schedule": {"rule": "Steps", "after": [10, 15]}}
    assert different[3] == {"holdout": 10_000}


def test_the_recipe_that_the_page_begins_with_is_the_model_s() -> None:
    block = re.search(r"```python\n(Recipe.*?)```", text_of("docs/recipes.md"), flags=re.DOTALL)
    assert block is not None
    assert eval(block[1], vars(zoo.recipe)) == load_models()["caffe_lenet"].variants["mnist"].recipe


def test_the_engine_on_the_page_of_clusters_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```toml\n(.*?)```", text_of("docs/clusters.md"), flags=re.DOTALL)
    assert block is not None
    (tmp_path / "engines.toml").write_text(block[1])
    monkeypatch.setenv("REPROZOO_ENGINES", str(tmp_path / "engines.toml"))
    engine = read_engines()["gpu"]
    assert isinstance(engine, Slurm)
    assert (engine.partition, engine.slots_per_gpu) == ("gpu", 2)


def test_the_data_page_has_the_sizes_of_the_data_sets() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|", text_of("docs/data.md"), flags=re.MULTILINE)
    sizes = {name: (int(train.replace(",", "")), int(test.replace(",", ""))) for name, train, test in rows}
    assert sizes == {name: (facts.train_size, facts.test_size) for name, facts in DATASETS.items()}


def test_the_data_set_on_the_page_of_data_sets_is_torchvisions() -> None:
    from torchvision.datasets import FashionMNIST

    facts, suite, _ = re.findall(r"```python\n(.*?)```", text_of("docs/datasets.md"), flags=re.DOTALL)
    names = vars(benchmarks.datasets) | vars(benchmarks.suites)
    exec(facts, names)
    dataset = names["FASHION_MNIST"]
    assert [(file.name, file.md5) for file in dataset.files] == FashionMNIST.resources
    assert [file.path.rpartition("/")[0] for file in dataset.files] == ["FashionMNIST/raw"] * 4
    assert (list(dataset.mirrors), dataset.classes) == (FashionMNIST.mirrors, len(FashionMNIST.classes))
    assert eval(f"({suite})", names)[0].datasets == (dataset.name,)


def test_contributing_s_claim_can_be_read_and_its_fields_exist() -> None:
    text = text_of("CONTRIBUTING.md")
    block = next(b for b in re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL) if "[[claim]]" in b)
    [claim] = tomllib.loads(block)["claim"]
    assert Claim(**claim) in load_papers()["lin2013"].claims
    table = text.partition("| field of `protocol` |")[2].partition("\n\n")[0]
    fields = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    assert fields == ReportedProtocol.model_fields.keys()


FILES_OF_A_JOB = {
    path.name
    for path in (
        getattr(JobPaths(Path("a/b/c")), name) for name, part in vars(JobPaths).items() if isinstance(part, property)
    )
    if isinstance(path, Path)
}


def outdated(text: str) -> list[str]:
    """What docs/structure.md names that isn't there: modules of the runner, and files of a job."""
    folder, problems = "", []
    for line in text.splitlines():
        if match := re.match(r" ([a-z]+)/ ", line):
            folder = match[1]
        if match := re.match(r" (?:[a-z]+/)? +(\w+\.py) ", line):
            path = Path("runner") / folder / match[1]
            problems += [f"{path}: no such module"] * (not (HERE / path).exists())
        files = re.split(r" {2,}", line.partition("-->")[2].strip())
        problems += [
            f"{file}: no file of a job"
            for file in files
            if re.fullmatch(r"[\w.]+", file) and file not in FILES_OF_A_JOB
        ]
    for path in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", text):
        problems += [f"{path}: no such module"] * (not any((HERE / top / path).exists() for top in ("", "runner")))
    named = re.findall(r"`(\w+\.(?:jsonl?|pt|csv|txt))`", text)
    return problems + [f"{file}: no file of a job" for file in named if file not in FILES_OF_A_JOB]


def test_the_structure_page_names_modules_and_files_that_exist() -> None:
    text = text_of("docs/structure.md")
    assert outdated(text) == []
    assert {file for file in FILES_OF_A_JOB if not re.search(rf"(?<![\w.]){re.escape(file)}\b", text)} == set()


def test_an_outdated_line_of_the_structure_page_is_noticed() -> None:
    line = " worker/     attempt.py     takes the lock, trains         -->  lock  lease.json  log.txt       in this order\n"
    assert outdated(line) == []
    assert outdated(line.replace("attempt", "job_runner")) == ["runner/worker/job_runner.py: no such module"]
    assert outdated(line.replace("lease.json", "owner.json")) == ["owner.json: no file of a job"]
    assert outdated(line.replace("worker/ ", "workers/")) == ["runner/workers/attempt.py: no such module"]
    assert outdated("`jobs/folder.py` and `error.json`") == [
        "jobs/folder.py: no such module", "error.json: no file of a job",
    ]  # fmt: skip
