"""The measuring program behind `./dev bench`. Python's standard library alone; Linux."""

import argparse
import signal
import sys
from pathlib import Path

from compare import POOL_SIZES, Plan, compare
from machine import BenchError

RESULTS = Path(__file__).resolve().parent / "results"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, for trying out: its figures say nothing")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 101), metavar="1..100")
    parser.add_argument("--seconds", type=int, default=4, choices=range(1, 61), metavar="1..60", help="of one turn")
    parser.add_argument("--rows", type=int, default=100_000, help="tasks in the table")
    return parser.parse_args()


def end_in_order(number, _frame):
    """A signal ends the program as an error would: what it started, it stops."""
    raise SystemExit(128 + number)


def main():
    arguments = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_in_order)
    RESULTS.mkdir(exist_ok=True)
    plan = Plan(arguments.rounds, arguments.seconds, arguments.rows, POOL_SIZES)
    if arguments.quick:
        plan = Plan(1, 1, arguments.rows, (8,))
    try:
        compare(plan, RESULTS)
    except BenchError as error:
        sys.exit(f"{error}\nThe bench ended without a result.")


if __name__ == "__main__":
    main()
