"""``python -m oneglance_server.cli`` is ``oneglance``."""

import sys

from oneglance_server.cli.main import main

sys.exit(main())
