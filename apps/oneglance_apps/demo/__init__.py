"""``oneglance demo``: the main job on a real server, told on the terminal and on one page of HTML.

The demo is a client like any other: it starts a server as a process of its own and speaks oneglance.v1 to it.
``run`` is the story, ``page`` its report; each of the other modules is one part of them.
"""
