"""Check ACCEPTANCE.md: every ticked line names tests that exist and are not skipped by a marker."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"- \[(?P<box>[ x])\] (?P<number>\d+)\. (?P<text>.*)")
_TEST = re.compile(r"`(?P<path>tests/[\w/]+\.py)::(?P<name>test_\w+)`")
FAULTS = range(1, 41)


def main() -> int:
    troubles: list[str] = []
    seen: set[int] = set()
    for line in (ROOT / "ACCEPTANCE.md").read_text().splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        number = int(match["number"])
        seen.add(number)
        tests = list(_TEST.finditer(match["text"]))
        if match["box"] == "x" and not tests:
            troubles.append(f"{number} is ticked but names no test")
        troubles += [
            f"{number}: {t}" for test in tests if (t := trouble(test["path"], test["name"]))
        ]
    troubles += [f"{number} is missing" for number in FAULTS if number not in seen]
    for text in troubles:
        print(f"ACCEPTANCE.md: {text}", file=sys.stderr)
    return bool(troubles)


def trouble(path: str, name: str) -> str:
    """Return what is wrong with a named test, or nothing."""
    file = ROOT / path
    if not file.exists():
        return f"{path} does not exist"
    module = ast.parse(file.read_text())
    functions = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if not functions:
        return f"{path}::{name} does not exist"
    marks = [ast.unparse(mark) for mark in functions[0].decorator_list]
    marks += [
        ast.unparse(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    if any("mark.skip(" in mark or "mark.xfail" in mark for mark in marks):
        return f"{path}::{name} is skipped"
    return ""


if __name__ == "__main__":
    sys.exit(main())
