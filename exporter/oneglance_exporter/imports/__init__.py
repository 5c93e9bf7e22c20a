"""Import networks that others trained, as model folders."""
