"""Derive the synchronous client from the asynchronous one: python scripts/unasync.py [PROTO_DIR].

The two differ only in a few words, so one is written by hand and the other is generated, as in httpcore.
"""

import re
import sys
from pathlib import Path

WORDS = [
    (r"async_client\.py|asynchronous client", "synchronous client"),
    (r"\basync def\b", "def"),
    (r"\basync for\b", "for"),
    (r"\basync with\b", "with"),
    (r"\bawait ", ""),
    (r"\bAsyncClient\b", "Client"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncIterable\b", "Iterable"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\b__aiter__\b", "__iter__"),
    (r"\b__anext__\b", "__next__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsyncLink\b", "Link"),
    (r"(?m)^    from .* import \w+AsyncStub\n", ""),
    (r"(?m)^if TYPE_CHECKING:\n\n", ""),
    (r"\bTYPE_CHECKING, ", ""),
    (r"AsyncStub\b", "Stub"),
    (r"\n    An Client may be made.*\n", ""),
    (r"\bgrpc\.aio\.", "grpc."),
    (r"\bimport asyncio\n", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
]
NOTE = "# Generated from async_client.py by scripts/unasync.py. Do not edit.\n"


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "proto") / "oneglance" / "client"
    source = Path("proto/oneglance/client/async_client.py").read_text()
    for pattern, word in WORDS:
        source = re.sub(pattern, word, source)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sync_client.py").write_text(NOTE + source)


if __name__ == "__main__":
    main()
