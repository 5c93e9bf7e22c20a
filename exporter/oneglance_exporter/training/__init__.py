"""What all trainings share: the loop, the checkpoint, the log, the stop signals. ``driver`` is the place to begin."""
