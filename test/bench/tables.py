"""What benchmarks share: their command line, and the tables that they print.

Each line compares ours with a peer in every round, takes the ratio within the
round, and prints medians beside the bound that is to be kept.
"""

import argparse
import os
import statistics
import sys

verdicts = {"ok": 0, "MISSED": 0}


class Failed(Exception):
    """What was to be measured did not work."""


def number(value):
    """A column of a figure."""
    return f"{value:9.{0 if abs(value) >= 1000 else 3}f}"


def judge(value, bound, least):
    """The columns of a bound, and whether it is kept."""
    kept = value >= bound if least else value <= bound
    verdict = "ok" if kept else "MISSED"
    verdicts[verdict] += 1
    return f"{'>=' if least else '<=':>4}{number(bound)}   {verdict}"


def heading(text, unit):
    """Begin a table."""
    print(f"\n{text}\n  {'':42}{'ours':>9}{'peer':>9}{'ratio':>9}"
          f"{'bound':>13}   {unit}", flush=True)


def row(name, ours, peers, bound=None, least=False):
    """A line of a table: two lists, of which those of a round belong
    together, and the ratio that is not to be exceeded, or is to be reached;
    with none the line is there to be looked at."""
    ratio = statistics.median(our / peer for our, peer in zip(ours, peers))
    print(f"  {name:42}{number(statistics.median(ours))}"
          f"{number(statistics.median(peers))}{number(ratio)}"
          f"{'' if bound is None else judge(ratio, bound, least)}", flush=True)


def rows(ours, peers, bound, least=False):
    """A line for each peer; the bound is to be kept against the best, whose
    name is returned."""
    best = (max if least else min)(
        peers, key=lambda name: statistics.median(peers[name]))
    for name, theirs in peers.items():
        row(f"{name}, the best" if name == best else name, ours, theirs,
            bound if name == best else None, least)
    return best


def limit(name, values, bound, least=False):
    """A line of ours alone, and what is not to be exceeded or to be reached."""
    value = statistics.median(values)
    print(f"  {name:42}{number(value)}{'':18}{judge(value, bound, least)}",
          flush=True)


def note(text):
    """A line that holds no bound."""
    print(f"  {text}", flush=True)


def main(doc, places, parts, prepared):
    """Run a benchmark, as its command line says.

    Places are the names of the arguments that come first.  prepared() takes
    them, and is a context manager: what it yields goes to each part, and the
    number of rounds after that."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    for place in places:
        parser.add_argument(place)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=", ".join(parts))
    options = parser.parse_intermixed_args()
    unknown = set(options.parts) - set(parts)
    if options.rounds < 1 or unknown:
        parser.error(f"no such part: {', '.join(unknown)}" if unknown
                     else "at least one round is needed")
    try:
        with prepared(*(getattr(options, place) for place in places)) as given:
            print(f"medians of {options.rounds} rounds on {os.cpu_count()} "
                  "cores; the ratio is ours / peer")
            for name in options.parts or parts:
                parts[name](*given, options.rounds)
        print(f"\n{verdicts['ok']} ok, {verdicts['MISSED']} missed")
    except Failed as failed:
        sys.exit(f"this did not work: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)
