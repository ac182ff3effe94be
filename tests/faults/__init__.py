"""Faults at every system call of a change, and what must hold after each: see docs/durability.md."""
