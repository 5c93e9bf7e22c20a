"""HEIC and AVIF pictures: what their header says, and their pixels, which a process of its own decodes."""
