"""The queue in Redis, or Valkey, of any number of gateways."""
