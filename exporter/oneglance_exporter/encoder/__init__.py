"""The encoder: its network, training and export, and its measurement and calibration on labelled pictures."""
