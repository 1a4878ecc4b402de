"""Work that can wait: what of it is released now, where to, and why the rest waits."""
