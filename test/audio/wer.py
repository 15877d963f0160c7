#!/usr/bin/python3
"""Word error rate: how far a transcript is from what was said.

    wer.py EXPECTED ACTUAL      prints a number: 0 is the same, 1 all wrong

Insertions, deletions and substitutions in the shortest edit that leads from
one to the other, divided by the words expected.  What two people would write
differently without hearing differently is made equal first: case,
punctuation, hyphens, and titles that are shortened.  Numbers are left alone.
"""

import re
import sys
import unicodedata

TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}


def words(text):
    """The words of a text, made comparable."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"['’]", "", text)
    return [TITLES.get(word, word) for word in re.findall(r"\w+", text)]


def word_error_rate(expected, actual):
    """The rate; with no words expected, the number of words heard."""
    expected, actual = words(expected), words(actual)
    # One row of the edit distance at a time.
    row = list(range(len(actual) + 1))
    for i, wanted in enumerate(expected, 1):
        above, row = row, [i]
        for j, heard in enumerate(actual, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1,
                           above[j - 1] + (wanted != heard)))
    return row[-1] / max(1, len(expected))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(round(word_error_rate(*sys.argv[1:]), 4))
