"""What an operator asks in a terminal: check, explain, grid, zones; `serve` without sockets."""
