"""Every command and snippet of README.md and docs/ is run as its reader would, page by page and in order.

blocks.py finds them on a page, reader.py runs them in a folder of their own, pages.py says what else a page needs (what
its reader has, what runs in place of what), and which commands are not run, and why.
"""
