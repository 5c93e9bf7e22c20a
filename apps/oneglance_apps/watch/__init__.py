"""``oneglance watch``: identify the faces in the frames of cameras and videos, and report one event per appearance.

::

    session         several sources, the same outputs
    watcher         sends frames to the server and gives its answers to appearances
    frame_reader    reads frames in a thread
    window          how many frames may be under way; lateness: how late answers are
    camera_state    whether a camera gives frames
    appearances     joins the faces of many frames into appearances, and decides when to announce one
    track           one face followed over frames; events: what is announced
    recorder        makes a record of what happens; records: their schema; record_text: as text
    outbox          delivers records to an output in time, or not at all; webhook, command, mqtt: the outputs
    metrics         for Prometheus
"""
