"""How many replicas are wanted where: what runs and waits is looked at, and whoever scales told."""
