"""Frames of video files, cameras, network streams and folders of pictures. Shared by watch and repaint.

::

    sources         what a source is; the folder of pictures; which source a text names
    video           a video file, a camera or a network stream, read with PyAV
    source_error    why a source can't be read: a reason for programs, a message for people
    positions       the time of a file's frames; frame_clock: when a live source's frames were taken
    whole           whether a file ends where its container says; intact: whether its parts follow each other
    gaps            how many frames are missing in between
    pace            which frames are looked at, at so many a second
    frame           one frame, and its JPEG; moment: its number and time
"""
