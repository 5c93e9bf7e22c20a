"""From the bytes of a photo to aligned faces, in numpy; used by the exporter and the server.

::

    crops       the whole way in one call: decode, find, choose which face is meant, align
    finder      find the faces of a photo in two searches, and the landmarks of each
    detection   one search: a pyramid of the photo, and the detector network over it
    uprightness the check that a found face is upright and aligned, and the search of turned photos
    turns       where points and boxes are in a turned photo
    chips       cut an aligned face out of a photo
    quality     figures that tell how good an aligned face is

The caller runs the networks, and passes them in as functions.
"""
