"""Train, export, calibrate and measure the encoders that oneglance serves.

Nothing is imported here: ``oneglance-exporter --help`` answers before torch is loaded.
"""
