"""The Python client: ``sync_client`` is generated from ``async_client`` by scripts/unasync.py."""
