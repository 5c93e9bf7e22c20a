"""What the demo can't go on with."""


class DemoError(Exception):
    """The demo can't run as asked, or the server did not do its part. The message is for people."""
