"""``oneglance stylize``: pictures, folders of them and videos, repainted by a server."""
