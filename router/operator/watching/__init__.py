"""A running gateway, watched from a terminal: its console's feed, read and made lines of.

What comes is somebody else's word: bounded in size, checked in shape, and without a character that
a terminal would obey.
"""
