"""``python -m oneglance_apps.cli`` is ``oneglance``."""

import sys

from oneglance_apps.cli.main import main

sys.exit(main())
