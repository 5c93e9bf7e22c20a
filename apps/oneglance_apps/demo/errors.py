"""Why the demo stops."""


class DemoError(Exception):
    """Wrong settings or pictures, or wrong answers of the server. The message is for people."""
