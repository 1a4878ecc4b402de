"""What people see in a terminal: tables from values, nothing computed."""
