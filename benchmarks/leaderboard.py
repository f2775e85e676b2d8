"""The read-model: what was measured set beside what was printed, as DataFrames. Site and report use no more.

evidence = read(results, runs)          every record, card and source, and what couldn't be read
board = make_board(evidence)            a row per (data set, model, profile, data status), and the published-only ones
default_view(board)                     a model's row with the most seeds
make_claims(board, evidence.papers)     what the papers assert, judged on the same rows
make_attempts(papers, attempts)         what others got when they tried for the same figures
make_equivalences(board)                whether `fast` gives the errors of `reference`
make_paper_table(board, paper, place)   a source's own table with our numbers beside its
make_choices(evidence.runs)             what was tried on held-out images, the best setting first
runs_of(...), curves(...)               the runs behind a row

The names stand here together for whoever uses them from Python; benchmarks/columns.py says what every column holds.
"""

from benchmarks.board import default_view, make_board
from benchmarks.cards import Card, CardAnatomy, CardVariant, models_of_suite, read_cards
from benchmarks.columns import (
    ATTEMPT_COLUMNS,
    BOARD_COLUMNS,
    CHOICE_COLUMNS,
    CLAIM_COLUMNS,
    DATA,
    EQUIVALENCE_COLUMNS,
    PAPER_TABLE_COLUMNS,
    PROFILES,
    RUN_COLUMNS,
)
from benchmarks.comparisons import make_attempts, make_claims, make_equivalences
from benchmarks.curves import curve_path, curves, read_curve, runs_of
from benchmarks.paper_tables import make_choices, make_paper_table, tables_of
from benchmarks.reading import Evidence, Known, Stamp, files_of, frame_of, read

__all__ = [
    "ATTEMPT_COLUMNS",
    "BOARD_COLUMNS",
    "CHOICE_COLUMNS",
    "CLAIM_COLUMNS",
    "DATA",
    "EQUIVALENCE_COLUMNS",
    "PAPER_TABLE_COLUMNS",
    "PROFILES",
    "RUN_COLUMNS",
    "Card",
    "CardAnatomy",
    "CardVariant",
    "Evidence",
    "Known",
    "Stamp",
    "curve_path",
    "curves",
    "default_view",
    "files_of",
    "frame_of",
    "make_attempts",
    "make_board",
    "make_choices",
    "make_claims",
    "make_equivalences",
    "make_paper_table",
    "models_of_suite",
    "read",
    "read_cards",
    "read_curve",
    "runs_of",
    "tables_of",
]
