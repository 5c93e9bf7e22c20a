"""``oneglance console``: a web page to identify and enroll, keep galleries, set thresholds, watch, and stylize.

::

    process         starts the console as a child process of a server
    app             the web server: pages, and the pictures that they send
    page            one browser's page: the picker of galleries, and the tabs
    page_state      what the tabs share: the client, and the picked gallery
    look_tab        identify the faces of a photo, and enroll one
    enroll_tab      enroll many photos (enroll.js)
    people_tab      find, change and delete subjects (subject_listing, subject_dialog, subjects.js)
    threshold_tab   tau, its versions, and error rates on probes (probe_set, charts)
    watch_tab       what oneglance watch tells (watch_events)
    stylize_tab     repaint a picture (style_cards)
    words, wording  the words in each language (messages/), and texts made of them
    elements, dialogs, scale   parts of a page; where a distance is on its bar

All data comes from the server over ``oneglance.v1``. The console writes no file.
"""
