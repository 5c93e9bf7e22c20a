"""``oneglance console``: a web page to identify and enroll, browse a gallery, judge and set its threshold, and stylize.

::

    process         starts the console as a child process of a server
    app             the web server: pages, and the pictures that they send
    page            one browser's page: the picker of galleries, and the tabs
    page_state      what the tabs share: the client, and the picked gallery
    look_tab        identify the faces of a photo, and enroll one
    people_tab      the subjects of the gallery
    threshold_tab   tau, its versions, and error rates on probes (probe_set, charts)
    stylize_tab     repaint a picture (style_cards)
    elements, wording   parts of a page, and its texts

All data comes from the server over ``oneglance.v1``. The console writes no file.
"""
