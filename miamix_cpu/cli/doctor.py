"""The `doctor` command: print the environment, one fact per line, and any problems."""

from __future__ import annotations

import warnings

from miamix_cpu import __version__
from miamix_cpu.environment import check_environment, describe_environment, problems_of


def run_doctor() -> int:
    """Print the report; return 1 if packages conflict, otherwise 0."""
    print(f"{'miamix_cpu':<23} {__version__}")
    for what, how in describe_environment():
        print(f"{what:<23} {how}", flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems = problems_of(check_environment())
    for problem in problems:
        print(f"problem: {problem}")
    if not problems:
        print("no problems found")
    return 1 if problems else 0
