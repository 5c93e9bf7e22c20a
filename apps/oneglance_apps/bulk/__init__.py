"""Enroll a folder of photos, photo by photo."""
