"""Write a count with its noun, the same in the verdicts' reasons, in the runner and on the site."""


def number(count: int, noun: str) -> str:
    """Return '1 job' or '1,200 jobs'."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
