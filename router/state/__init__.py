"""What several gateways share: implementations of contract.StateStore."""
