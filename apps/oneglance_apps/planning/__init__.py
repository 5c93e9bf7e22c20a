"""What a gallery of so many subjects takes of a machine, computed from what was measured."""
