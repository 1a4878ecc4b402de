"""What endpoints say of their own load: Prometheus scrape, its poller, and ORCA reports."""
