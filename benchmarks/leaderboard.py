"""The public Python interface to the results: DataFrames that compare measured with printed errors.

evidence = read(results, runs)          all records, cards and sources, and the problems of unreadable files
board = make_board(evidence)            one row per (data set, model, profile, data status), and published figures
default_view(board)                     for each model the row with the most seeds
make_claims(board, evidence.papers)     the papers' claims with their verdicts
make_attempts(papers, attempts)         errors that others reached when they tried to reproduce a figure
make_equivalences(board)                whether `fast` gives the errors of `reference`
make_paper_table(board, paper, place)   a source's own table with our numbers
make_choices(evidence.runs)             settings that were compared on held-out images, the best first
runs_of(...), curves(...)               the runs behind a row and their learning curves

benchmarks/columns.py explains every column. The site and `runner report` use this module too.
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
    ROW_KEY,
    RUN_COLUMNS,
)
from benchmarks.comparisons import make_attempts, make_claims, make_equivalences
from benchmarks.curves import curve_path, curves, read_curve, runs_of
from benchmarks.paper_tables import make_choices, make_paper_table, tables_of
from benchmarks.reading import Evidence, RowCache, Stamp, files_of, frame_of, read

__all__ = [
    "ATTEMPT_COLUMNS",
    "BOARD_COLUMNS",
    "CHOICE_COLUMNS",
    "CLAIM_COLUMNS",
    "DATA",
    "EQUIVALENCE_COLUMNS",
    "PAPER_TABLE_COLUMNS",
    "PROFILES",
    "ROW_KEY",
    "RUN_COLUMNS",
    "Card",
    "CardAnatomy",
    "CardVariant",
    "Evidence",
    "RowCache",
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
