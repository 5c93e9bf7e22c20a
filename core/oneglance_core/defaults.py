"""Defaults and limits that more than one part tells. Plain numbers, so that the light commands can read them, too.

Those that the Python client needs stand in ``oneglance.defaults``: it imports nothing from here.
"""

from typing import Final

CONSOLE_ADDRESS = "127.0.0.1:8080"
CANDIDATES = 5  # length of a candidate list
MAX_CANDIDATES = 1000
FUSION: Final = "mean"  # the rule of fusion of a new gallery, of oneglance_core.fusion
VERIFY_FMR = 0.001  # share of wrong claims that Verify accepts where tau follows
COMPARE_SHARE = 0.01  # of live probes that both galleries of a move to another encoder are asked
TARGET_FPIR = 0.01  # share of strangers that a calibrated tau lets in
MAX_SEARCH_PIXELS = 16_000_000  # that a call may ask a photo to be searched at: more than 4K, 4:3
PICTURE_QUALITY = 90  # of stylized JPEG and WebP, 1 to 100
LEAST_STROKE_SIZE, MOST_STROKE_SIZE = 0.5, 4.0  # times the strokes of a stylizer
STEADINESS = 0.8  # share of what rests that a stylized frame keeps from the one before, [0, 1)
