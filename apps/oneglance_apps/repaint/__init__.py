"""``oneglance stylize``: a server repaints pictures, folders of pictures and videos in the style of paintings.

::

    style_choice    which style, and how: what all pictures of one run have in common
    picture         repaint one picture
    folder          repaint the pictures of a folder, several calls at a time
    video           repaint the frames of a video
    video_writer    write them as a video; parts_writer: so that it can go on where it was ended; h264: the encoder
    other_tracks    copy sound, subtitles, chapters and titles
    files           names and formats of outputs, and which files may be written
"""
