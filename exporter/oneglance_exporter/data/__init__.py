"""Labelled data: where it lies, how it is read, what it is like, and which data a run was begun with."""
