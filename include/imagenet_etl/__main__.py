"""``python -m imagenet_etl``."""

import sys

from imagenet_etl.cli import main

sys.exit(main())
