"""The tables that benchmarks print.

Each line compares ours with a peer in every round, takes the ratio within the
round, and prints medians beside the bound that is not to be exceeded.
"""

import statistics

verdicts = {"ok": 0, "MISSED": 0}


class Failed(Exception):
    """What was to be measured did not work."""


def heading(text, unit):
    """Begin a table."""
    print(f"\n{text}\n  {'':46}{'ours':>9}{'peer':>9}{'ratio':>8}"
          f"{'bound':>8}   {unit}", flush=True)


def row(name, ours, peers, bound):
    """A line of a table: two lists, of which those of a round belong
    together, and the ratio that is not to be exceeded."""
    ratio = statistics.median(our / peer for our, peer in zip(ours, peers))
    verdict = "ok" if ratio <= bound else "MISSED"
    verdicts[verdict] += 1
    print(f"  {name:46}{statistics.median(ours):9.3f}"
          f"{statistics.median(peers):9.3f}{ratio:8.3f}{bound:8.3f}"
          f"   {verdict}", flush=True)


def note(text):
    """A line that holds no bound."""
    print(f"  {text}", flush=True)


def conclude():
    """The last line."""
    print(f"\n{verdicts['ok']} ok, {verdicts['MISSED']} missed")
