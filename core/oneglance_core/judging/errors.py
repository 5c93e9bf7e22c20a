"""Why encodings can't be judged.

JudgingError
├── BadEncodings     no array file, arrays that don't go together, encodings that aren't finite
├── TooFewSubjects   one subject alone has no rivals
├── NoMates          nobody has two examples: one to enroll, and one to probe with
└── NotPaired        two encoders have too few examples in common
"""


class JudgingError(ValueError):
    """Any reason, in words for the user."""


class BadEncodings(JudgingError):
    """Raised for arrays that can't be used; the message names the file or the example."""


class TooFewSubjects(JudgingError):
    """Raised when there is one subject, or none."""


class NoMates(JudgingError):
    """Raised when no subject has two examples."""


class NotPaired(JudgingError):
    """Raised when two encoders have too few examples in common to be compared on."""
