"""What the files of pictures are called; what they are, their bytes decide."""

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
"""Suffixes, in small letters, of what is taken for a picture when a folder is gone through."""
