"""`make results`: write the README's table of what is measured, from the published records alone."""

import re
from pathlib import Path

from benchmarks.leaderboard import make_board, read
from runner.reporting.markdown import measured_table

ROOT = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"(?<=<!-- make results -->\n).*(?=<!-- end -->)", re.DOTALL)

if __name__ == "__main__":
    readme = ROOT / "README.md"
    table = measured_table(make_board(read(ROOT / "results")))
    readme.write_text(PLACE.sub(lambda _: f"{table}\n", readme.read_text(encoding="utf-8")), encoding="utf-8")
