"""Endpoints of a Kubernetes Service or InferencePool, by watching its API server."""
