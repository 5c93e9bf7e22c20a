"""Graphs that were loaded, and the checks that each must pass against its manifest.

``session`` is what all engines offer, ``checks`` needs no engine, ``onnx_runtime`` is the engine that both sides use.
"""
