"""The measuring program behind `./dev bench`. Python's standard library alone; Linux."""

import argparse
import signal
import sys
from pathlib import Path

from compare import POOL_SIZES, Plan, compare
from growth import growth
from machine import BenchError
from remote import remote
from small import small

RESULTS = Path(__file__).resolve().parent / "results"


def rows(text):
    """So many that every asking user has tasks."""
    number = int(text)
    if not 10_000 <= number <= 10_000_000:
        raise argparse.ArgumentTypeError("from 10,000 to 10,000,000")
    return number - number % 100


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="compare",
        choices=("compare", "small", "growth", "remote"),
        help="compare: beside its peers; small: size, memory and start; growth: cost as tables, lists and connections grow; "
        "remote: a database that is milliseconds away",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, for trying out: its figures say nothing")
    parser.add_argument("--rounds", type=int, default=9, choices=range(1, 101), metavar="1..100")
    parser.add_argument("--seconds", type=int, default=2, choices=range(1, 61), metavar="1..60", help="of one turn")
    parser.add_argument("--rows", type=rows, default=100_000, help="tasks in the table, for compare")
    parser.add_argument("--full", action="store_true", help="growth: up to ten million tasks, which takes long")
    return parser.parse_args()


def end_in_order(number, _frame):
    """A signal ends the program as an error would: what it started, it stops."""
    raise SystemExit(128 + number)


def main():
    arguments = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_in_order)
    RESULTS.mkdir(exist_ok=True)
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    try:
        match arguments.what:
            case "compare":
                sizes = POOL_SIZES[1:2] if arguments.quick else POOL_SIZES
                compare(Plan(rounds, seconds, arguments.rows, sizes), RESULTS)
            case "small":
                small(seconds, RESULTS)
            case "growth":
                growth(rounds, seconds, arguments.full, RESULTS)
            case "remote":
                remote(seconds, RESULTS)
    except BenchError as error:
        sys.exit(f"{error}\nThe bench ended without a result.")


if __name__ == "__main__":
    main()
