"""A gallery as files: taken out of a server, and brought into another one."""
