"""Frames of video files, cameras, network streams and folders of pictures. Shared by watch and repaint."""
