"""What leaves this machine: files looked at, bundles for devices."""
