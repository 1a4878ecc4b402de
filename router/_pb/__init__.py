"""Messages and stubs generated from ``proto/`` by ``tools/generate_stubs``, in a private pool."""
