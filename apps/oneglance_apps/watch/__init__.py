"""``oneglance watch``: identify the faces in a camera's or a video's frames, and report one event per appearance.

::

    watcher         sends frames to the server and gives its answers to appearances
    frame_reader    reads frames in a thread
    appearances     joins the faces of many frames into appearances, and decides when to announce one
    track           one face followed over frames
    events          an event, as text and as JSON
    event_poster    posts events to a URL
"""
