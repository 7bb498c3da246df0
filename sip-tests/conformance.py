#!/usr/bin/env python3
"""Holds conformance.toml against what `cargo test` said.

Usage: conformance.py OUTPUT-OF-CARGO-TEST [conformance.toml]

Every test named must have run, in all its variants, and each must be ok. Prints how many entries are tested, deviate,
and are not built; exits 1 if a named test is missing or did not pass, or an entry says none of the three.
"""

import pathlib
import re
import sys
import tomllib

LINE = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)")


def outcomes(path: str) -> dict[str, set[str]]:
    """Test name -> how it ended, in every binary that has such a test."""
    found: dict[str, set[str]] = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if match := LINE.match(line):
                name = match[1].removeprefix("scenarios::")
                found.setdefault(name, set()).add(match[2])
    return found


def variants(name: str, found: dict[str, set[str]]) -> list[str]:
    """The test of this name and those below it."""
    return [test for test in found if test == name or test.startswith(name + "::")]


def check(table: dict, found: dict[str, set[str]]) -> tuple[dict[str, int], list[str]]:
    counts = {"tested": 0, "deviating": 0, "not built": 0}
    wrong = []
    for key, entry in table.items():
        tests = entry.get("test", [])
        for name in [tests] if isinstance(tests, str) else tests:
            ran = variants(name, found)
            if not ran:
                wrong.append(f"{key}: no test named {name} ran")
            wrong += [f"{key}: {test} {', '.join(sorted(found[test]))}" for test in ran if found[test] != {"ok"}]
        match entry:
            case {"deviation": str(reason)} if reason:
                counts["deviating"] += 1
            case {"test": tests} if tests:
                counts["tested"] += 1
            case {"built": False}:
                counts["not built"] += 1
            case _:
                wrong.append(f"{key}: neither test, deviation nor built = false")
    return counts, wrong


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    path = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).with_name("conformance.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    found = outcomes(sys.argv[1])
    wrong = []
    for name in ("behaviours", "requirements"):
        counts, of_table = check(tables[name], found)
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        wrong += of_table
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
