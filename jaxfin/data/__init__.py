"""Panels: the contract, transforms, simulators and packaged sources."""
