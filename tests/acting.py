"""Somebody acts: the audit trail tells of it, with names. In other tests nobody does."""

from collections.abc import Iterator
from contextlib import contextmanager

from oneglance_index import Actor, acting


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    token = acting.set(Actor(name, "ipv4:127.0.0.1:1"))
    try:
        yield
    finally:
        acting.reset(token)
