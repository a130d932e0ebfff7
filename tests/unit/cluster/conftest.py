"""The harness of ``scripts/cluster`` lies beside the scripts, and is no package of the library."""

import sys

from tests.conftest import ROOT

sys.path.append(str(ROOT / "scripts/lib"))
