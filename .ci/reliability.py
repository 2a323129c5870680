#!/usr/bin/env python3
"""Compares docs/reliability.md with what the fault tests tried in this run, or writes their counts into it.

The tests append `promise<TAB>test<TAB>count` to the file named by ABLATE_TALLY. Each such pair has a row in the page:
`| promise | `test` | 1,234 |`; counts of the parts of one test are added up. A page that promises more than was tried fails.
"""
import argparse
import collections
import pathlib
import re
import sys

PAGE = pathlib.Path("docs/reliability.md")
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| `(?P<test>[^`|]+)` \| (?P<count>[\d,]+) \|$")


def tried(path):
    counts = collections.Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        promise, test, count = line.split("\t")
        counts[promise, test] += int(count)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tally", type=pathlib.Path, help="what ABLATE_TALLY named when the tests ran")
    parser.add_argument("--write", action="store_true", help="put this run's counts into the page")
    arguments = parser.parse_args()
    counts, seen, wrong, lines = tried(arguments.tally), set(), [], []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            pair = row["promise"], row["test"]
            claimed, found = int(row["count"].replace(",", "")), counts[pair]
            seen.add(pair)
            if arguments.write and found:
                line = f"| {pair[0]} | `{pair[1]}` | {found:,} |"
            elif found < claimed:
                wrong.append(f"the page says {claimed:,} for `{pair[1]}` ({pair[0]}), this run tried {found:,}")
        lines.append(line)
    wrong += [f"`{test}` ({promise}) tried {count:,} and has no row in the page"
              for (promise, test), count in sorted(counts.items()) if (promise, test) not in seen]
    if arguments.write:
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{PAGE}: {len(seen)} rows, {sum(counts.values()):,} faults tried in this run")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
