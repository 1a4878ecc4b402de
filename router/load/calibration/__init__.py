"""A profile fitted to what an endpoint's meter and its server count."""
