"""Deployment: inspection of files, and bundles for devices."""
