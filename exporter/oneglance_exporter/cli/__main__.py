"""``python -m oneglance_exporter.cli`` is ``oneglance-exporter``."""

import sys

from oneglance_exporter.cli.main import main

sys.exit(main())
