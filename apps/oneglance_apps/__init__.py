"""The programs that people use. Each is a client of a server, over ``oneglance.v1``.

::

    cli                 the command line: parses, calls the rooms below, prints
    ├── console         a web page: identify, enroll, calibrate, stylize
    ├── watch           a camera or video to events, one per appearance
    ├── repaint         pictures, folders and videos in a style
    └── demo            a run through all features, reported on one HTML page
        ├── frames          frames of videos, cameras and folders         (watch, repaint)
        ├── landscape       a drawn picture to stylize                    (console, demo)
        ├── picture_formats names, suffixes and media types               (cli, console, repaint)
        ├── text            numbers and facts of answers as text          (all)
        ├── server_process  ``oneglance serve`` as a process              (demo)
        ├── signals         SIGTERM that cleans up                        (cli, demo)
        └── urls            URLs without secrets                          (frames, watch)

Imports point downwards only; console, watch, repaint and demo don't import each other. Only ``cli/serve.py`` imports
``oneglance_server``, to start it.
"""
