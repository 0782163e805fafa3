"""The program behind `./dev bench`. It needs Python's standard library and Linux."""

import argparse
import signal
import sys
from pathlib import Path

from compare import POOL_SIZES, Plan, compare
from growth import growth
from machine import BenchError
from remote import remote
from small import small
from workloads import Data

RESULTS = Path(__file__).resolve().parent / "results"


def rows(text):
    """The number of tasks: enough that every asking user has some."""
    number = int(text)
    if not 10_000 <= number <= 10_000_000:
        raise argparse.ArgumentTypeError("must be from 10,000 to 10,000,000")
    return number - number % Data.STEP


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="compare",
        choices=("compare", "small", "growth", "remote"),
        help="compare: our server beside its contenders; small: size, memory and start; growth: cost as tables, lists and "
        "connections grow; remote: a database that is milliseconds away",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to try it out: the figures mean nothing")
    parser.add_argument("--rounds", type=int, default=9, choices=range(1, 101), metavar="1..100")
    parser.add_argument(
        "--seconds", type=int, default=2, choices=range(1, 61), metavar="1..60", help="length of one measurement"
    )
    parser.add_argument("--rows", type=rows, default=100_000, help="tasks in the table, for compare")
    parser.add_argument("--full", action="store_true", help="growth: up to ten million tasks, which takes long")
    return parser.parse_args()


def exit_on_signal(number, _frame):
    """A signal ends the program by an exception, so that it stops what it started."""
    raise SystemExit(128 + number)


def main():
    arguments = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_on_signal)
    RESULTS.mkdir(exist_ok=True)
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    try:
        match arguments.what:
            case "compare":
                sizes = POOL_SIZES[1:2] if arguments.quick else POOL_SIZES
                compare(Plan(rounds, seconds, Data(arguments.rows), sizes), RESULTS)
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
