"""Settlement: intensities as they are known in the end, from files and providers, as prices."""
