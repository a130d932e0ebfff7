"""Run the program that docs/training.md shows, as it stands there."""

import re
import sys
from pathlib import Path

from expected import VERSION, rows_of, tell

page = Path(__file__).resolve().parents[3] / "docs/training.md"
program = re.search(r"```python\n(import sys.*?)```", page.read_text(), re.DOTALL)
assert program, f"{page} shows no program"
script = VERSION.parent / "train.py"
script.write_text(program[1])
sys.path.insert(0, str(script.parent))

import train  # noqa: E402 (it is made above)

train.main(VERSION / "recordio/train")
tell(f"trained an epoch of {len(rows_of('recordio'))} images")
