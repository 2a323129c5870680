#!/usr/bin/env python3
"""Compares docs/reliability.md with what the fault tests tried in this run, or writes their counts into it.

The tests append `promise<TAB>test<TAB>count` to the file named by ABLATE_TALLY. Every such test has a row in the page:
`| promise | what it proves, `test` | 1,234 what was tried |`; the first number of the last column is the count.
"""
import argparse
import collections
import pathlib
import re
import sys

PAGE = pathlib.Path("docs/reliability.md")
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<proof>[^|]+) \| (?P<count>[\d,]+)(?P<unit>[^|]*) \|$")
NAME = re.compile(r"`([^`]+)`")


def tried(path):
    """Counts by test; one that ran several times counts as its largest run."""
    counts = collections.defaultdict(int)
    for line in path.read_text(encoding="utf-8").splitlines():
        _promise, test, count = line.split("\t")
        counts[test] = max(counts[test], int(count))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tally", type=pathlib.Path, help="what ABLATE_TALLY named when the tests ran")
    parser.add_argument("--write", action="store_true", help="put this run's counts into the page")
    arguments = parser.parse_args()
    counts, seen, wrong, lines = tried(arguments.tally), set(), [], []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        name = NAME.search(row["proof"]) if row else None
        if name:
            test = name[1]
            claimed, found = int(row["count"].replace(",", "")), counts.get(test, 0)
            seen.add(test)
            if arguments.write and found:
                line = f"| {row['promise']} | {row['proof']} | {found:,}{row['unit']} |"
            elif found < claimed:
                wrong.append(f"the page says {claimed:,} for `{test}`, this run tried {found:,}")
        lines.append(line)
    wrong += [f"`{test}` tried {count:,} and has no row in the page" for test, count in counts.items() if test not in seen]
    if arguments.write:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{PAGE}: {len(seen)} rows, {sum(counts.values()):,} faults tried in this run")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
