"""From a photo to aligned faces, in numpy: what the exporter and the server both need.

The networks themselves are run by the caller, who passes them in as functions.
"""
