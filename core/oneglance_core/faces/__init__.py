"""From a photo to aligned faces, in numpy; used by the exporter and the server.

::

    finder      the whole way: two searches, then the landmarks of each face
    detection   find faces with a detector network
    landmarks   find the landmarks of faces with a landmark network
    chips       cut an aligned face out of a photo
    quality     measure the quality of an aligned face

The caller runs the networks, and passes them in as functions.
"""
