"""Train the check that a chip shows an upright, aligned face."""
