"""``oneglance demo``: all features on a real server, reported on the terminal and on one HTML page.

The demo starts a server as a process, and is a client of it like any other.

::

    run             the steps, in order
    collection      who is enrolled, and the probes: drawings (drawn) or folder (the user's pictures); pictures
    timed_calls     enroll, identify, verify, with times; durability: kill -9; styles: stylize
    measure         error rates, computed from the answers
    results         everything that a run found
    step_printer    prints steps and progress; terminal_text: each result as text; rate_text: rates as text
    page            the HTML page: probe_cards, histogram, limitations
"""
