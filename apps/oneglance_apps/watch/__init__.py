"""`oneglance watch`: from a camera or a video to one event per appearance, through the client."""
