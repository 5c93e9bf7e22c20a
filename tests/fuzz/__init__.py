"""Hostile messages for every RPC: ``python -m tests.fuzz --messages 200000 --seed 1``."""
